"""A table that another takes the place of while a retriever is open: what is read and written is of the one there."""

import json
import shutil
from datetime import timedelta

import lancedb
import numpy as np
import pyarrow as pa
import pytest

import dpr_lance
from dpr_lance import EncoderMismatchError, HashEncoder, TableError
from dpr_lance.table.identity import IDENTITY_KEY
from dpr_lance.table.store import Store

TEXTS = ["river bridge", "castle comet", "engine oil", "forest lake"]


@pytest.fixture
def place(tmp_path):
    return tmp_path / "t"


def opened(place, dimension=16, **options):
    return dpr_lance.connect(place, encoder=HashEncoder(dimension), **options)


def filled(place, texts, dimension=16):
    """Make a table of these texts, one commit for all."""
    with opened(place, dimension) as retriever:
        retriever.add([{"id": f"{number}", "text": text} for number, text in enumerate(texts)])


@pytest.fixture(params=[0, 1 << 20], ids=["from the table", "in memory"])
def reader(place, request):
    """A retriever that has searched a table of `TEXTS`."""
    filled(place, TEXTS)
    with opened(place, resident_bytes=request.param) as retriever:
        for mode in ("dense", "hybrid", "bm25"):
            assert retriever.search("river bridge", 1, mode=mode)[0].text == "river bridge"
        yield retriever


def rebuilt(place, texts, dimension=16):
    shutil.rmtree(place)
    filled(place, texts, dimension)


def swapped(place, texts, dimension=16):
    """Build another table next to it, then put that in its place."""
    filled(place.with_name("new"), texts, dimension)
    place.rename(place.with_name("old"))
    place.with_name("new").rename(place)


def dropped(place, texts, dimension=16):
    """The passages are dropped with plain LanceDB, and the small table stays."""
    lancedb.connect(place).drop_table("passages")
    filled(place, texts, dimension)


def copied(place, texts, dimension=16):
    filled(place.with_name("new"), texts, dimension)
    for name in ("passages.lance", "passages_dpr_lance.lance"):
        shutil.rmtree(place / name)
        shutil.copytree(place.with_name("new") / name, place / name)


WAYS = [rebuilt, swapped, dropped, copied]


def assert_follows(reader, texts):
    """The reader finds these texts by every mode, with the scores of a retriever that is opened now."""
    with opened(reader.info().uri, resident_bytes=0) as fresh:
        for question in texts:
            for mode in ("dense", "hybrid", "bm25"):
                found, expected = reader.search(question, 4, mode=mode), fresh.search(question, 4, mode=mode)
                assert [hit.text for hit in found] == [hit.text for hit in expected]
                assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-5)
                assert found[0].text == question
    assert len(reader) == len(texts)
    assert {passage.text for passage in reader.passages()} == set(texts)


@pytest.mark.parametrize("way", WAYS)
def test_a_table_that_takes_the_place_is_followed(place, reader, way):
    other = [*TEXTS[::-1]]  # the same versions, rows and sizes
    way(place, other)
    assert_follows(reader, other)
    reader.add([{"id": "late", "text": "quiet harbour"}])
    assert_follows(reader, [*other, "quiet harbour"])


@pytest.mark.parametrize("way", WAYS)
def test_vectors_of_two_encoders_are_not_compared_nor_mixed(place, reader, way):
    way(place, TEXTS, dimension=32)
    hits = reader.search("river bridge", 2)
    assert (hits.mode, hits[0].text) == ("bm25", "river bridge")
    for refused in (
        lambda: reader.search("river bridge", mode="dense"),
        lambda: reader.add([{"id": "late", "text": "quiet harbour"}]),
        reader.embed,
    ):
        with pytest.raises(EncoderMismatchError, match="holds vectors of encoder"):
            refused()
    assert len(reader) == 4
    with opened(place, 32) as other:
        assert other.info().embedded == 4


def test_the_encoder_of_the_new_table_is_followed_where_none_was_named(place):
    def made(encoder):
        with dpr_lance.connect(place, encoder=encoder) as retriever:
            retriever.add([{"id": "alps", "text": "The Alps are mountains."}, {"id": "zip", "text": "A packed file."}])

    made("all-MiniLM-L6-v2")
    with dpr_lance.connect(place) as reader:
        assert reader.search("high peaks", 1, mode="dense")[0].document_id == "alps"
        shutil.rmtree(place)
        made(HashEncoder(16))
        assert "pass it again" in reader.search("mountains").fallback
        assert "pass it again" in reader.add([{"id": "new", "text": "A lake."}]).not_embedded
        shutil.rmtree(place)
        made("all-MiniLM-L6-v2")
        assert reader.search("high peaks", 1, mode="dense")[0].document_id == "alps"


