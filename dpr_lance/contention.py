"""Several processes at one table: locks beside local folders, and patience with LanceDB's optimistic commits."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from filelock import FileLock, Timeout
from lancedb.table import Table

from dpr_lance.errors import LockedError

PATIENCE = 30.0
"""Seconds for which a call is tried again that other processes' commits and clean-ups get in the way of."""
LONGEST_PAUSE = 0.5
"""Seconds between two tries, at the most."""
_CONTENTION = ("Not found", "commit conflict", "concurrent writers")

T = TypeVar("T")


class SupersededError(RuntimeError):
    """What was read of the table no longer holds, because another process has committed since."""


def steadily(call: Callable[[Table], T], table: Table) -> T:
    """Return `call(table)`, called again as long as another process's commit or clean-up gets in its way.

    What is called must bear to be repeated. Raises `LockedError` when there is no end to it.
    """
    started, longest = time.monotonic(), 0.01
    while True:
        try:
            return call(table)
        except RuntimeError as error:
            if not _is_contention(error):
                raise
            if time.monotonic() - started > PATIENCE:
                raise LockedError(
                    f"other processes kept committing to this table for {PATIENCE:.0f} s; try again when they rest"
                ) from error
            # Spread out at random, so that two that got in each other's way do not meet again.
            time.sleep(random.uniform(0, longest))  # noqa: S311  # no secret
            longest = min(LONGEST_PAUSE, 2 * longest)


def _is_contention(error: RuntimeError) -> bool:
    """Tell whether LanceDB failed because another process committed or cleaned up at the same time."""
    return isinstance(error, SupersededError) or any(sign in str(error) for sign in _CONTENTION)


class NoLock:
    """Stands where no file lock is possible: LanceDB's own commits keep the table whole there."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


class TableLock(FileLock):
    """A file lock that raises `LockedError`, naming its file, when its time is over."""

    def __enter__(self) -> TableLock:
        try:
            super().__enter__()
        except Timeout as error:
            raise LockedError(
                f"{self.lock_file} is held: another process is at work on this table; try again when it is done"
            ) from error
        return self
