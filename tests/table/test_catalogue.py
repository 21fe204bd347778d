"""Listing and dropping tables: ours alone, with what lies next to them, and whole or not at all."""

import shutil

import lancedb
import pyarrow as pa
import pytest
from filelock import FileLock

import dpr_lance
from dpr_lance import HashEncoder, InvalidInputError, TableError
from dpr_lance.table.address import STATE_SUFFIX
from dpr_lance.table.catalogue import drop_folders


def made(folder, *names):
    for name in names:
        with dpr_lance.connect(folder, encoder=HashEncoder(16), table=name) as retriever:
            retriever.add([{"id": "a", "text": f"a river in {name}"}])


def test_the_tables_of_a_folder(tmp_path):
    assert dpr_lance.tables(tmp_path / "missing") == []
    assert not (tmp_path / "missing").exists()
    made(tmp_path / "t", "second", "first")
    lancedb.connect(tmp_path / "t").create_table("theirs", pa.table({"x": [1]}))
    assert dpr_lance.tables(tmp_path / "t") == dpr_lance.tables(f"file://{tmp_path / 't'}") == ["first", "second"]
    assert dpr_lance.tables("memory://") == []
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidInputError, match="that is a file; give a folder"):
        dpr_lance.tables(tmp_path / "file")


def test_dropping_removes_all_that_lies_next_to_a_table(tmp_path):
    made(tmp_path / "t", "first", "second")
    with dpr_lance.connect(tmp_path / "t", table="first") as retriever:
        retriever.snapshot("kept")
        retriever.optimize()
        dpr_lance.drop(tmp_path / "t", "first")
        with pytest.raises(TableError, match="was removed after it was opened here"):
            retriever.search("river", mode="bm25")
    left = [path.name for path in (tmp_path / "t").iterdir()]
    assert [name for name in left if "first" in name] == []
    assert dpr_lance.tables(tmp_path / "t") == ["second"]
    made(tmp_path / "t", "first")
    with dpr_lance.connect(tmp_path / "t", table="first") as again:
        assert (len(again), again.snapshots()) == (1, [])


def test_what_is_not_dropped(tmp_path):
    made(tmp_path / "t", "passages")
    lancedb.connect(tmp_path / "t").create_table("theirs", pa.table({"x": [1]}))
    with pytest.raises(TableError, match=r"'theirs' .* was not made by dpr_lance"):
        dpr_lance.drop(tmp_path / "t", "theirs")
    for folder, name in ((tmp_path / "t", "other"), (tmp_path / "missing", "passages")):
        with pytest.raises(TableError, match=rf"table '{name}' in .* does not exist: tables\(\) lists"):
            dpr_lance.drop(folder, name)
    for odd in ("", "a/b", f"passages{STATE_SUFFIX}", None):
        with pytest.raises(InvalidInputError, match="table="):
            dpr_lance.drop(tmp_path / "t", odd)
    assert dpr_lance.tables(tmp_path / "t") == ["passages"]
    assert lancedb.connect(tmp_path / "t").open_table("theirs").count_rows() == 1


def test_a_drop_that_was_interrupted(tmp_path):
    """What is left is dropped by the next call, or replaced by the next table; no table is half there."""
    folder = tmp_path / "t"
    made(folder, "passages")
    (folder / "passages.lance").rename(folder / ".passages.dropped-1")
    assert dpr_lance.tables(folder) == []
    dpr_lance.drop(folder)
    assert [path.name for path in folder.iterdir()] == []
    made(folder, "passages")
    (folder / "passages.lance").rename(folder / ".passages.dropped-1")
    made(folder, "passages")
    with dpr_lance.connect(folder) as retriever:
        assert len(retriever) == 1


def test_a_broken_table_of_ours_is_listed_and_can_be_dropped(tmp_path):
    made(tmp_path / "t", "passages")
    shutil.rmtree(tmp_path / "t" / "passages.lance" / "_versions")
    assert dpr_lance.tables(tmp_path / "t") == ["passages"]
    dpr_lance.drop(tmp_path / "t")
    assert dpr_lance.tables(tmp_path / "t") == []


def test_dropping_waits_for_maintenance(tmp_path):
    made(tmp_path / "t", "passages")
    lock = FileLock(tmp_path / "t" / ".passages.indexes.lock")
    with lock, pytest.raises(dpr_lance.LockedError, match="another process is at work"):
        drop_folders(tmp_path / "t", "passages", timeout=0.1)
    assert dpr_lance.tables(tmp_path / "t") == ["passages"]
