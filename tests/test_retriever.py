"""The front door: opening and its refusals, get, delete, passages, info, optimize, and the packaged default encoder."""

import asyncio
import copy
import pickle
import shutil
import threading

import lancedb
import pyarrow as pa
import pytest
from lancedb.expr import col

import dpr_lance
from dpr_lance import EncoderError, HashEncoder, InvalidInputError, LockedError, TableError, load_encoder
from dpr_lance.encoders.loading import DEFAULT_ENCODER, PACKAGED
from dpr_lance.search.stopwatch import STAGES
from tests.tables import store_in

RIVERS = [{"id": str(number), "text": f"river number {number}"} for number in range(3)]


def test_the_first_lines_of_a_new_user(tmp_path):
    """The packaged encoder, offline, on a new folder; opened again it is found without being named."""
    with dpr_lance.connect(tmp_path / "new" / "wiki.lance") as retriever:
        retriever.add([{"title": "Alps", "text": "The Alps are a mountain range in Europe."}, {"text": "Rivers flow."}])
        assert retriever.search("where are the alps?", k=1)[0].title == "Alps"
    with dpr_lance.connect(tmp_path / "new" / "wiki.lance") as again:
        hits = again.search("highest peaks of the continent")
        assert (hits.mode, hits.fallback) == ("hybrid", None)
        assert hits[0].title == "Alps"
        assert again.info().encoder.name == DEFAULT_ENCODER


def test_opening_reads_no_model(tmp_path):
    """A bundle without its weights opens, and answers with BM25."""
    bundle = tmp_path / "bundle"
    shutil.copytree(PACKAGED / DEFAULT_ENCODER, bundle)
    with dpr_lance.connect(tmp_path / "t", encoder=bundle) as retriever:
        retriever.add([{"id": "a", "text": "a river in the Alps"}])
    (bundle / "encoder.onnx").unlink()
    with dpr_lance.connect(tmp_path / "t") as blind:
        assert blind.search("river", mode="bm25")[0].id == "a#0"
        hits = blind.search("river")
        assert hits.mode == "bm25"
        assert "encoder.onnx" in hits.fallback
        with pytest.raises(EncoderError, match=r"encoder\.onnx"):
            blind.search("river", mode="dense")
    shutil.rmtree(bundle)
    with dpr_lance.connect(tmp_path / "t") as blind:
        assert blind.search("river").mode == "bm25"


def test_a_damaged_bundle_is_named_and_the_table_stays(tmp_path):
    bundle = tmp_path / "bundle"
    shutil.copytree(PACKAGED / DEFAULT_ENCODER, bundle)
    with dpr_lance.connect(tmp_path / "t", encoder=bundle) as retriever:
        retriever.add([{"id": "a", "text": "a river in the Alps"}])
    weights = bytearray((bundle / "encoder.onnx").read_bytes())
    weights[len(weights) // 2] ^= 0xFF
    (bundle / "encoder.onnx").write_bytes(weights)
    with dpr_lance.connect(tmp_path / "t") as blind:
        with pytest.raises(EncoderError, match=r"encoder\.onnx"):
            blind.search("river", mode="dense")
        assert len(blind) == 1


def test_no_weights_at_all_for_a_new_table(tmp_path):
    with dpr_lance.connect(tmp_path / "t", encoder=tmp_path / "nowhere") as retriever:
        with pytest.raises(EncoderError, match="nowhere"):
            retriever.add([{"text": "x"}])
        assert len(retriever) == 0


@pytest.mark.parametrize("uri", ["memory://", "folder"])
def test_where_a_table_can_be(tmp_path, uri, encoder, documents):
    place = uri if "://" in uri else tmp_path / uri
    with dpr_lance.connect(place, encoder=encoder) as retriever:
        retriever.add(documents)
        retriever.optimize()
        assert retriever.search("gnu zip")[0].document_id == "gzip"
        assert (retriever.info().bytes_on_disk is None) == (uri == "memory://")


def test_a_relative_folder_and_a_home_folder(tmp_path, monkeypatch, encoder):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    dpr_lance.connect("db", encoder=encoder).add([{"text": "x"}])
    assert len(dpr_lance.connect("~/db")) == 1


def test_a_path_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidInputError, match=r"file.*that is a file; give a folder"):
        dpr_lance.connect(tmp_path / "file")


