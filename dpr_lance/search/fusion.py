"""The hybrid score: `bm25 + λ·dense` over the union of both candidate lists (paper, section 5.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpr_lance.records.hits import Mode

Scores = NDArray[np.float64]
RowIds = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Candidates:
    """What one question's legs found: parallel arrays with one entry for each passage.

    Scores are exact. NaN means that there is none: the passage has no vector, or the mode does not use the leg.
    """

    row_ids: RowIds
    dense: Scores
    bm25: Scores

    def __len__(self) -> int:
        return len(self.row_ids)

    def scores(self, mode: Mode, weight: float) -> Scores:
        """Return the scores that `mode` orders candidates by."""
        if mode == "hybrid":
            return fused_scores(self.dense, self.bm25, weight)
        return self.dense if mode == "dense" else self.bm25


def fused_scores(dense: Scores, bm25: Scores, weight: float) -> Scores:
    """Return `bm25 + weight·dense`, float64[n].

    A passage without a vector gets the lowest dense score of the candidates: it is neither lost nor favoured.
    """
    return bm25 + weight * filled(dense)


def filled(dense: Scores) -> Scores:
    """Return the dense scores with the lowest of them (0 when there is none) in place of NaN."""
    missing = np.isnan(dense)
    return np.where(missing, 0.0 if missing.all() else dense[~missing].min(), dense)


def leading(scores: Scores, k: int) -> list[int]:
    """Return the indexes of the k best, best first, and of those that are as good as the last of them."""
    order = np.argsort(-scores, kind="stable")
    last = scores[order[k - 1]] if len(order) > k else -np.inf
    return [index for index in order.tolist() if scores[index] >= last]


def known(score: float) -> float | None:
    """Return a score of `Candidates`, None where it does not exist."""
    return None if np.isnan(score) else float(score)
