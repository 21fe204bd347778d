"""Forked processes: LanceDB's threads do not come along, and locks that they held stay held, so it cannot be used.

LanceDB starts its threads again in a child, but of 30 children that connected again 3 crashed and 2 waited forever.
"""

from __future__ import annotations

import atexit
import os
from pathlib import Path

from dpr_lance.errors import TableError
from dpr_lance.table.lancedb_internals import Shutdown

_THREADS = ("lancedb", "lance-")
"""How the names of LanceDB's threads begin."""


class _Process:
    """What this process has inherited."""

    used = False
    """Whether LanceDB is or was at work here."""
    cut_off = False
    """Whether LanceDB was at work in the process from which this one was forked."""


def note_use() -> None:
    """Note that LanceDB is at work in this process from now on."""
    _Process.used = True


def is_cut_off() -> bool:
    """Tell whether this process was forked from one in which LanceDB was at work."""
    return _Process.cut_off


def check_process(place: str) -> None:
    """Raise `TableError` where LanceDB cannot be used because of a fork; `place` is the table that was asked for."""
    if _Process.cut_off:
        raise TableError(
            f"{place} cannot be used here: this process was forked from one in which LanceDB was at work, whose "
            f"threads did not come along. Start processes with multiprocessing's 'spawn' or 'forkserver' method, or "
            f"fork before anything is opened, and connect there"
        )


def _before_fork() -> None:
    if _Process.used:
        return
    # Plain LanceDB may be at work too; Linux tells by the names of the threads.
    for task in Path("/proc/self/task").glob("*/comm"):
        try:
            _Process.used = _Process.used or task.read_text().startswith(_THREADS)
        except OSError:
            continue  # the thread has ended


def _in_child() -> None:
    if _Process.used:
        _Process.cut_off = True
        atexit.unregister(Shutdown())  # type: ignore[arg-type]  # it only compares


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_in_child)