def test_a_folder_that_is_not_ours(tmp_path):
    (tmp_path / "thesis.docx").write_text("x")
    with pytest.raises(InvalidInputError, match=r"holds other things \('thesis.docx'.*give an empty or a new folder"):
        dpr_lance.connect(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.docx"]


def test_a_table_that_is_not_ours(tmp_path, encoder):
    lancedb.connect(tmp_path).create_table("passages", pa.table({"x": [1]}))
    with pytest.raises(TableError, match=r"table 'passages' in .* was not made by dpr_lance: choose another name"):
        dpr_lance.connect(tmp_path)
    with dpr_lance.connect(tmp_path, table="mine", encoder=encoder) as mine:
        mine.add([{"text": "x"}])
    assert lancedb.connect(tmp_path).open_table("passages").count_rows() == 1


def test_a_table_of_a_newer_format(tmp_path):
    schema = pa.schema([("id", pa.string())], metadata={"dpr_lance": '{"format": 99}'})
    lancedb.connect(tmp_path).create_table("passages", schema=schema)
    with pytest.raises(TableError, match="has format 99, this dpr_lance knows up to 2: upgrade"):
        dpr_lance.connect(tmp_path)


@pytest.mark.parametrize("uri", ["", None, 7])
def test_what_is_not_a_place(uri):
    with pytest.raises(InvalidInputError, match="give a folder"):
        dpr_lance.connect(uri)


@pytest.mark.parametrize("table", ["", "a b", "a/b", "passages_dpr_lance", None])
def test_what_is_not_a_table_name(tmp_path, table):
    with pytest.raises(InvalidInputError, match="table="):
        dpr_lance.connect(tmp_path, table=table)


def test_two_tables_in_one_folder(tmp_path, encoder):
    for name in ("one", "two"):
        dpr_lance.connect(tmp_path, table=name, encoder=encoder).add([{"id": name, "text": "x"}])
    assert [p.id for p in dpr_lance.connect(tmp_path, table="one").passages()] == ["one#0"]


def test_get_keeps_the_order_asked_for(retriever):
    retriever.add([{"id": "a", "text": " ".join("abcde" * 50)}, {"id": "b", "text": "x"}])
    assert [passage.id for passage in retriever.get(["b", "a", "nothing"])] == ["b#0", "a#0", "a#1", "a#2"]
    assert [passage.id for passage in retriever.get(["a#2", "a#0"])] == ["a#2", "a#0"]
    assert [passage.id for passage in retriever.get("a#1")] == ["a#1"]
    assert retriever.get([]) == []
    assert all(passage.embedded for passage in retriever.get("a"))


def test_an_id_that_names_a_document_and_a_passage_means_the_document(retriever):
    retriever.add([{"id": "a", "text": "one"}, {"id": "a#0", "text": "two"}])
    assert [passage.text for passage in retriever.get("a#0")] == ["two"]
    assert retriever.delete("a#0") == 1
    assert [passage.text for passage in retriever.get("a#0")] == ["one"]


def test_delete(retriever, documents):
    retriever.add([*documents, {"id": "long", "text": " ".join("abcde" * 50)}])
    assert retriever.delete("nothing") == 0
    assert retriever.delete(["alps", "long#1"]) == 2
    assert retriever.delete(where=col("year") > 2004) == 2
    assert retriever.delete(where="kind = 'module'") == 1
    assert [passage.id for passage in retriever.passages()] == ["long#0", "long#2"]
    assert retriever.delete([]) == 0
    for mode in ("hybrid", "dense", "bm25"):
        assert not [hit for hit in retriever.search("Alps river zip", mode=mode) if hit.document_id != "long"]


def test_delete_says_what_it_cannot_do(retriever, documents):
    retriever.add(documents)
    for arguments in ({}, {"ids": ["alps"], "where": "year > 1"}):
        with pytest.raises(InvalidInputError, match="either ids or where"):
            retriever.delete(**arguments)
    with pytest.raises(InvalidInputError, match="No field named nope"):
        retriever.delete(where="nope = 1")
    with pytest.raises(InvalidInputError, match=r"ids\[1\].*must be a string, it is float"):
        retriever.delete(["alps", 3.5])
    assert len(retriever) == 4


def test_a_table_that_does_not_exist_yet(retriever):
    assert len(retriever) == 0
    assert list(retriever.passages()) == []
    assert retriever.get("a") == []
    assert retriever.delete("a") == 0
    assert retriever.embed().passages_embedded == 0
    assert retriever.info().encoder is None
    with pytest.raises(TableError, match="does not exist yet: add documents first"):
        retriever.optimize()


def test_info(retriever, documents, encoder, folder):
    retriever.add(documents)
    retriever.add([{"id": "t", "text": "text alone"}], embed=False)
    info = retriever.info()
    assert (info.uri, info.table, info.documents, info.passages, info.embedded) == (str(folder), "passages", 5, 5, 4)
    assert info.encoder == encoder.card
    assert info.splitter == "words:100"
    assert info.metadata == {"year": "int64", "kind": "string"}
    assert [(index.column, index.unindexed_rows) for index in info.indexes] == [("content", 5)]
    assert info.recall is None
    assert info.bytes_on_disk > 1000
    report = retriever.optimize()
    assert [(index.column, index.indexed_rows, index.unindexed_rows) for index in report.indexes] == [("content", 5, 0)]
    assert retriever.info().indexes == report.indexes


def test_a_held_lock_is_reported(retriever, documents, folder, monkeypatch):
    monkeypatch.setattr("dpr_lance.indexes.maintenance.LOCK_TIMEOUT", 0.05)
    retriever.add(documents)
    with store_in(folder).lock(timeout=1), dpr_lance.connect(folder, encoder=HashEncoder(dimension=64)) as other:
        with pytest.raises(LockedError, match="another process is at work on this table"):
            other.optimize()
        assert len(other.search("river")) == 4
        assert other.add([{"id": "new", "text": "zephyr"}]).documents_added == 1
    assert retriever.optimize().indexes


def test_it_is_still_a_lancedb_table(retriever, documents, folder):
    retriever.add(documents)
    table = lancedb.connect(folder).open_table("passages")
    assert table.count_rows() == 4
    assert table.search().where("year = 2010").select(["title"]).to_list()[0]["title"] == "Rhine"


def test_names_in_messages(retriever, folder):
    assert repr(retriever) == f"<dpr_lance.Retriever table 'passages' in {folder}>"


def test_load_encoder_gives_the_packaged_one():
    assert load_encoder(DEFAULT_ENCODER).card.dimension == 384


def test_a_closed_retriever_refuses_every_call(retriever, documents):
    retriever.add(documents)
    retriever.warm()
    passages = retriever.passages()
    assert retriever.info().bytes_resident > 0
    retriever.close()
    retriever.close()
    refused = [
        lambda: retriever.search("river"),
        lambda: retriever.search(["river", "alps"], mode="dense"),
        lambda: retriever.search([]),
        lambda: asyncio.run(retriever.search_async("river", mode="bm25")),
        retriever.warm,
        retriever.calibrate,
        lambda: retriever.add([{"text": "late"}]),
        lambda: retriever.add([]),
        retriever.embed,
        lambda: retriever.reembed(HashEncoder(dimension=8)),
        lambda: retriever.delete("alps"),
        lambda: retriever.delete([]),
        lambda: retriever.get("alps"),
        lambda: retriever.get([]),
        lambda: retriever.context("alps#0"),
        lambda: len(retriever),
        retriever.passages,
        lambda: next(passages),
        retriever.documents,
        lambda: "alps" in retriever,
        lambda: asyncio.run(retriever.add_async([])),
        lambda: asyncio.run(retriever.delete_async("alps")),
        lambda: retriever.export("dump.jsonl"),
        lambda: retriever.snapshot("a"),
        retriever.snapshots,
        lambda: retriever.restore("a"),
        lambda: retriever.delete_snapshot("a"),
        retriever.optimize,
        retriever.info,
        retriever.__enter__,
    ]
    for call in refused:
        with pytest.raises(TableError, match="this retriever is closed, connect again"):
            call()
    assert retriever._searcher.memory.bytes_held == 0  # what `info`, which refuses now, would report
    assert "passages" in repr(retriever)


def test_closing_ends_the_searches_of_other_threads_with_a_clear_error(retriever):
    retriever.add([{"id": f"{number}", "text": f"river {number}"} for number in range(50)])
    retriever.warm()
    found: list[TableError] = []
    begun = threading.Barrier(4)

    def search():
        begun.wait()
        while True:
            try:
                retriever.search(["river", "bridge"])
            except TableError as error:
                found.append(error)
                return

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    begun.wait()
    retriever.search("river")
    retriever.close()
    for thread in threads:
        thread.join()
    assert ["closed" in str(error) for error in found] == [True] * 3


def test_a_retriever_cannot_be_pickled_and_says_what_to_do(retriever):
    with pytest.raises(TypeError, match=r"Retriever table 'passages'.*cannot be pickled.*call connect\(\) in each"):
        pickle.dumps(retriever)
    with pytest.raises(TypeError, match="cannot be pickled"):
        copy.deepcopy(retriever)


@pytest.mark.parametrize("mode", [None, "hybrid", "dense", "bm25"])
def test_every_answer_has_the_same_times(tmp_path, mode):
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(16)) as retriever:
        assert set(retriever.search("river", mode=mode).seconds) == set(STAGES)
        retriever.add(RIVERS)
        for hits in (
            retriever.search("river", mode=mode),
            *retriever.search(["river", "sea"], mode=mode, explain=True),
        ):
            assert set(hits.seconds) == set(STAGES)
            assert hits.seconds["total"] > 0
        retriever.delete(["0", "1", "2"])
        assert set(retriever.search("river", mode=mode).seconds) == set(STAGES)


