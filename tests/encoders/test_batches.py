"""Batches by length: every row once, longest first, within the budget; the first failure of a run is raised."""

import threading

import numpy as np
import pytest

from dpr_lance.encoders.batches import length_batches, run_batches


@pytest.mark.parametrize("budget", [0, 1, 7, 40, 10_000])
def test_every_row_is_in_one_batch_within_the_budget(budget):
    lengths = np.random.default_rng(0).integers(1, 30, size=200)
    batches = length_batches(lengths, budget)
    rows = np.concatenate(batches)
    assert sorted(rows) == list(range(200))
    assert (np.diff(lengths[rows]) <= 0).all()
    for batch in batches:
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= budget
    if budget == 0:
        assert len(batches) == 200


def test_no_rows_make_no_batches():
    assert length_batches(np.empty(0, dtype=np.int64), 100) == []


@pytest.mark.parametrize("threads", [1, 3])
def test_every_batch_is_run_and_a_failure_is_raised(threads):
    batches = length_batches(np.full(20, 5), 10)
    done, lock = [], threading.Lock()

    def run(batch):
        with lock:
            done.extend(batch.tolist())

    run_batches(run, batches, threads)
    assert sorted(done) == list(range(20))

    def fail(batch):
        raise ValueError(f"batch {batch.tolist()}")

    with pytest.raises(ValueError, match=r"batch \[0, 1\]"):
        run_batches(fail, batches, threads)
