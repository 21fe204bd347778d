"""Snapshots: what they bring back, what clean-ups leave, and what a process that dies in between leaves behind."""

import dataclasses
from datetime import timedelta

import lancedb
import pytest
from filelock import FileLock

import dpr_lance
from dpr_lance import HashEncoder, InvalidInputError, LockedError, TableError
from dpr_lance.table.tuning import keep_calibration, training_of
from tests.indexes.clusters import SMALL, VectorsByNumber
from tests.tables import opened, random_documents, store_in

QUESTIONS = ["river bridge", "castle"]
MODES = ("hybrid", "dense", "bm25")


def answers(retriever):
    return [hits.hits for mode in MODES for hits in retriever.search(QUESTIONS, 20, mode=mode)]


def plain(folder):
    return lancedb.connect(folder).open_table("passages")


@pytest.fixture
def table(folder):
    with dpr_lance.connect(folder, encoder=HashEncoder(32), keep_versions=timedelta(0)) as retriever:
        retriever.add(random_documents(0, 40), splitter=None)
        yield retriever


def test_passages_and_calibration_come_back(table, folder):
    first = table.calibrate()
    keep_calibration(store_in(folder), dataclasses.replace(first, hybrid_weight=3.0, mode="dense"))
    before, calibration = answers(table), table.info().calibration
    taken = table.snapshot("before")
    assert (taken.name, taken.passages, taken.version) == ("before", 40, plain(folder).version)
    table.add(random_documents(1, 60), splitter=None)
    table.delete(["d003", "d004"])
    table.update("d005", {"year": 2001})
    keep_calibration(store_in(folder), first)
    table.optimize()
    after = answers(table)
    assert after != before
    table.snapshot("after")
    assert table.restore("before") == taken
    assert (answers(table), len(table), table.info().calibration) == (before, 40, calibration)
    assert table.check().ok
    table.restore("after")
    assert (answers(table), len(table), table.info().calibration) == (after, 58, first)
    assert [info.name for info in table.snapshots()] == ["before", "after"]
    assert table.snapshots()[0] == taken


def test_a_restored_table_is_written_to_and_followed_by_others(table, folder):
    table.snapshot("before")
    with dpr_lance.connect(folder, encoder=HashEncoder(32)) as other:
        other.add([{"id": "new", "text": "a canyon"}])
        assert other.search("canyon")[0].document_id == "new"
        table.restore("before")
        assert "new" not in other
        other.add([{"id": "newer", "text": "a canyon again"}])
        assert table.search("canyon", 1)[0].document_id == "newer"
        other.optimize()
        table.restore("before")
        assert answers(table) == answers(other)
        assert len(other) == 40


def test_the_training_of_the_vector_index_comes_back(tmp_path):
    with opened(tmp_path / "t", VectorsByNumber(), policy=SMALL, resident_bytes=0) as retriever:
        retriever.add([{"id": f"{number}", "text": str(number)} for number in range(1_200)], splitter=None)
        retriever.optimize()
        store = store_in(tmp_path / "t", policy=SMALL)
        trained, recall = training_of(store, store.card), retriever.info().recall
        assert trained is not None
        retriever.snapshot("trained")
        retriever.delete(where="true")
        retriever.optimize()
        assert training_of(store, store.card) is None
        retriever.restore("trained")
        assert training_of(store, store.card) == trained
        assert retriever.info().recall == recall
        effort = retriever.search("17", 5, mode="dense", explain=True).explanation.effort
        assert effort.partitions == trained.partitions


def test_the_encoder_comes_back(table, folder):
    before = answers(table)
    table.snapshot("before")
    table.reembed(HashEncoder(16))
    table.snapshot("after")
    table.restore("before")
    with dpr_lance.connect(folder, encoder=HashEncoder(32)) as again:
        assert answers(again) == before
        again.restore("after")
    with dpr_lance.connect(folder, encoder=HashEncoder(16)) as again:
        assert again.info().encoder.dimension == 16
        assert again.search("river", 1, mode="dense")