def test_an_encoder_that_was_named_is_never_replaced_by_bm25(tmp_path):
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(16)) as retriever:
        retriever.add(RIVERS)
    with dpr_lance.connect(tmp_path / "t", encoder="no/such folder") as retriever:
        for attempt in (
            lambda: retriever.search("river"),
            lambda: retriever.search(["river"], mode="dense"),
            lambda: retriever.add([{"text": "a lake"}]),
            retriever.warm,
        ):
            with pytest.raises(EncoderError, match=r"'no/such folder' is neither packaged \(.*all-MiniLM-L6-v2"):
                attempt()
        assert len(retriever) == 3
    # The table's own encoder is an object that is gone: BM25 stands in for it, and says so.
    with dpr_lance.connect(tmp_path / "t") as retriever:
        assert "encoder object" in retriever.search("river").fallback


@pytest.mark.parametrize("mode", [None, "hybrid", "dense"])
def test_an_empty_table_lacks_no_vectors(tmp_path, mode):
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(16)) as retriever:
        retriever.add(RIVERS)
        retriever.delete(["0", "1", "2"])
        hits = retriever.search("river", mode=mode)
        assert (len(hits), hits.fallback) == (0, None)
        assert retriever.embed().not_embedded is None
        retriever.add(RIVERS, embed=False)
        if mode == "dense":
            with pytest.raises(EncoderError, match="no passage has a vector yet"):
                retriever.search("river", mode=mode)
        else:
            assert "no passage has a vector yet" in retriever.search("river", mode=mode).fallback
