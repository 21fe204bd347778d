"""What a clean-up frees and what it keeps: versions for plain LanceDB readers, tagged ones, what is being written."""

import os
import threading
import time
import uuid
from datetime import timedelta

import lancedb
import pytest
from filelock import FileLock

import dpr_lance
from dpr_lance import HashEncoder, InvalidInputError
from dpr_lance.table import retention
from dpr_lance.table.retention import MOST_VERSIONS, age_to_free
from dpr_lance.table.store import Store

HOUR = timedelta(hours=1)
WEEK = 7 * 86_400
NOW = 1_800_000_000.0


def documents_of(start, stop):
    return [{"id": f"d{number:04}", "text": f"river number {number}"} for number in range(start, stop)]


def freed(written, tagged=(), keep=HOUR, most=MOST_VERSIONS):
    """The positions that LanceDB frees, as it decides: by the age of each version but the latest."""
    limit = NOW - age_to_free([NOW + at for at in written], set(tagged), keep, NOW, most=most).total_seconds()
    return [position for position, at in enumerate(written[:-1]) if NOW + at < limit]


def test_a_version_is_freed_some_time_after_it_was_replaced():
    assert freed([-9_000, -8_000, -7_000, -10]) == [0, 1]  # the third one was the latest until 10 s ago
    assert freed([-9_000, -8_000, -7_000]) == [0, 1]
    assert freed([-90_000, -10]) == []
    assert freed([-90_000]) == []
    assert freed([-30, -20, -10], keep=timedelta(0)) == [0, 1]


def test_clocks_that_are_wrong_free_nothing_early():
    assert freed([-9_000, -30, -8 * 86_400, -10]) == []  # written by a clock that is behind
    assert freed([-9_000, -8_000, 8 * 86_400, -10]) == [0]  # by one that is ahead


def test_a_tagged_version_stays_and_earlier_ones_go():
    assert freed([-9_000, -8_000, -7_000, -6_000], tagged=[1]) == [0]


def test_the_oldest_of_very_many_versions_go_before_their_time():
    assert freed([-3_000, -2_300, -1_600, -900, -200, -10], most=3) == [0, 1]


@pytest.fixture
def plain(tmp_path):
    """Opens the table as any program that uses LanceDB does."""
    return lambda: lancedb.connect(tmp_path / "t").open_table("passages")


def test_a_plain_reader_reads_its_version_whatever_is_written_meanwhile(tmp_path, plain):
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(16)) as retriever:
        retriever.add(documents_of(0, 60))
        reader = plain()
        before, vector = reader.to_arrow(), HashEncoder(16).encode_questions(["river"])[0]
        for start in range(60, 180, 20):
            retriever.add(documents_of(start, start + 20))
            retriever.add([{"id": f"d{start - 30:04}", "text": "a canyon"}])
            retriever.delete([f"d{number:04}" for number in range(start - 60, start - 50)])
            retriever.optimize()
            assert reader.to_arrow() == before
            assert reader.search(vector, vector_column_name="vector").limit(60).to_arrow().num_rows == 60
            assert reader.search("river", query_type="fts").limit(100).to_arrow().num_rows == 60
        assert len(retriever) == 120


def test_versions_are_kept_as_long_as_asked_for(tmp_path, plain):
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(16), keep_versions=timedelta(0)) as retriever:
        retriever.add(documents_of(0, 60))
        reader = plain()
        for start in range(60, 120, 20):
            retriever.add([{"id": f"d{number:04}", "text": "changed"} for number in range(start - 60, start)])
            retriever.optimize()
        assert len(plain().list_versions()) <= 4
        with pytest.raises(RuntimeError, match="Not found"):
            reader.to_arrow()
    for wrong in (3600, -HOUR, None):
        with pytest.raises(InvalidInputError, match=r"keep_versions=.*timedelta"):
            dpr_lance.connect(tmp_path / "t", keep_versions=wrong)


def test_a_tagged_version_is_read_after_clean_ups_that_free_others(tmp_path, plain, monkeypatch):
    monkeypatch.setattr(retention, "_MARGIN", 1.0)
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(16), keep_versions=timedelta(0)) as retriever:
        retriever.add(documents_of(0, 20))
        time.sleep(1.2)
        retriever.add(documents_of(20, 40))
        table = plain()
        table.tags.create("kept", table.version)
        older = min(version["version"] for version in table.list_versions())
        retriever.add(documents_of(40, 100))
        report = retriever.optimize()
        assert report.indexes[0].unindexed_rows == 0
        versions = {version["version"] for version in plain().list_versions()}
        assert table.tags.list()["kept"]["version"] in versions
        assert older not in versions
        table.checkout("kept")
        assert table.count_rows() == table.to_arrow().num_rows == 40
        assert len(retriever) == 100


def leftover(path, age):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"of a killed process")
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def test_what_killed_processes_have_left_is_freed_after_an_hour(tmp_path):
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(16)) as retriever:
        retriever.add(documents_of(0, 60))
        folder = tmp_path / "t" / "passages.lance"
        old = [
            leftover(folder / "data" / f"{'01' * 12}{'ab' * 13}.lance", 5_000),
            leftover(folder / "_indices" / str(uuid.uuid4()) / "part_0_docs.lance", 5_000),
        ]
        new = [
            leftover(folder / "data" / f"{'10' * 12}{'ab' * 13}.lance", 60),
            leftover(folder / "_indices" / str(uuid.uuid4()) / "part_0_docs.lance", 60),
        ]
        used = [path for path in folder.rglob("*.lance") if path not in old + new]
        for path in used:
            os.utime(path, (NOW - 10**9, NOW - 10**9))
        retriever.add(documents_of(60, 70))
        retriever.optimize()
        assert not any(path.exists() for path in old)
        assert all(path.exists() for path in new)
        assert all(path.stat().st_mtime == NOW - 10**9 for path in used if path.exists())
        assert len(retriever.search("river", 100, mode="bm25")) == 70


def test_a_clean_up_waits_for_what_is_being_written(tmp_path):
    """A file looks old that a writer whose clock is behind has not committed yet."""
    with (
        dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(16)) as retriever,
        dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(16)) as other,
    ):
        retriever.add(documents_of(0, 60))
        retriever.add(documents_of(60, 63))
        folder = tmp_path / "t" / "passages.lance"
        optimising = threading.Thread(target=other.optimize)

        def write(table):
            file = leftover(folder / "data" / f"{'01' * 12}{'cd' * 13}.lance", 2 * WEEK)
            optimising.start()
            optimising.join(1.0)
            assert optimising.is_alive()
            assert file.exists()
            return file

        file = Store(folder.parent, "passages").commit(write)
        optimising.join()
        assert not file.exists()


def test_the_small_table_is_cleaned_up_while_nobody_writes_to_it(tmp_path):
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(16)) as retriever:
        retriever.add(documents_of(0, 5))
        remembered = Store(tmp_path / "t", "passages").remembered
        for number in range(20):
            remembered.keep(probe={"number": number})
        compacting = threading.Thread(target=remembered.compact)
        folder = tmp_path / "t" / "passages_dpr_lance.lance"
        with FileLock(tmp_path / "t" / ".passages_dpr_lance.lock"):
            file = leftover(folder / "data" / f"{'01' * 12}{'cd' * 13}.lance", 2 * WEEK)
            compacting.start()
            compacting.join(0.5)
            assert file.exists()
        compacting.join()
        assert not file.exists()
        assert remembered.values()["probe"] == {"number": 19}
