"""Batches of sequences of similar length, within a budget of tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Rows: TypeAlias = NDArray[np.intp]


def length_batches(lengths: NDArray[np.integer], budget: int) -> list[Rows]:
    """Return row numbers, longest first, in batches of at most `budget` padded tokens and at least one row."""
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        count = max(1, budget // int(lengths[order[start]]))
        batches.append(order[start : start + count])
        start += count
    return batches


def run_batches(run: Callable[[Rows], None], batches: Sequence[Rows], threads: int) -> None:
    """Run every batch, `threads` at a time; raise the first failure."""
    threads = min(threads, len(batches))
    if threads <= 1:
        for batch in batches:
            run(batch)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(run, batches):
            pass
