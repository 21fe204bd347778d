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


MAPPED = """
import ctypes, os
from dpr_lance import heap

class Counts(ctypes.Structure):  # mallinfo2 of malloc.h
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Counts
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def mapped():
    before = libc.mallinfo2().hblks
    block = libc.malloc(1 << 20)
    count = libc.mallinfo2().hblks - before
    libc.free(block)
    return count

with heap.large_blocks_given_back():
    within = mapped()
after = mapped()
os.environ["MALLOC_MMAP_THRESHOLD_"] = "33554432"
with heap.large_blocks_given_back():
    print(within, after, mapped())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="glibc before 2.33")
def test_large_blocks_are_mapped_one_by_one_within_and_kept_in_the_heap_afterwards():
    # In a process of its own: a block is taken from what is free in the heap, where that is large enough.
    kept = {name: value for name, value in os.environ.items() if name != "MALLOC_MMAP_THRESHOLD_"}
    done = subprocess.run([sys.executable, "-c", MAPPED], env=kept, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "0", "0"]


def test_arrow_allocates_from_the_heap_unless_the_environment_says_otherwise():
    code = "import dpr_lance, pyarrow; print(pyarrow.default_memory_pool().backend_name)"
    kept = {name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"}
    backends = [
        subprocess.run([sys.executable, "-c", code], env=kept | more, capture_output=True, text=True, check=True).stdout
        for more in ({}, {"ARROW_DEFAULT_MEMORY_POOL": "mimalloc"})
    ]
    assert backends == ["system\n", "mimalloc\n"]
