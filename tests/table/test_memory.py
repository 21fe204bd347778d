"""Importing and searching leave the process as it is; on request its memory is bounded, and the environment stands."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dpr_lance.table import memory

pytestmark = pytest.mark.skipif(memory._glibc() is None, reason="the C library is not glibc")

HEAPS = """
import ctypes, os, sys, threading
exec(sys.argv[1])
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
print(open("heaps.xml").read().count("<heap nr="), os.environ.get("LANCE_DEFAULT_IO_BUFFER_SIZE", 0))
"""


VARIABLES = (
    "MALLOC_ARENA_MAX",
    "MALLOC_MMAP_THRESHOLD_",
    "LANCE_DEFAULT_IO_BUFFER_SIZE",
    "ARROW_DEFAULT_MEMORY_POOL",
)
BOUNDED = "import dpr_lance; dpr_lance.bound_memory()"


def run(code, *arguments, folder=None, **environment):
    """What a fresh process prints, whose environment has none of the variables but these."""
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command, env=kept | environment, cwd=folder, capture_output=True, text=True, check=True
    ).stdout


def heaps_and_read_ahead(folder, statement=BOUNDED, **environment):
    heaps, read_ahead = run(HEAPS, statement, folder=folder, **environment).split()
    return int(heaps), int(read_ahead)


SEARCHED = """
import os, sys
before = dict(os.environ)
import dpr_lance
assert dict(os.environ) == before
assert not [name for name in sys.modules if name.startswith("lance")]
with dpr_lance.connect("memory://", encoder=dpr_lance.HashEncoder(8)) as retriever:
    retriever.add([{"text": "a river in the Alps"}])
    retriever.optimize()
    assert len(retriever.search("river")) == 1
assert dict(os.environ) == before
"""
MODULES = """
import sys
print(*sorted(
    f"{name}:{type(module).__name__}:{'__getattr__' in vars(module)}:{type(module.__spec__.loader).__name__}"
    for name, module in sys.modules.items() if name.startswith("lance")
))
"""


def test_importing_and_searching_change_neither_the_environment_nor_the_modules_of_lancedb():
    searched = run(SEARCHED + MODULES).split()
    assert set(run("import lancedb" + MODULES).split()) <= set(searched)


def test_importing_and_searching_leave_the_heaps_as_they_are(tmp_path):
    assert heaps_and_read_ahead(tmp_path, SEARCHED) == heaps_and_read_ahead(tmp_path, "")


def test_many_threads_share_a_heap_a_core(tmp_path):
    assert heaps_and_read_ahead(tmp_path) == (max(2, os.cpu_count()), memory.READ_AHEAD_BYTES)


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
    memory.trim_heap()
    assert before - resident_mebibytes() > 100
    libc.free(blocks[-1])


MAPPED = """
import ctypes, os, sys
from dpr_lance.table import memory

if sys.argv[1:]:
    memory.bound_memory()

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
    block = libc.malloc(24 << 20)  # more than is free in the heap
    count = libc.mallinfo2().hblks - before
    libc.free(block)
    return count

mapped()  # glibc raises its threshold as a large block is freed
with memory.large_blocks_given_back():
    within = mapped()
after = mapped()
os.environ["MALLOC_MMAP_THRESHOLD_"] = "33554432"
with memory.large_blocks_given_back():
    print(within, after, mapped())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="glibc before 2.33")
def test_large_blocks_are_mapped_one_by_one_within_and_kept_in_the_heap_afterwards():
    # In a process of its own: a block is taken from what is free in the heap, where that is large enough.
    assert run(MAPPED, "bounded").split() == ["1", "0", "0"]


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="glibc before 2.33")
def test_large_blocks_are_treated_as_ever_in_a_process_that_is_not_bounded():
    assert run(MAPPED).split() == ["0", "0", "0"]


def test_arrow_allocates_from_the_heap_in_a_bounded_process_unless_the_environment_says_otherwise():
    shown = "import pyarrow; print(pyarrow.default_memory_pool().backend_name)"
    assert run(f"{BOUNDED}; {shown}") == "system\n"
    assert run(f"import pyarrow; {BOUNDED}; {shown}") == "system\n"
    assert run(f"{BOUNDED}; {shown}", ARROW_DEFAULT_MEMORY_POOL="mimalloc") == "mimalloc\n"
    assert run(f"import dpr_lance; {shown}") == run(shown)
