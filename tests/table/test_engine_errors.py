"""A disk that is full, a folder that is read-only, files that may not be read: searching works, and errors are named.

The tests run as root, whom permissions do not bind: some mount a file system, some give up their rights.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import dpr_lance
from dpr_lance import HashEncoder, StorageError

READ = """
with dpr_lance.connect(path, encoder=HashEncoder(16)) as retriever:
    for mode in ("bm25", "dense", "hybrid"):
        assert retriever.search("river", 3, mode=mode)
    assert retriever.get("d1") and retriever.info().passages == 12 and list(retriever.passages())
    assert retriever.check().ok
"""
CHANGE = """
with dpr_lance.connect(path, encoder=HashEncoder(16)) as retriever:
    before = len(retriever)
    for call in (
        lambda: retriever.add([{"id": f"new{i}", "text": f"new {i} " * 200} for i in range(900)]),
        lambda: retriever.delete("d1") and retriever.optimize(),
        lambda: retriever.calibrate(["river"]),
        lambda: retriever.reembed(HashEncoder(8)),
        retriever.optimize,
    ):
        try:
            call()
            print("DONE")
        except StorageError as error:
            print("StorageError", error.errno, error, type(error.__cause__).__name__)
    assert retriever.search("river", 3)
    assert retriever.check().ok, retriever.check().findings
"""


@pytest.fixture
def table(tmp_path):
    folder = tmp_path / "t"
    with dpr_lance.connect(folder, encoder=HashEncoder(16)) as retriever:
        retriever.add([{"id": f"d{number}", "text": f"a river and word{number}"} for number in range(12)])
        retriever.optimize()
    return folder


def ran(folder, code, first=""):
    """What a process of its own prints; `first` is what it does before LanceDB is loaded."""
    names = "import sys, dpr_lance\nfrom dpr_lance import HashEncoder, StorageError, connect\npath = sys.argv[1]"
    script = "\n".join([names, first, code])
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def mounted(tmp_path):
    """Mount something on a folder for one test, where this process may."""
    place = tmp_path / "mounted"
    place.mkdir()

    def mount(*options):
        done = subprocess.run(["mount", *options, str(place)], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
        return place

    yield mount
    subprocess.run(["umount", str(place)], capture_output=True, check=False)


def test_a_read_only_folder_is_searched_and_says_why_it_cannot_be_changed(table, mounted):
    place = mounted("--bind", str(table))
    subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
    ran(place, READ)
    said = ran(place, CHANGE)
    assert said.count("StorageError 30") == 5
    assert "read-only: it can be searched, not changed" in said


def test_a_full_disk_keeps_what_is_committed(table, mounted):
    place = mounted("-t", "tmpfs", "-o", "size=300k", "tmpfs")
    shutil.copytree(table, place / "t")
    said = ran(place / "t", CHANGE)
    assert "StorageError 28" in said
    assert "the disk is full" in said
    assert ".rs:" not in said


def test_a_limit_on_the_size_of_files_is_named(table):
    limit = (
        "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, 3_000))"
    )
    said = ran(table, CHANGE, limit)
    assert "StorageError 27" in said
    assert "What was committed before is kept whole; raise `ulimit -f`" in said


LOADED = """
import dpr_lance.retriever, dpr_lance.connection, os
with connect("memory://", encoder=HashEncoder(4)) as first:
    first.add([{"text": "x"}])
    first.search("x")
    first.check()
os.setuid(65534)
"""
"""Everything is imported before root's rights are given up, with which modules may not be read any more."""


@pytest.fixture
def shown(table):
    """The table within reach of other users, who may read it."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield shutil.copytree(table, Path(folder) / "t")


def test_another_user_may_search_and_is_told_what_is_missing(shown):
    ran(shown, READ, LOADED)
    said = ran(shown, CHANGE, LOADED)
    assert said.count("StorageError 13") == 5
    assert "permission is denied" in said


def test_files_that_may_not_be_read_are_named(shown):
    read = """
try:
    with connect(path, encoder=HashEncoder(16)) as retriever:
        retriever.get("d1")
except StorageError as error:
    print(error)
"""
    for path in (shown / "passages.lance" / "data").iterdir():
        path.chmod(0o600)
    assert "permission is denied" in ran(shown, read, LOADED)
    shown.chmod(0o700)
    assert "permission is denied" in ran(shown, read, LOADED)


def test_a_place_where_no_folder_can_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="a part of the path is a file"):
        dpr_lance.connect(tmp_path / "file" / "t", encoder=HashEncoder(16)).add([{"text": "x"}])
