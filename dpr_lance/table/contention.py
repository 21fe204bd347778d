"""Several processes at one table: file locks, and retries where LanceDB's optimistic commits conflict."""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock, Timeout

from dpr_lance.errors import LockedError, StorageError, TableError
from dpr_lance.table.engine_errors import is_conflict, is_missing, named, raised_by_engine, reason_of, storage_named
from dpr_lance.table.files import TableFiles

if TYPE_CHECKING:  # the trainer reads hashes without LanceDB
    from lancedb.table import Table

PATIENCE = 30.0
"""Seconds for which a call is retried that conflicts with other processes' commits and clean-ups."""
LONGEST_PAUSE = 0.5
"""Seconds between two tries, at most."""
_LOST = 3
"""Tries after which a file that one version misses counts as lost: a clean-up frees only earlier versions' files."""

LOG = logging.getLogger("dpr_lance")
NOTICE_AFTER = 3.0
"""Seconds of waiting for a lock before the first log message."""
NOTICE_AGAIN = 60.0
"""Seconds before the next message."""

T = TypeVar("T")


class SupersededError(RuntimeError):
    """What was read is out of date: another process has committed since."""


class SwitchedError(TableError):
    """The table no longer has these vectors: it was re-embedded or replaced."""


class SchemaChangedError(TableError):
    """The table's columns now have other types than the rows that were made for them."""


def retry_on_conflict(call: Callable[[Table], T], table: Table, files: TableFiles) -> T:
    """Return `call(table)`, retried as long as another process's commit or clean-up conflicts with it.

    `call` must be idempotent. Raises `LockedError` when conflicts persist for `PATIENCE` seconds, and for LanceDB's
    other errors `DamagedTableError`, `StorageError` or `TableError`.
    """
    started, longest = time.monotonic(), 0.01
    missed: Counter[tuple[int, str]] = Counter()
    while True:
        try:
            return call(table)
        except BaseException as error:
            superseded = isinstance(error, SupersededError)
            if not superseded and not raised_by_engine(error):
                raise
            if not superseded and not is_conflict(error):
                place = _version(table), reason_of(error)
                missed[place] += is_missing(error)
                if not 0 < missed[place] < _LOST:
                    raise named(error, files) from error
            if time.monotonic() - started > PATIENCE:
                raise LockedError(
                    f"{files.place}: other processes kept committing for {PATIENCE:.0f} s; try again when they are done"
                ) from error
            # At random, so that two processes do not conflict again.
            time.sleep(random.uniform(0, longest))  # noqa: S311 - not a secret
            longest = min(LONGEST_PAUSE, 2 * longest)


def _version(table: Table) -> int:
    try:
        return int(table.version)
    except Exception:  # noqa: BLE001 - the error that led here is reported
        return -1


def committed(call: Callable[[Table], T], retry: Callable[[Callable[[Table], Any]], Any], files: TableFiles) -> T:
    """Return `call(table)`, which writes. `retry` calls it on the table; the caller holds the lock of writers.

    LanceDB does not notice every write that the disk has cut off. Such a commit is undone by restoring the version
    before it, and raises `StorageError`.
    """
    before = None if files.folder is None else retry(lambda table: int(table.version))
    done: T = retry(call)
    if (cut := files.record()) is not None:
        retry(lambda table: put_back(table, before))
        files.record()
        raise StorageError(
            f"{files.place}: the disk has cut off {cut}, so the last write was undone. Everything committed before is "
            f"whole; free some space, or raise `ulimit -f`, and repeat the call"
        )
    return done


def put_back(table: Table, version: int | None) -> None:
    """Commit what an earlier version holds as the latest one."""
    table.checkout(version)
    try:
        table.restore()
    finally:
        table.checkout_latest()


class TableLock(FileLock):
    """A file lock that raises `LockedError`, naming its file, after its timeout; a long wait is logged."""

    def __enter__(self) -> TableLock:
        started = time.monotonic()
        patience = NOTICE_AFTER
        while True:
            left = self.timeout - (time.monotonic() - started)
            try:
                with storage_named(str(Path(self.lock_file).parent)):
                    self.acquire(timeout=max(0.0, min(patience, left)))
            except Timeout as error:
                if left <= patience:
                    raise LockedError(
                        f"{self.lock_file} is held: another process is at work on this table; try again when it is done"
                    ) from error
                waited = time.monotonic() - started
                LOG.warning(
                    "waiting for %s, which another process or thread holds: %.0f s so far, %.0f s at most",
                    self.lock_file, waited, self.timeout,
                )  # fmt: skip
                patience = NOTICE_AGAIN
            else:
                return self
