"""Bounds on the memory of the process, set only on request, and giving freed memory back to the system.

glibc makes up to eight heaps per core and keeps freed memory in them. LanceDB allocates on many threads: a process that
had added 200,000 passages held 1.1 GiB, of which about 120 MiB were in use.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

READ_AHEAD_BYTES = 8 << 20
"""By default LanceDB reads ahead up to 2 GiB where a scan is read faster than it is processed."""

_ARENA_MAX = -8  # M_ARENA_MAX of malloc.h
_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD
_LARGE = 128 << 10
_LARGEST = 32 << 20  # up to which glibc raises the threshold by itself, as large blocks are freed

_bounded = False


def bound_memory() -> None:
    """Bound the memory of this process for work on large tables. Call it before the first `connect`.

    The command line sets these bounds for its own process; importing dpr_lance does not. LanceDB then reads ahead 8 MiB
    at most, pyarrow allocates from the C heap, and on glibc the C heap has one part per core instead of eight, and
    large blocks go back to the system while an index is maintained. `LANCE_DEFAULT_IO_BUFFER_SIZE`,
    `ARROW_DEFAULT_MEMORY_POOL`, `MALLOC_ARENA_MAX` and `MALLOC_MMAP_THRESHOLD_` in your environment are respected.

        dpr_lance.bound_memory()
        retriever = dpr_lance.connect("wiki.lance")
    """
    global _bounded  # noqa: PLW0603 - the bounds are the process's, and so is the knowledge of them
    _bounded = True
    os.environ.setdefault("LANCE_DEFAULT_IO_BUFFER_SIZE", str(READ_AHEAD_BYTES))
    # pyarrow's own allocator keeps about 40 MiB of what is freed.
    if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ:
        os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"
        if "pyarrow" in sys.modules:
            import pyarrow as pa  # noqa: PLC0415 - only where it is loaded already

            pa.set_memory_pool(pa.system_memory_pool())
    libc = _glibc()
    if libc is not None and "MALLOC_ARENA_MAX" not in os.environ:
        libc.mallopt(_ARENA_MAX, max(2, os.cpu_count() or 2))


def trim_heap() -> None:
    """Give freed memory back to the system, in some milliseconds; does nothing without glibc."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


@contextmanager
def large_blocks_given_back() -> Iterator[None]:
    """After `bound_memory`, give each freed block above 128 KiB back to the system at once, at the cost of page faults.

    What LanceDB frees while it compacts and trains lies between blocks that it keeps, where no trimming reaches it.
    """
    libc = _glibc()
    if libc is None or not _bounded or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        yield
        return
    libc.mallopt(_MMAP_THRESHOLD, _LARGE)
    try:
        yield
    finally:
        libc.mallopt(_MMAP_THRESHOLD, _LARGEST)


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows has no library of the whole process
        return None
    return libc if hasattr(libc, "malloc_trim") and hasattr(libc, "mallopt") else None
