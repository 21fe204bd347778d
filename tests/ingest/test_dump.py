"""Tables as files with vectors, and back: to the bit, without encoding, and only with vectors of the same encoder."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dpr_lance
from dpr_lance import EncoderMismatchError, HashEncoder, InvalidInputError, MarkdownSplitter, TableError
from dpr_lance.documents.field_types import UnstorableError, plain_type
from dpr_lance.ingest.dump_file import ENDINGS
from tests.documents.type_table import TYPES, array
from tests.documents.type_table import table as typed
from tests.tables import random_documents, store_in


class Silent(HashEncoder):
    """An encoder that must not be asked for passages."""

    def encode_passages(self, passages):
        raise AssertionError(f"{len(passages)} passages were encoded")


@pytest.fixture
def table(folder):
    with dpr_lance.connect(folder, encoder=HashEncoder(24)) as retriever:
        retriever.add([document | {"year": 2000 + at} for at, document in enumerate(random_documents(0, 30))])
        retriever.add([{"id": "long", "title": "Long — ünï", "text": 'word "quoted" \n ' * 300, "tags": ["a", "b"]}])
        retriever.add([{"id": "md", "text": "# A\n\nOne.\n\n# B\n\nTwo."}], splitter=MarkdownSplitter())
        retriever.add([{"id": "bare", "text": "no vector yet"}], embed=False)
        retriever.update("long#1", {"year": -1})
        yield retriever


def rows(folder):
    """All columns of all passages, by id, without the order of columns."""
    arrow = store_in(folder).table.to_arrow().sort_by("id")
    return arrow.select(sorted(arrow.column_names))


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_copy_is_the_same_to_the_bit_and_nothing_is_encoded(table, folder, tmp_path, ending):
    path = tmp_path / f"dump{ending}"
    assert table.export(path) == len(table)
    with dpr_lance.connect(tmp_path / "copy", encoder=Silent(24)) as copy:
        report = copy.add(path)
        assert (report.documents_added, report.passages_added, report.passages_embedded) == (33, len(table), 0)
        assert rows(tmp_path / "copy").equals(rows(folder))
        assert copy.info().splitter == table.info().splitter
        assert copy.add(str(path)).documents_unchanged == 33
        # The documents that were exported are known.
        long = {"id": "d000", **random_documents(0, 1)[0], "year": 2000}
        assert copy.add([long]).documents_unchanged == 1
        for mode in ("hybrid", "dense", "bm25"):
            assert copy.search("river bridge", 5, mode=mode).hits == table.search("river bridge", 5, mode=mode).hits
    assert [name.name for name in tmp_path.iterdir() if name.name.startswith(".")] == []


def can_be_stored(name):
    try:
        plain_type(array(name).type)
    except UnstorableError:
        return False
    return "." not in name


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_type_of_metadata_comes_back(tmp_path, ending):
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(8)) as retriever:
        report = retriever.add(typed([name for name in TYPES if can_be_stored(name)]), on_error="skip", embed=False)
        assert report.documents_added > 10 * report.documents_skipped
        retriever.export(tmp_path / f"dump{ending}")
    with dpr_lance.connect(tmp_path / "copy", encoder=Silent(8)) as copy:
        copy.add(tmp_path / f"dump{ending}")
        found, wanted = rows(tmp_path / "copy"), rows(tmp_path / "t")
        assert found.schema.types == wanted.schema.types
        for name in wanted.column_names:
            # As text: NaN does not equal itself.
            assert found[name].equals(wanted[name]) or str(found[name]) == str(wanted[name]), name


def test_the_file_says_which_encoder_made_its_vectors(table, tmp_path):
    table.export(tmp_path / "dump.jsonl")
    table.export(tmp_path / "dump.parquet")
    head = json.loads((tmp_path / "dump.jsonl").read_text().splitlines()[0])["dpr_lance_dump"]
    assert json.loads(pq.read_schema(tmp_path / "dump.parquet").metadata[b"dpr_lance_dump"]) == head
    card = table.info().encoder
    assert (head["encoder"], head["fingerprint"], head["passages"]) == (card.name, card.fingerprint, len(table))
    row = json.loads((tmp_path / "dump.jsonl").read_text().splitlines()[1])
    assert (row["id"], len(row["vector"]), row["metadata"]["year"]) == ("d000#0", 24, 2000)


def test_a_new_table_takes_the_encoder_of_the_file(tmp_path):
    """The packaged one, which is loaded by its name; it is not loaded for adding."""
    with dpr_lance.connect(tmp_path / "t") as retriever:
        retriever.add([{"id": "a", "text": "a river in the Alps"}])
        retriever.export(tmp_path / "dump.parquet")
        card = retriever.info().encoder
    with dpr_lance.connect(tmp_path / "copy") as copy:
        copy.add(tmp_path / "dump.parquet")
        assert copy.info().encoder == card
        assert copy.search("where are the alps?", mode="dense")[0].id == "a#0"


def test_vectors_of_another_encoder_are_refused(table, tmp_path):
    table.export(tmp_path / "dump.parquet")
    for encoder in (HashEncoder(12), None):
        with dpr_lance.connect(tmp_path / f"other{encoder}", encoder=HashEncoder(12)) as other:
            if encoder is None:
                other.add([{"id": "x", "text": "x"}])
            with pytest.raises(
                EncoderMismatchError, match=r"dump\.parquet holds vectors of encoder .*call reembed\(\)"
            ):
                other.add(tmp_path / "dump.parquet")
            assert len(other) == (encoder is None)


def test_into_a_table_with_other_documents_and_columns(table, tmp_path):
    table.export(tmp_path / "dump.jsonl")
    with dpr_lance.connect(tmp_path / "other", encoder=HashEncoder(24)) as other:
        other.add([{"id": "mine", "text": "mine", "year": 1.5, "kind": "x"}, {"id": "d001", "text": "changed"}])
        report = other.add(tmp_path / "dump.jsonl")
        assert (report.documents_added, report.documents_replaced) == (32, 1)
        assert other.get("d001")[0].text == table.get("d001")[0].text
        assert other.get("mine")[0].metadata["year"] == 1.5
        assert len(other) == len(table) + 1


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_dump_that_was_changed_is_named(table, tmp_path, ending):
    path = tmp_path / f"dump{ending}"
    table.export(path)
    if ending == ".jsonl":
        path.write_text(path.read_text().replace("no vector yet", "another text"))
        damaged, cut = path.read_text(), "\n".join(path.read_text().splitlines()[:9])
    else:
        found = pq.read_table(path)
        texts = ["changed"] * found.num_rows
        changed = found.set_column(found.column_names.index("text"), "text", pa.array(texts, pa.large_string()))
        pq.write_table(changed, path)
        damaged = cut = None
    with dpr_lance.connect(tmp_path / "copy", encoder=HashEncoder(24)) as copy:
        with pytest.raises(InvalidInputError, match=r"the passage '.*' is not as it was exported: its title or text"):
            copy.add(path)
        if cut is None:
            return
        path.write_text(cut)
        with pytest.raises(InvalidInputError, match=r"is cut off: it has 8 of \d+ passages"):
            copy.add(path)
        path.write_text(damaged.replace('"position": 0', '"position": "x"'))
        with pytest.raises(InvalidInputError, match=r"dump\.jsonl:2-\d+: these lines of the dump are damaged"):
            copy.add(path)
        path.write_text(damaged.replace('"format": 1', '"format": 2', 1))
        with pytest.raises(InvalidInputError, match="this dump has format 2"):
            copy.add(path)


def test_what_cannot_be_exported(table, tmp_path):
    path = tmp_path / "dump.parquet"
    path.write_text("mine")
    with pytest.raises(InvalidInputError, match="the file exists; pass overwrite=True"):
        table.export(path)
    for odd, why in ((tmp_path / "dump.csv", "ends in"), (tmp_path / "no" / "dump.jsonl", "a folder that exists")):
        with pytest.raises(InvalidInputError, match=why):
            table.export(odd)

    def fail(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        table.export(path, overwrite=True, progress=fail)
    assert path.read_text() == "mine"
    assert sorted(name.name for name in tmp_path.iterdir()) == ["dump.parquet", "table.lance"]
    table.export(path, overwrite=True)
    with pytest.raises(InvalidInputError, match="splitter="):
        table.add(path, splitter=None)
    with (
        dpr_lance.connect(tmp_path / "empty", encoder=HashEncoder(8)) as empty,
        pytest.raises(TableError, match="does not exist yet"),
    ):
        empty.export(tmp_path / "x.jsonl")


def test_a_path_of_documents_is_read_as_on_the_command_line(retriever, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": "a", "text": "a river"}\n{"id": "b", "text": ""}\n')
    assert retriever.add(tmp_path / "a.jsonl", on_error="skip").documents_skipped == 1
    pq.write_table(pa.table({"id": ["c"], "text": ["a lake"]}), tmp_path / "c.parquet")
    retriever.add(str(tmp_path / "c.parquet"))
    assert [document.id for document in retriever.documents()] == ["a", "c"]
    for odd in (tmp_path / "missing.jsonl", str(tmp_path / "missing.csv"), tmp_path):
        with pytest.raises(InvalidInputError, match=r"documents=.*there is no such file"):
            retriever.add(odd)
    with pytest.raises(InvalidInputError, match=r"write add\(\[document\]\)"):
        retriever.add("a text")
