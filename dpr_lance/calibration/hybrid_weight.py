"""Chooses the weight and mode that rank a table's candidates best, by labelled questions or plain ones."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpr_lance.records.hits import MODES, Mode
from dpr_lance.records.table_info import WeightPoint
from dpr_lance.search.agreement import Agreement, agreement_on
from dpr_lance.search.fusion import Scores, filled

Values = NDArray[np.float64]

SEED = 2020
"""Seed of the cross-validation's folds."""
FOLDS = 5
FEWEST_QUESTIONS = 50
"""With fewer labels, plain questions are the better guide: 20 labels gained two thirds as much on eight sets."""
STEPS = np.arange(-10, 11) / 4
"""The weights that are tried are the suggested one times these powers of 2."""
LIKELY = 1 / 4
"""Prior standard deviation of the best weight's logarithm around the suggested one; matters with few questions only."""
SHARPNESS = 2.0 ** np.arange(-5, 1.25, 0.25)
"""Fused scores are multiplied by each of these to make probabilities of them."""
PARTS = np.array([1.0, 0.75, 0.5, 0.25])
"""Parts of the way to a better weight that are tried, until one pays."""
LEG_PAYS = 2.0
"""Standard errors of mean reciprocal rank by which a single leg must beat hybrid to replace it."""


@dataclass(frozen=True, slots=True)
class JudgedCandidates:
    """The scores of one question's candidates, and which of them answer it."""

    dense: Scores
    bm25: Scores
    relevant: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Choice:
    """The weight and mode that were chosen, and mean reciprocal rank before and after.

    Both means are over held-out questions: each fifth was ranked with the choice of the others.
    """

    weight: float
    mode: Mode
    before: float
    after: float
    curve: tuple[WeightPoint, ...]
    """All weights that were tried, over all questions."""


def balanced_weight(candidates: Sequence[tuple[Scores, Scores]]) -> float | None:
    """Return the weight at which both legs' scores spread equally: the median ratio of their standard deviations.

    `candidates` are each question's dense and BM25 scores. None where no question has two of both.
    """
    ratios = []
    for dense, bm25 in candidates:
        known = dense[~np.isnan(dense)]
        if len(known) > 1 and known.std() > 0 and bm25.std() > 0:
            ratios.append(float(bm25.std() / known.std()))
    return float(np.median(ratios)) if ratios else None


def mutual_weight(candidates: Sequence[tuple[Scores, Scores]], usual: float) -> float:
    """Return the weight that questions suggest without labels; see `Agreement.weight`.

    `candidates` are each question's dense and BM25 scores.
    """
    return sum(itertools.starmap(agreement_on, candidates), Agreement()).weight(usual)


