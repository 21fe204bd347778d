"""Waiting for a lock is said: for what, and for how long at most."""

import logging

import pytest

from dpr_lance import LockedError
from dpr_lance.cli import app as cli
from dpr_lance.table import contention
from dpr_lance.table.contention import TableLock


@pytest.fixture
def held(tmp_path, monkeypatch):
    """A lock that someone holds until the waiting has been said twice."""
    monkeypatch.setattr(contention, "NOTICE_AFTER", 0.02)
    monkeypatch.setattr(contention, "NOTICE_AGAIN", 0.02)

    told = []

    def hold(path, log):
        lock = TableLock(path, timeout=0, thread_local=False)
        lock.acquire()

        class Counting(logging.Handler):
            def emit(self, record):
                told.append(record.getMessage())
                if len(told) == 2:
                    lock.release()

        handler = Counting()
        log.addHandler(handler)
        return lock, handler

    log = logging.getLogger("dpr_lance")
    made = []

    def start(path):
        made.append(hold(path, log))
        return told

    yield start
    for lock, handler in made:
        log.removeHandler(handler)
        lock.release(force=True)


def test_a_wait_is_logged_with_the_lock_and_the_limit(tmp_path, held):
    path = tmp_path / ".passages.indexes.lock"
    told = held(path)
    with TableLock(path, timeout=600):
        pass
    assert len(told) >= 2
    assert f"waiting for {path}" in told[0]
    assert "600 s at most" in told[0]


def test_a_lock_that_is_free_or_not_waited_for_says_nothing(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(contention.LOG, "warning", lambda *parts: said.append(parts))
    path = tmp_path / "lock"
    with TableLock(path, timeout=600):
        with pytest.raises(LockedError, match="is held"):
            TableLock(path, timeout=0).__enter__()
        with pytest.raises(LockedError, match="is held"):
            TableLock(path, timeout=0.05).__enter__()
    assert not said


def test_the_command_line_says_that_it_waits(folder, retriever, documents, held, capsys):
    retriever.add(documents)
    held(folder / ".passages.indexes.lock")
    assert cli.run(["optimize", str(folder)]) == 0
    said = capsys.readouterr().err
    assert f"warning: waiting for {folder / '.passages.indexes.lock'}" in said