def test_what_was_calibrated_for_the_table_before_is_forgotten(place):
    filled(place, TEXTS)
    store = Store(place, "passages")
    store.remembered.keep(calibration={"of": "the first"})
    dropped(place, TEXTS)
    assert "calibration" not in store.remembered.values()
    store.remembered.keep(index={"kind": "ivf_sq"})
    assert store.remembered.values()["index"] == {"kind": "ivf_sq"}
    assert "calibration" not in Store(place, "passages").remembered.values()


def test_what_is_left_of_a_removed_table_does_not_stand_in_the_way(place, reader):
    """A folder that was removed while others wrote to it may keep parts of the small table."""
    shutil.rmtree(place / "passages.lance")
    for path in (place / "passages_dpr_lance.lance" / "data").iterdir():
        path.unlink()
    filled(place, TEXTS[:2])
    assert_follows(reader, TEXTS[:2])


def test_the_small_table_is_followed_too(place):
    filled(place, TEXTS)
    store = Store(place, "passages")
    store.remembered.keep(index={"kind": "ivf_sq"})
    kept = place.with_name("kept")
    name = "passages_dpr_lance.lance"
    shutil.copytree(place / name, kept)
    small = lancedb.connect(place).open_table("passages_dpr_lance")
    versions, schema = small.version, small.schema
    shutil.rmtree(place / name)
    small = lancedb.connect(place).create_table("passages_dpr_lance", schema=schema)
    identity = store.schema().metadata[IDENTITY_KEY].decode()
    rows = [{"key": "table", "value": json.dumps({"id": identity})}, {"key": "index", "value": '{"kind": "ivf_pq"}'}]
    while small.version < versions:
        small.add(pa.Table.from_pylist(rows, schema=small.schema))
        rows = []
    assert small.version == versions
    assert store.remembered.values()["index"] == {"kind": "ivf_pq"}


def test_a_table_that_is_gone_is_named_until_it_is_back(place, reader):
    shutil.rmtree(place)
    for call in (lambda: reader.search("river"), lambda: reader.add([{"text": "river"}]), lambda: len(reader)):
        with pytest.raises(TableError, match="was removed after it was opened here"):
            call()
    assert not place.exists()
    filled(place, TEXTS[:2])
    assert_follows(reader, TEXTS[:2])


def test_a_backup_that_is_copied_back_is_followed(place, reader):
    """It has the name of the table that it is a copy of, and goes another way from there."""
    backup = place.with_name("backup")
    shutil.copytree(place, backup)
    reader.add([{"id": "late", "text": "quiet harbour"}])
    assert_follows(reader, [*TEXTS, "quiet harbour"])
    shutil.rmtree(place)
    shutil.copytree(backup, place)
    with opened(place) as other:
        other.add([{"id": "late", "text": "loud market"}])
        other.delete("0")
    assert_follows(reader, [*TEXTS[1:], "loud market"])


def test_a_restored_version_is_followed(place, reader):
    table = lancedb.connect(place).open_table("passages")
    before = table.version
    reader.add([{"id": "0", "text": "quiet harbour"}, {"id": "late", "text": "loud market"}])
    assert_follows(reader, ["quiet harbour", *TEXTS[1:], "loud market"])
    table.checkout(before)
    table.restore()
    assert_follows(reader, TEXTS)
    reader.add([{"id": "late", "text": "small village"}])
    assert_follows(reader, [*TEXTS, "small village"])


def test_nothing_is_opened_again_while_versions_are_freed(place, reader):
    store = Store(place, "passages")
    table = store.table
    with opened(place) as other:
        other.add([{"id": "late", "text": "quiet harbour"}])
        lancedb.connect(place).open_table("passages").optimize(cleanup_older_than=timedelta(milliseconds=1))
    assert_follows(reader, [*TEXTS, "quiet harbour"])
    assert store.table is table


