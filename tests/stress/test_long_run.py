"""A process that writes, searches and optimises for long: open files stay flat, and memory within its bounds."""

from datetime import timedelta
from pathlib import Path

import pytest

import dpr_lance
from dpr_lance import HashEncoder
from tests.stress.sizes import size
from tests.tables import open_files, random_documents

WRITES = 100 * size(100)
CACHE_BYTES = 16 << 20
MOST_GROWTH = 96 << 20
"""The caches, once more while they are made again, and what the heap keeps between blocks."""


def resident_bytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS:"))


@pytest.mark.stress
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="only Linux says what a process holds")
def test_open_files_and_memory_stay_flat(tmp_path):
    place = tmp_path / "t"
    with dpr_lance.connect(
        place, encoder=HashEncoder(32), cache_bytes=CACHE_BYTES, keep_versions=timedelta(0)
    ) as retriever:
        retriever.add(random_documents(0, 500), splitter=None)
        files, memory = [], []
        for number in range(WRITES):
            retriever.add([{"id": f"d{number % 500:03}", "text": f"river number {number}"}])
            assert len(retriever.search("river", 3)) == 3
            if number % 100 == 99:
                retriever.optimize()
                files.append(len(open_files(tmp_path)))
                memory.append(resident_bytes())
        settled = len(memory) // 4
        assert max(files[settled:]) <= max(files[: settled + 1]) + 8
        assert max(memory[settled:]) - memory[settled] <= MOST_GROWTH
