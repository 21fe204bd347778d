"""Forked processes cannot use LanceDB: its threads are gone, and the locks that they held stay held.

LanceDB starts its threads again in a child, but of 30 children that connected again 3 crashed and 2 hung.
"""

from __future__ import annotations

import atexit
import os
from pathlib import Path

from dpr_lance.errors import TableError
from dpr_lance.table.lancedb_internals import Shutdown

_THREADS = ("lancedb", "lance-")
"""Prefixes of the names of LanceDB's threads."""


class _Process:
    used = False
    """Whether LanceDB has worked in this process."""
    cut_off = False
    """Whether LanceDB had worked in the process from which this one was forked."""


def note_use() -> None:
    """Note that LanceDB works in this process from now on."""
    _Process.used = True


def is_cut_off() -> bool:
    """Tell whether this process was forked from one in which LanceDB had worked."""
    return _Process.cut_off


def check_process(place: str) -> None:
    """Raise `TableError` naming the table `place` where LanceDB cannot be used because of a fork."""
    if _Process.cut_off:
        raise TableError(
            f"{place} cannot be used here: this process was forked from one in which LanceDB was in use, whose threads "
            f"are missing here. Start processes with multiprocessing's 'spawn' or 'forkserver' method, or fork before "
            f"anything is opened, and connect there"
        )


def _before_fork() -> None:
    if _Process.used:
        return
    # Plain LanceDB may be in use too: on Linux the names of the threads show it.
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
