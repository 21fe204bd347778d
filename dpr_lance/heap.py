"""The C heap, in which LanceDB works: bounded, and given back to the system after use.

glibc makes up to eight heaps for each core and keeps what is freed in them. LanceDB allocates on many threads, so a
process that had added 200,000 passages came to hold 1.1 GiB, of which about 120 MiB were in use.
"""

from __future__ import annotations

import ctypes
import functools
import os

READ_AHEAD_BYTES = 32 << 20
"""LanceDB reads ahead up to 2 GiB of a scan that is slower to process than to read, as training an index is."""

_ARENA_MAX = -8  # M_ARENA_MAX of malloc.h


def bound_heap() -> None:
    """Bound LanceDB's read-ahead, and the C heaps to one a core; what the user's environment says stands.

    Does the former alone where the C library is not glibc. To be called before LanceDB is imported: heaps that are
    there stay.
    """
    os.environ.setdefault("LANCE_DEFAULT_IO_BUFFER_SIZE", str(READ_AHEAD_BYTES))
    libc = _glibc()
    if libc is not None and "MALLOC_ARENA_MAX" not in os.environ:
        libc.mallopt(_ARENA_MAX, max(2, os.cpu_count() or 2))


def trim_heap() -> None:
    """Give freed memory back to the system, which takes some milliseconds; nothing where the C library is not glibc."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows has no library of the whole process
        return None
    return libc if hasattr(libc, "malloc_trim") and hasattr(libc, "mallopt") else None
