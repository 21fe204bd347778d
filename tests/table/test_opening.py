"""What stays open while a table is written to and searched for long: the files of a few indexes, not of all."""

import gc
import time
from datetime import timedelta

import pytest

import dpr_lance
from dpr_lance import HashEncoder
from dpr_lance.table.opening import MOST_INDEXES
from tests.tables import DESCRIPTORS, open_files, random_documents


@pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="only Linux tells what is open")
@pytest.mark.parametrize("keep_versions", [timedelta(0), timedelta(hours=1)])
def test_few_files_of_old_indexes_stay_open(tmp_path, keep_versions):
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(16), keep_versions=keep_versions) as retriever:
        retriever.add(random_documents(0, 400), splitter=None)
        for number in range(20):
            retriever.add([{"id": f"new{number}", "text": f"river number {number}"}])
            retriever.optimize()
            assert len(retriever.search("number", 100, mode="bm25")) == number + 1
        # Its last user is gone once Python has collected it; LanceDB's threads close the files of a session later.
        deadline = time.monotonic() + 30
        while len(open_files(tmp_path)) > MOST_INDEXES and time.monotonic() < deadline:
            gc.collect()
            time.sleep(0.1)
        assert len(open_files(tmp_path)) <= MOST_INDEXES
