"""Importing and searching leave the process as it is; `bound_memory` bounds its memory and respects the environment."""

import ctypes
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from dpr_lance.table import memory

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")

COUNTS = """
import ctypes

class Counts(ctypes.Structure):  # mallinfo2 of malloc.h
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
libc.fclose.argtypes = [ctypes.c_void_p]
if hasattr(libc, "mallinfo2"):
    libc.mallinfo2.restype = Counts

def mapped(mebibytes):
    "How many blocks of this size the C library maps one by one: 1, or 0 where they come from the heap."
    before = libc.mallinfo2().hblks
    block = libc.malloc(mebibytes << 20)  # more than is free in the heap
    count = libc.mallinfo2().hblks - before
    libc.free(block)
    return count
"""
HEAPS = """
import os, sys, threading
exec(sys.argv[1])
thresholds = []
if hasattr(libc, "mallinfo2"):  # since glibc 2.33
    mapped(31)  # unless it was set, the threshold rises as a large block is freed, up to 32 MiB
    thresholds = [mapped(25), mapped(33)]
    libc.free(libc.malloc(24 << 20))
    thresholds.append(libc.mallinfo2().keepcost >> 20 >= 24)  # what is freed at the heap's end stays there
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
print(*thresholds)
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


def heaps(folder, statement=BOUNDED, **environment):
    """How many heaps 24 threads get after a statement and how far LanceDB reads ahead, and the heap's thresholds."""
    found, thresholds = run(COUNTS + HEAPS, statement, folder=folder, **environment).splitlines()
    return [int(count) for count in found.split()], thresholds


IMPORTED = "import dpr_lance"
SEARCHED = """
import dpr_lance
with dpr_lance.connect("memory://", encoder=dpr_lance.HashEncoder(8)) as retriever:
    retriever.add([{"text": "a river in the Alps"}])
    retriever.optimize()
    assert len(retriever.search("river")) == 1
"""
WATCHED = """
import os, sys
from pathlib import Path

def modules():
    return {name: module for name, module in sys.modules.items() if name.split(".")[0] in ("lance", "lancedb")}

if sys.argv[2:]:
    import lancedb
environment, before = dict(os.environ), modules()
exec(sys.argv[1])
assert dict(os.environ) == environment
after = modules()
assert all(after[name] is module for name, module in before.items())
folder = str(Path(after["lancedb"].__file__).parent) if after else ""
strange = [name for name, module in after.items() if not module.__spec__.origin.startswith(folder)]
kinds = [f"{name}:{type(module).__name__}:{'__getattr__' in vars(module)}" for name, module in after.items()]
print(*strange)
print(*sorted(kinds))
"""


def test_importing_imports_nothing_of_lancedb_and_leaves_the_environment():
    assert run(WATCHED, IMPORTED).split() == []


@pytest.mark.parametrize("order", [["lancedb first"], []])
def test_searching_leaves_the_environment_and_the_modules_of_lancedb(order):
    strange, kinds = run(WATCHED, SEARCHED, *order).splitlines()
    assert strange == ""
    _, untouched = run(WATCHED, "", "lancedb first").splitlines()
    assert set(untouched.split()) <= set(kinds.split())


@pytest.mark.parametrize("statement", [IMPORTED, SEARCHED])
def test_importing_and_searching_leave_the_settings_of_the_c_heap(tmp_path, statement):
    untouched = heaps(tmp_path, "")
    assert heaps(tmp_path, statement) == untouched
    assert untouched[1] in ("0 1 True", "")


def test_many_threads_share_a_heap_a_core(tmp_path):
    assert heaps(tmp_path)[0] == [max(2, os.cpu_count()), memory.READ_AHEAD_BYTES]


def test_the_environment_is_respected(tmp_path):
    given = {"MALLOC_ARENA_MAX": str(os.cpu_count() + 3), "LANCE_DEFAULT_IO_BUFFER_SIZE": "1000000"}
    assert heaps(tmp_path, **given)[0] == [os.cpu_count() + 3, 1_000_000]


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
import os, sys
from dpr_lance.table import memory

if sys.argv[1:]:
    memory.bound_memory()
mapped(24)  # glibc raises its threshold as a large block is freed
with memory.large_blocks_given_back():
    within = mapped(24)
after = mapped(24)
os.environ["MALLOC_MMAP_THRESHOLD_"] = "33554432"
with memory.large_blocks_given_back():
    print(within, after, mapped(24))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="glibc before 2.33")
def test_large_blocks_are_mapped_one_by_one_within_and_kept_in_the_heap_afterwards():
    # In a process of its own: a block is taken from what is free in the heap, where that is large enough.
    assert run(COUNTS + MAPPED, "bounded").split() == ["1", "0", "0"]


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="glibc before 2.33")
def test_large_blocks_are_treated_as_before_in_a_process_that_is_not_bounded():
    assert run(COUNTS + MAPPED).split() == ["0", "0", "0"]


def test_arrow_allocates_from_the_heap_in_a_bounded_process_unless_the_environment_says_otherwise():
    shown = "import pyarrow; print(pyarrow.default_memory_pool().backend_name)"
    assert run(f"{BOUNDED}; {shown}") == "system\n"
    assert run(f"import pyarrow; {BOUNDED}; {shown}") == "system\n"
    assert run(f"{BOUNDED}; {shown}", ARROW_DEFAULT_MEMORY_POOL="mimalloc") == "mimalloc\n"
    assert run(f"import dpr_lance; {shown}") == run(shown)
