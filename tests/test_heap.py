"""The C heap is bounded and given back; what the user's environment says stands."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dpr_lance import heap

pytestmark = pytest.mark.skipif(heap._glibc() is None, reason="the C library is not glibc")

HEAPS = """
import ctypes, os, threading
import dpr_lance
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
libc.fclose.argtypes = [ctypes.c_void_p]
barrier = threading.Barrier(24)
def work():
    barrier.wait()
    libc.malloc(4096)
    barrier.wait()
threads = [threading.Thread(target=work) for _ in range(24)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
file = libc.fopen(b"heaps.xml", b"w")
libc.malloc_info(0, file)
libc.fclose(file)
print(open("heaps.xml").read().count("<heap nr="), os.environ["LANCE_DEFAULT_IO_BUFFER_SIZE"])
"""


def heaps_and_read_ahead(folder, **environment):
    kept = {name: value for name, value in os.environ.items() if name not in heap_variables}
    done = subprocess.run(
        [sys.executable, "-c", HEAPS], env=kept | environment, cwd=folder, capture_output=True, text=True, check=True
    )
    heaps, read_ahead = done.stdout.split()
    return int(heaps), int(read_ahead)


heap_variables = ("MALLOC_ARENA_MAX", "LANCE_DEFAULT_IO_BUFFER_SIZE")


def test_many_threads_share_a_heap_a_core(tmp_path):
    assert heaps_and_read_ahead(tmp_path) == (max(2, os.cpu_count()), heap.READ_AHEAD_BYTES)


def test_what_the_environment_says_stands(tmp_path):
    asked = {"MALLOC_ARENA_MAX": str(os.cpu_count() + 3), "LANCE_DEFAULT_IO_BUFFER_SIZE": "1000000"}
    assert heaps_and_read_ahead(tmp_path, **asked) == (os.cpu_count() + 3, 1_000_000)


def resident_mebibytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


def test_freed_memory_is_given_back():
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    blocks = [libc.malloc(60_000) for _ in range(3_000)]  # smaller than what malloc maps, and frees, one by one
    for block in blocks:
        ctypes.memset(block, 1, 60_000)
    for block in blocks[:-1]:  # the last one holds the others in the heap
        libc.free(block)
    before = resident_mebibytes()
    heap.trim_heap()
    assert before - resident_mebibytes() > 100
    libc.free(blocks[-1])
