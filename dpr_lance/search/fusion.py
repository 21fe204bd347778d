"""The hybrid score: `bm25 + λ·dense` over the union of both candidate lists (paper, section 5.1), in numpy alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
RowIds = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Candidates:
    """What one question's legs found: parallel arrays, one entry a passage, no passage twice.

    `dense` and `bm25` are exact scores; NaN stands for a score that does not exist: dense of a passage without a
    vector, or a leg that the mode does not use. `row_ids` are LanceDB's stable row ids.
    """

    row_ids: RowIds
    dense: Scores
    bm25: Scores

    def __len__(self) -> int:
        return len(self.row_ids)


def fused_scores(dense: Scores, bm25: Scores, weight: float) -> Scores:
    """Return `bm25 + weight·dense`, float64[n].

    A passage that has no vector yet gets the lowest dense score among the candidates (0 when none has one): it is
    ranked by its BM25 score among the least similar, neither lost nor favoured.
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
