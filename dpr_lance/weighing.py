"""Which weight and mode rank a table's candidates best: chosen on labelled questions, in numpy alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpr_lance.fusion import Scores
from dpr_lance.metrics import SEED, Values
from dpr_lance.records import MODES, Mode

FOLDS = 5
FEWEST_QUESTIONS = 50
"""With fewer, nothing is chosen by labels: on four sets 20 gained nothing on the rest of a set and cost it up to 2
points of mean reciprocal rank, by chance."""
NEAR, PAYS, LEG_PAYS = 1.0, 1.5, 2.0
"""Standard errors: weights so near the best are as good; a new weight has to beat the old one by so many, a single leg
the hybrid. With less, 50 questions of a set cost its others some tenths of a point of mean reciprocal rank more often;
with more, nothing changes where it would have been worth a point."""
STEPS = np.arange(-8, 9)
"""Weights that are tried: the balanced one, times powers of the square root of 2."""
OUT_OF_SCALE = 4.0
"""A weight that is so many times off the balanced one was made for vectors of another scale."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One question's candidates, as in `fusion.Candidates`, and which of them answer it."""

    dense: Scores
    bm25: Scores
    relevant: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Choice:
    """The weight and mode that were chosen, and their mean reciprocal rank beside that of what was in force.

    Both means are over questions that the choice was not made on: each fifth was judged by the choice of the others.
    """

    weight: float
    mode: Mode
    before: float
    after: float
    curve: tuple[tuple[float, float], ...]
    """Each weight that was tried with its mean reciprocal rank over all questions."""


def balanced_weight(candidates: Sequence[tuple[Scores, Scores]]) -> float | None:
    """Return the weight at which both legs' scores spread equally: the median ratio of their standard deviations.

    Each question gives the dense and BM25 scores of its candidates; None where no question has two of both.
    """
    ratios = []
    for dense, bm25 in candidates:
        known = dense[~np.isnan(dense)]
        if len(known) > 1 and known.std() > 0 and bm25.std() > 0:
            ratios.append(float(bm25.std() / known.std()))
    return float(np.median(ratios)) if ratios else None


def unlabelled_weight(current: float, balanced: float | None) -> float:
    """Return the current weight, or the balanced one where the current one is out of scale.

    Measured without labels, the weight of a known encoder did at least as well as the balanced one.
    """
    if balanced is None or balanced / OUT_OF_SCALE <= current <= balanced * OUT_OF_SCALE:
        return current
    return balanced


def choose(judged: Sequence[Judged], weight: float, mode: Mode) -> Choice:
    """Return the weight and mode to use in place of those in force; they change only where that clearly pays.

    A weight has to beat the one in force on questions it was not chosen on (`FOLDS`-fold cross-validation) by more than
    a standard error; among weights that are as good within a standard error it is the one nearest to that in force. A
    single leg is preferred to hybrid only where it is better by two standard errors.
    """
    balanced = balanced_weight([(each.dense, each.bm25) for each in judged])
    tried = np.unique([weight, *((balanced or weight) * np.sqrt(2.0) ** STEPS)])
    now = int(np.flatnonzero(tried == weight)[0])
    hybrid = np.array([_reciprocal_ranks(each, tried) for each in judged])  # [questions, weights]
    legs = {"bm25": _leg_ranks(judged, "bm25"), "dense": _leg_ranks(judged, "dense")}
    fold = np.random.default_rng(SEED).permutation(len(judged)) % FOLDS
    held_out = np.empty(len(judged))
    for part in range(FOLDS):
        held_out[fold == part] = hybrid[fold == part, _best(hybrid[fold != part], tried, now)]
    chosen = _best(hybrid, tried, now)
    if not _clearly_above(held_out, hybrid[:, now], PAYS):
        chosen, held_out = now, hybrid[:, now]
    by_mode = {"hybrid": held_out, **legs}
    best: Mode = "hybrid"
    for leg in MODES[1:]:
        if _clearly_above(by_mode[leg], by_mode["hybrid"], LEG_PAYS) and by_mode[leg].mean() > by_mode[best].mean():
            best = leg
    before = hybrid[:, now] if mode == "hybrid" else legs[mode]
    if not _clearly_above(by_mode[best], before, 0.0):
        # Nothing is gained over what was in force.
        chosen, best, by_mode[best] = now, mode, before
    means = hybrid.mean(axis=0)
    return Choice(
        weight=float(tried[chosen]),
        mode=best,
        before=float(before.mean()),
        after=float(by_mode[best].mean()),
        curve=tuple(zip(tried.tolist(), means.tolist(), strict=True)),
    )


def _best(ranks: Values, tried: Values, now: int) -> int:
    """Return, of the weights within a standard error of the best, the one nearest to that in force."""
    best = int(ranks.mean(axis=0).argmax())
    behind = ranks[:, [best]] - ranks  # [questions, weights]
    near = behind.mean(axis=0) <= NEAR * behind.std(axis=0) / np.sqrt(len(ranks))
    distance = np.where(near, np.abs(np.log(tried / tried[now])), np.inf)
    return int(distance.argmin())


def _clearly_above(first: Values, second: Values, errors: float) -> bool:
    """Tell whether the first mean is above the second by so many standard errors of the paired difference."""
    difference = first - second
    return bool(difference.mean() > errors * difference.std() / np.sqrt(len(difference)))


def _reciprocal_ranks(judged: Judged, weights: Values) -> Values:
    """Return 1 / the rank of the first answer under each weight, 0 where there is none: float64[weights]."""
    if not judged.relevant.any():
        return np.zeros(len(weights))
    known = judged.dense[~np.isnan(judged.dense)]
    dense = np.where(np.isnan(judged.dense), known.min() if known.size else 0.0, judged.dense)
    scores = judged.bm25 + weights[:, None] * dense  # [weights, candidates]
    first = scores[:, judged.relevant].max(axis=1, keepdims=True)
    ranks: Values = 1.0 / (1 + (scores > first).sum(axis=1))
    return ranks


def _leg_ranks(judged: Sequence[Judged], leg: Mode) -> Values:
    """Return 1 / the rank of the first answer in one leg alone, for each question."""
    found = np.zeros(len(judged))
    for number, each in enumerate(judged):
        scores = each.dense if leg == "dense" else each.bm25
        listed = ~np.isnan(scores) if leg == "dense" else scores > 0
        if (each.relevant & listed).any():
            found[number] = 1.0 / (1 + (scores[listed] > scores[listed & each.relevant].max()).sum())
    return found
