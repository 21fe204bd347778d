"""Diversity: maximal marginal relevance (Carbonell & Goldstein 1998) on the stored vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpr_lance.encoders.vectors import Vector
from dpr_lance.records.hits import Hit


def choose_diverse(
    hits: Sequence[Hit], vectors: Mapping[str, Vector], diversity: float, take: Callable[[Hit], bool]
) -> None:
    """Offer hits to `take` in the order of maximal marginal relevance; it returns whether it has taken one.

    The next is the one with the largest `(1 - diversity) · relevance - diversity · similarity`. Relevance is the score,
    scaled so that the hits lie between 0 and 1. Similarity is the largest cosine with a vector of those taken before;
    for a pair with a missing vector it is the mean of the other pairs, so that such a passage is neither favoured nor
    lost. The first hit is always the first, and equal values are taken by rank.
    """
    relevance, cosines = _scaled(hits), _Cosines.of(hits, vectors)
    nearest = np.zeros(len(hits))
    left = np.ones(len(hits), dtype=np.bool_)
    nothing_taken = True
    for _ in range(len(hits)):
        gain = (1 - diversity) * relevance - diversity * nearest
        at = int(np.argmax(np.where(left, gain, -np.inf))) if not nothing_taken else int(np.argmax(left))
        left[at] = False
        if take(hits[at]):
            similar = cosines.with_one(at)
            nearest = similar if nothing_taken else np.maximum(nearest, similar)
            nothing_taken = False


def _scaled(hits: Sequence[Hit]) -> NDArray[np.float64]:
    """Return the scores between 0, the lowest, and 1, the highest; all 1 where they are equal."""
    scores = np.array([hit.score for hit in hits])
    if not len(scores) or scores.max() == scores.min():
        return np.ones(len(scores))
    scaled: NDArray[np.float64] = (scores - scores.min()) / (scores.max() - scores.min())
    return scaled


@dataclass(frozen=True, slots=True)
class _Cosines:
    """The cosines of hits' vectors."""

    rows: NDArray[np.float64]
    """Unit vectors, float64[n, d]; zeros where there is none."""
    there: NDArray[np.bool_]
    mean: float
    """Of all pairs with vectors."""

    @classmethod
    def of(cls, hits: Sequence[Hit], vectors: Mapping[str, Vector]) -> _Cosines:
        there = np.array([hit.id in vectors for hit in hits], dtype=np.bool_)
        dimension = len(next(iter(vectors.values()))) if vectors else 0
        rows = np.zeros((len(hits), dimension))
        for at in np.flatnonzero(there).tolist():
            rows[at] = vectors[hits[at].id]
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float64).tiny)
        count = int(there.sum())
        # The squared length of the sum has each pair twice, and each vector with itself.
        pairs = float((rows.sum(axis=0) ** 2).sum() - (rows**2).sum())
        return cls(rows, there, pairs / (count * (count - 1)) if count > 1 else 0.0)

    def with_one(self, at: int) -> NDArray[np.float64]:
        """Return the similarity of every hit with one of them."""
        if not self.there[at]:
            return np.full(len(self.there), self.mean)
        # Not by BLAS: equal vectors must get equal cosines, wherever they stand.
        return np.where(self.there, (self.rows * self.rows[at]).sum(axis=1), self.mean)