def test_a_table_of_an_earlier_release_has_no_name_and_is_followed(place, monkeypatch):
    monkeypatch.setattr("dpr_lance.table.schema.new_identity", dict)
    filled(place, TEXTS)
    with opened(place) as reader:
        reader.warm()
        assert_follows(reader, TEXTS)
        assert IDENTITY_KEY not in Store(place, "passages").schema().metadata
        rebuilt(place, TEXTS[::-1])
        assert_follows(reader, TEXTS[::-1])
        reader.optimize()
        reader.add([{"id": "late", "text": "quiet harbour"}])
        assert_follows(reader, [*TEXTS[::-1], "quiet harbour"])


@pytest.mark.parametrize("way", [rebuilt, dropped])
def test_a_table_in_an_object_store_is_followed_by_its_name(place, way, monkeypatch):
    """An address that is not taken for a folder: nothing is known of its files."""
    filled(place, TEXTS)
    monkeypatch.setattr("dpr_lance.table.store.checked_address", lambda uri, *_: (str(uri), None))
    with opened(place) as reader:
        reader.warm()
        assert reader.search("castle comet", 1, mode="dense")[0].text == "castle comet"
        way(place, TEXTS[::-1])
        for text in TEXTS:
            found = reader.search(text, 4, mode="dense")
            with opened(place, resident_bytes=0) as fresh:
                expected = fresh.search(text, 4, mode="dense")
            assert [hit.text for hit in found] == [hit.text for hit in expected]
            assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-5)
        way(place, TEXTS, dimension=32)
        with pytest.raises(EncoderMismatchError):
            reader.search("castle comet", mode="dense")
        with pytest.raises(EncoderMismatchError):
            reader.add([{"id": "late", "text": "quiet harbour"}])


def test_a_folder_behind_a_link_is_followed(tmp_path):
    """A service that reads through a link which is set to each night's build."""
    filled(tmp_path / "monday", TEXTS)
    filled(tmp_path / "tuesday", TEXTS[::-1])
    link = tmp_path / "current"
    link.symlink_to(tmp_path / "monday", target_is_directory=True)
    with opened(link) as reader:
        reader.warm()
        assert_follows(reader, TEXTS)
        link.unlink()
        link.symlink_to(tmp_path / "tuesday", target_is_directory=True)
        assert_follows(reader, TEXTS[::-1])


def test_a_column_that_plain_lancedb_makes_again_is_read_again(place, reader):
    table = lancedb.connect(place).open_table("passages")
    ones = ", ".join(["1.0"] * 16)
    table.drop_columns(["vector"])
    table.add_columns({"vector": f"arrow_cast(make_array({ones}), 'FixedSizeList(16, Float32)')"})
    scores = [hit.score for hit in reader.search("river bridge", 4, mode="dense")]
    question = HashEncoder(16).encode_questions(["river bridge"])[0]
    assert scores == pytest.approx([float(np.sum(question))] * 4, abs=1e-5)


@pytest.mark.parametrize("steps", [1, 2])
def test_a_restore_across_re_embeddings_is_followed(place, steps):
    """The vectors are of the first or the second of three encoders again, and one call gives them another."""
    encoders = [HashEncoder(16), HashEncoder(32), HashEncoder(64)]
    table_versions = []
    with dpr_lance.connect(place, encoder=encoders[0]) as retriever:
        retriever.add([{"id": f"{number}", "text": text} for number, text in enumerate(TEXTS)])
        for encoder in encoders[1 : steps + 1]:
            table_versions.append(lancedb.connect(place).open_table("passages").version)
            retriever.reembed(encoder)
            retriever.warm()
        table = lancedb.connect(place).open_table("passages")
        table.checkout(table_versions[-1])
        table.restore()
        old = encoders[steps - 1]
        with dpr_lance.connect(place, encoder=old) as reader:
            reader.warm()
            assert reader.info().encoder == old.card
            assert reader.search("castle comet", 1, mode="dense")[0].text == "castle comet"
            reader.add([{"id": "late", "text": "quiet harbour"}])
            reader.optimize()
            assert reader.search("quiet harbour", 1, mode="dense")[0].text == "quiet harbour"
            assert reader.info().embedded == 5
        with pytest.raises(EncoderMismatchError, match="holds vectors of encoder"):
            retriever.search("castle comet", mode="dense")
        report = retriever.reembed(encoders[steps])
        assert report.passages_embedded == 5
        assert retriever.search("castle comet", 1, mode="dense")[0].text == "castle comet"
        info = retriever.info()
        assert (info.encoder, info.embedded) == (encoders[steps].card, 5)
