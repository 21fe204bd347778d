"""Chooses the weight of retrieval next to a re-ranker's scores, by labelled questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpr_lance.calibration.hybrid_weight import (
    FOLDS,
    LEG_PAYS,
    SEED,
    JudgedCandidates,
    Values,
    likelihoods_of,
)
from dpr_lance.records.table_info import WeightPoint
from dpr_lance.search.fusion import Scores

TRIED = np.concatenate([[0.0], 2.0 ** np.arange(-4, 4.5, 0.5), [1024.0]])
"""The weights that are tried, in standard deviations of the re-ranker's scores; the last one is retrieval alone."""
SPREAD = 4.0
"""Standard deviation that scores are brought to, so that the sharpnesses that are tried fit them."""


@dataclass(frozen=True, slots=True)
class RescoredCandidates:
    """One question's candidates: standardised retrieval scores, the re-ranker's scores, and which answer it."""

    retrieval: Scores
    scores: Scores
    relevant: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class RerankChoice:
    """The weight that was chosen; mean reciprocal ranks of retrieval alone, the re-ranker alone, and both together.

    `pays`: both together are clearly better than retrieval alone.
    """

    weight: float
    pays: bool
    retrieval_alone: float
    reader_alone: float
    combined: float
    curve: tuple[WeightPoint, ...]


def choose_rerank_weight(judged: Sequence[RescoredCandidates], usual: float) -> RerankChoice:
    """Return the weight under which held-out questions are answered best; `usual` is the one in force.

    Each fifth of the questions is ranked with the weight under which the answers of the others are most likely. Unless
    that is better than the usual weight, retrieval alone and the re-ranker alone, the best of these three is chosen:
    they are fitted to no question. Re-ranking pays where it beats retrieval by `LEG_PAYS` standard errors.
    """
    unit = float(np.mean([each.scores.std() for each in judged])) or 1.0
    scaled = [JudgedCandidates(SPREAD * each.retrieval, SPREAD / unit * each.scores, each.relevant) for each in judged]
    likelihoods = np.array([likelihoods_of(each, TRIED) for each in scaled])  # [questions, weights, sharpness]
    ranks = np.array([_reciprocal_ranks(each, TRIED) for each in scaled])  # [questions, weights]
    fold = np.random.default_rng(SEED).permutation(len(judged)) % FOLDS
    held_out = np.empty(len(judged))
    for part in range(FOLDS):
        held_out[fold == part] = ranks[fold == part, _most_likely(likelihoods[fold != part])]
    in_force = np.array([_reciprocal_ranks(each, np.array([usual / unit]))[0] for each in scaled])
    reader, retrieval = ranks[:, 0], ranks[:, -1]
    choices = [
        (usual, in_force),
        (unit * float(TRIED[_most_likely(likelihoods)]), held_out),
        (0.0, reader),
        (unit * float(TRIED[-1]), retrieval),
    ]
    weight, chosen = max(choices, key=lambda choice: choice[1].mean())  # the first of equals
    gain = chosen - retrieval
    means = dict(zip((unit * TRIED).tolist(), ranks.mean(axis=0).tolist(), strict=True))
    means[usual] = float(in_force.mean())
    return RerankChoice(
        weight=weight,
        pays=bool(gain.mean() > LEG_PAYS * gain.std() / np.sqrt(len(gain))),
        retrieval_alone=float(retrieval.mean()),
        reader_alone=float(reader.mean()),
        combined=float(chosen.mean()),
        curve=tuple(WeightPoint(*point) for point in sorted(means.items())),
    )


def _reciprocal_ranks(judged: JudgedCandidates, weights: Values) -> Values:
    """Return 1 / the rank of the first answer under each weight, 0 where there is none: float64[weights].

    A re-ranker may give many passages the same score; half of those that tie with the answer are ranked above it.
    """
    if not judged.relevant.any():
        return np.zeros(len(weights))
    scores = judged.bm25 + weights[:, None] * judged.dense  # [weights, candidates]
    first = scores[:, judged.relevant].max(axis=1, keepdims=True)
    others = scores[:, ~judged.relevant]
    ranks: Values = 1.0 / (1 + (others > first).sum(axis=1) + (others == first).sum(axis=1) / 2)
    return ranks


def _most_likely(likelihoods: NDArray[np.float32]) -> int:
    """Return the index of the most likely weight, at its best sharpness."""
    return int(likelihoods.sum(axis=0).max(axis=1).argmax())