def choose(judged: Sequence[JudgedCandidates], weight: float, mode: Mode, suggested: float) -> Choice:
    """Return the weight and mode to use in place of those in force; they change only where that pays.

    The best weight makes the questions' answers most likely (see `likelihoods_of`), with the one `suggested` without
    labels as prior: likelihood varies far less between questions than the rank of an answer. The weight moves there, or
    a part of the way, if that improves mean reciprocal rank on held-out questions (`FOLDS`-fold cross-validation). A
    single leg replaces hybrid only where it is better by `LEG_PAYS` standard errors.
    """
    tried = suggested * 2.0**STEPS
    likelihoods = np.array([likelihoods_of(each, tried) for each in judged])  # [questions, weights, sharpness]
    hybrid = np.array([_reciprocal_ranks(each, tried) for each in judged])  # [questions, weights]
    now = np.array([_reciprocal_ranks(each, np.array([weight]))[0] for each in judged])
    legs = {"bm25": _leg_ranks(judged, "bm25"), "dense": _leg_ranks(judged, "dense")}
    fold = np.random.default_rng(SEED).permutation(len(judged)) % FOLDS
    of_fold = [_towards(weight, tried[_most_likely(likelihoods[fold != part])]) for part in range(FOLDS)]
    parts = np.array([_reciprocal_ranks(each, of_fold[part]) for each, part in zip(judged, fold, strict=True)])
    chosen, held_out = weight, now
    for part, to in enumerate(_towards(weight, tried[_most_likely(likelihoods)])):
        if parts[:, part].mean() > now.mean() and not np.isclose(to, weight):
            chosen, held_out = float(to), parts[:, part]
            break
    by_mode = {"hybrid": held_out, **legs}
    best: Mode = "hybrid"
    for leg in MODES[1:]:
        gain = by_mode[leg] - by_mode["hybrid"]
        pays = gain.mean() > LEG_PAYS * gain.std() / np.sqrt(len(gain))
        if pays and by_mode[leg].mean() > by_mode[best].mean():
            best = leg
    before = now if mode == "hybrid" else legs[mode]
    if not by_mode[best].mean() > before.mean():
        chosen, best, by_mode[best] = weight, mode, before
    means = dict(zip(tried.tolist(), hybrid.mean(axis=0).tolist(), strict=True)) | {weight: float(now.mean())}
    return Choice(
        weight=chosen,
        mode=best,
        before=float(before.mean()),
        after=float(by_mode[best].mean()),
        curve=tuple(WeightPoint(*point) for point in sorted(means.items())),
    )


def _towards(weight: float, to: float) -> Values:
    """Return the weights that are `PARTS` of the way, on a scale of ratios."""
    return max(weight, 0.0) ** (1 - PARTS) * to**PARTS


def _most_likely(likelihoods: Values) -> int:
    """Return the index of the most likely weight, at its best sharpness."""
    doubt = (STEPS * np.log(2.0) / LIKELY) ** 2 / 2
    return int((likelihoods.sum(axis=0).max(axis=1) - doubt).argmax())


def likelihoods_of(judged: JudgedCandidates, weights: Values) -> NDArray[np.float32]:
    """Return log P(answer) under each weight: float32[weights, sharpness]; 0 where no candidate is an answer.

    P is a softmax of the candidates' fused scores times a sharpness (a conditional logit model: McFadden 1974), summed
    over the answers.
    """
    if not judged.relevant.any():
        return np.zeros((len(weights), len(SHARPNESS)), np.float32)
    scores = judged.bm25 + weights[:, None] * filled(judged.dense)  # [weights, candidates]
    scores -= scores[:, judged.relevant].max(axis=1, keepdims=True)
    sharp = (SHARPNESS[:, None] * scores[:, None, :]).astype(np.float32)  # [weights, sharpness, candidates]
    # The best answer has score 0. Scores so far above it that float32 overflows need not be exact.
    powers = np.exp(np.minimum(sharp, np.float32(80.0)))
    found: NDArray[np.float32] = np.log(powers[:, :, judged.relevant].sum(axis=2)) - np.log(powers.sum(axis=2))
    return found


def _reciprocal_ranks(judged: JudgedCandidates, weights: Values) -> Values:
    """Return 1 / the rank of the first answer under each weight, 0 where there is none: float64[weights]."""
    if not judged.relevant.any():
        return np.zeros(len(weights))
    scores = judged.bm25 + weights[:, None] * filled(judged.dense)  # [weights, candidates]
    first = scores[:, judged.relevant].max(axis=1, keepdims=True)
    ranks: Values = 1.0 / (1 + (scores > first).sum(axis=1))
    return ranks


def _leg_ranks(judged: Sequence[JudgedCandidates], leg: Mode) -> Values:
    """Return 1 / the rank of the first answer in one leg alone, for each question."""
    found = np.zeros(len(judged))
    for number, each in enumerate(judged):
        scores = each.dense if leg == "dense" else each.bm25
        listed = ~np.isnan(scores) if leg == "dense" else scores > 0
        if (each.relevant & listed).any():
            found[number] = 1.0 / (1 + (scores[listed] > scores[listed & each.relevant].max()).sum())
    return found