def test_clean_ups_leave_a_snapshot_until_it_is_deleted(table, folder):
    kept = table.snapshot("kept").version
    for start in range(3):
        table.add(random_documents(start + 1, 40), splitter=None)
        table.optimize()
    assert kept in [version["version"] for version in plain(folder).list_versions()]
    size = table.info().bytes_on_disk
    table.delete_snapshot("kept")
    table.optimize()
    assert kept not in [version["version"] for version in plain(folder).list_versions()]
    assert table.info().bytes_on_disk < size
    assert table.snapshots() == []
    with pytest.raises(InvalidInputError, match=r"name='kept': table 'passages' in .* has no snapshot of this name"):
        table.restore("kept")


@pytest.mark.parametrize("committed", [True, False])
def test_a_process_that_dies_while_it_restores(table, folder, committed):
    """The next write, or maintenance, completes what was begun; until then searches work."""
    first = table.calibrate()
    table.snapshot("before")
    later = dataclasses.replace(first, hybrid_weight=first.hybrid_weight + 1)
    keep_calibration(store_in(folder), later)
    table.add([{"id": "new", "text": "a canyon"}])
    store = store_in(folder)
    store.remembered.begin_restoring(store.table.version, {"calibration": dataclasses.asdict(first)})
    if committed:
        reader = plain(folder)
        reader.checkout("before")
        reader.restore()
    assert answers(table)
    table.add([{"id": "newer", "text": "another canyon"}])
    assert table.info().calibration.hybrid_weight == (first if committed else later).hybrid_weight
    assert ("new" in table, "newer" in table) == (not committed, True)
    assert not any(key.startswith("restoring") for key in store_in(folder).remembered.values())


def test_a_tag_of_another_program_is_a_snapshot(table, folder):
    before = answers(table)
    tags = plain(folder).tags
    tags.create("theirs", plain(folder).version)
    table.add(random_documents(1, 60), splitter=None)
    table.calibrate()
    assert [(info.name, info.created, info.passages) for info in table.snapshots()] == [("theirs", None, None)]
    table.restore("theirs")
    assert (answers(table), table.info().calibration) == (before, None)


def test_snapshots_outlive_the_small_table(table, folder):
    table.snapshot("kept")
    table.add(random_documents(1, 60), splitter=None)
    lancedb.connect(folder).drop_table("passages_dpr_lance")
    with dpr_lance.connect(folder, encoder=HashEncoder(32)) as again:
        with pytest.warns(UserWarning, match="is missing"):
            again.optimize(rebuild=True)
        again.restore("kept")
        assert len(again) == 40


def test_names(table):
    table.snapshot("v1.2_a-b")
    with pytest.raises(InvalidInputError, match=r"name='v1.2_a-b'.*has a snapshot of this name; choose another one"):
        table.snapshot("v1.2_a-b")
    for odd in ("", ".a", "a.", "a..b", "a/b", "ä", "a b", "a.lock", "a" * 101, "../x", None, 1):
        for call in (table.snapshot, table.restore, table.delete_snapshot):
            with pytest.raises(InvalidInputError, match="name"):
                call(odd)
    assert [info.name for info in table.snapshots()] == ["v1.2_a-b"]


def test_a_table_that_does_not_exist_yet(retriever):
    assert retriever.snapshots() == []
    for call in (retriever.snapshot, retriever.restore, retriever.delete_snapshot):
        with pytest.raises(TableError, match="does not exist yet"):
            call("a")


def test_while_a_table_is_re_embedded_nothing_is_restored(table, folder):
    table.snapshot("before")
    with FileLock(folder / ".passages.reembed.lock"), pytest.raises(LockedError, match="another process is at work"):
        table.restore("before")


def test_in_memory():
    with dpr_lance.connect("memory://", encoder=HashEncoder(16)) as retriever:
        retriever.add([{"id": "a", "text": "a river"}])
        retriever.snapshot("one")
        retriever.delete("a")
        retriever.restore("one")
        assert "a" in retriever
