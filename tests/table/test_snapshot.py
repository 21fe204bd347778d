"""A search reads the table as it is at one moment, whatever is committed and freed meanwhile."""

import dataclasses
import shutil
from datetime import timedelta

import lancedb
import pytest
from lancedb.table import LanceTable

import dpr_lance
from dpr_lance import HashEncoder, TableError
from dpr_lance.table.contention import SupersededError
from dpr_lance.table.encoder import TableEncoder
from dpr_lance.table.store import Store


class BusyEncoder(HashEncoder):
    """Lets others work at the table while it encodes the first question."""

    def __init__(self):
        super().__init__(dimension=16)
        self.meanwhile = []
        self.asked = 0

    def encode_questions(self, questions):
        self.asked += 1
        if self.meanwhile:
            self.meanwhile.pop()()
        return super().encode_questions(questions)


@pytest.fixture
def encoder():
    return BusyEncoder()


@pytest.fixture(params=[0, 1 << 20], ids=["from the table", "in memory"])
def busy(tmp_path, encoder, request):
    """A retriever, while `other` writes to the same table."""
    with dpr_lance.connect(tmp_path / "t", encoder=encoder, resident_bytes=request.param) as retriever:
        retriever.add([{"id": f"{number}", "text": f"river number {number}"} for number in range(20)])
        yield retriever


@pytest.fixture
def other(tmp_path, busy):
    encoder = HashEncoder(dimension=16)
    with dpr_lance.connect(tmp_path / "t", encoder=encoder, keep_versions=timedelta(0)) as retriever:
        yield retriever


@pytest.mark.parametrize("mode", ["hybrid", "dense"])
def test_what_is_committed_meanwhile_is_found_by_the_next_search(busy, other, encoder, mode):
    encoder.meanwhile.append(lambda: other.add([{"id": "new", "text": "river"}]))
    assert "new" not in {hit.document_id for hit in busy.search("river", 30, mode=mode)}
    assert len(other) == 21
    assert "new" in {hit.document_id for hit in busy.search("river", 30, mode=mode)}


@pytest.mark.parametrize("mode", ["hybrid", "dense"])
def test_what_is_deleted_meanwhile_is_found_whole(busy, other, encoder, mode):
    before = busy.search("river", 30, mode=mode)
    encoder.meanwhile.append(lambda: other.delete([f"{number}" for number in range(10)]))
    assert list(busy.search("river", 30, mode=mode)) == list(before)
    assert len(busy.search("river", 30, mode=mode)) == 10


@pytest.mark.parametrize("mode", ["hybrid", "dense"])
def test_a_version_that_is_freed_meanwhile_is_searched_anew(busy, other, encoder, mode):
    def rewrite():
        other.add([{"id": f"{number}", "text": f"another river {number}"} for number in range(20)])
        other.optimize()

    busy.search("river", mode=mode)
    encoder.meanwhile.append(rewrite)
    asked = encoder.asked
    hits = busy.search("river", 30, mode=mode)
    assert {hit.text for hit in hits} == {f"another river {number}" for number in range(20)}
    assert encoder.asked == asked + 2


def test_a_version_that_is_freed_before_it_is_opened_is_passed_over(tmp_path, busy, other, monkeypatch):
    version = LanceTable.version
    freed = lancedb.connect(tmp_path / "t").open_table("passages").version
    other.add([{"id": "new", "text": "river"}])
    other.optimize()
    seen = [freed]

    def late(table):
        return seen.pop() if seen and table.name == "passages" else version.fget(table)

    monkeypatch.setattr(LanceTable, "version", property(late))
    assert "new" in {hit.document_id for hit in busy.search("river", 30)}
    assert not seen


@pytest.fixture
def store(tmp_path, busy):
    return Store(tmp_path / "t", "passages")


def test_vectors_of_another_encoder_than_the_search_has_read_are_not_compared(store):
    earlier = dataclasses.replace(store.card, encoder=HashEncoder(dimension=8).card)
    with pytest.raises(SupersededError, match="meanwhile"):
        TableEncoder(store, HashEncoder(dimension=16)).encode_questions(["river"], earlier)


def test_nothing_is_opened_again_while_nothing_changes(store, other):
    first = store.with_snapshot(lambda snapshot: snapshot)
    assert store.with_snapshot(lambda snapshot: snapshot) is first
    other.add([{"id": "new", "text": "river"}])
    assert store.with_snapshot(lambda snapshot: snapshot).version > first.version


def test_vectors_that_were_dropped_by_other_means_are_named(tmp_path, busy):
    lancedb.connect(tmp_path / "t").open_table("passages").drop_columns(["vector"])
    with pytest.raises(TableError, match="lost its column 'vector'"):
        busy.search("river")


def test_a_table_that_was_removed_is_named_at_once(tmp_path, busy):
    busy.search("river")
    shutil.rmtree(tmp_path / "t")
    for call in (lambda: busy.search("river"), busy.info, lambda: busy.add([{"text": "river"}]), lambda: len(busy)):
        with pytest.raises(TableError, match="was removed after it was opened here: connect again"):
            call()
