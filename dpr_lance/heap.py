"""The C heap, in which LanceDB works: bounded, and given back to the system after use.

glibc makes up to eight heaps for each core and keeps what is freed in them. LanceDB allocates on many threads, so a
process that had added 200,000 passages came to hold 1.1 GiB, of which about 120 MiB were in use.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager

READ_AHEAD_BYTES = 8 << 20
"""LanceDB reads ahead up to 2 GiB of a scan that is slower to process than to read, as training an index is."""

_ARENA_MAX = -8  # M_ARENA_MAX of malloc.h
_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD
_LARGE = 128 << 10
_LARGEST = 32 << 20  # up to which glibc raises the threshold by itself, as large blocks are freed


def bound_heap() -> None:
    """Bound LanceDB's read-ahead, keep Arrow to the C heaps, and these to one a core; the user's environment stands.

    Where the C library is not glibc, the heaps stay as they are. To be called before LanceDB and pyarrow are imported:
    heaps that are there stay too.
    """
    os.environ.setdefault("LANCE_DEFAULT_IO_BUFFER_SIZE", str(READ_AHEAD_BYTES))
    # pyarrow's own allocator keeps about 40 MiB of what is freed.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    libc = _glibc()
    if libc is not None and "MALLOC_ARENA_MAX" not in os.environ:
        libc.mallopt(_ARENA_MAX, max(2, os.cpu_count() or 2))


def trim_heap() -> None:
    """Give freed memory back to the system, which takes some milliseconds; nothing where the C library is not glibc."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


@contextmanager
def large_blocks_given_back() -> Iterator[None]:
    """Give each block above 128 KiB that is freed within back to the system at once, at the cost of page faults.

    What LanceDB frees while it compacts and trains lies scattered between what it keeps, where no trimming gets at it.
    """
    libc = _glibc()
    if libc is None or "MALLOC_MMAP_THRESHOLD_" in os.environ:
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
