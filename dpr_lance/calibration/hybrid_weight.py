"""Which weight and mode rank a table's candidates best: from labelled questions or plain ones, in numpy alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpr_lance.records.hits import MODES, Mode
from dpr_lance.search.fusion import Scores, filled

Values = NDArray[np.float64]

SEED = 2020
"""Which questions fall into which part of a cross-validation."""
OVER_BALANCED = 1.75
"""A weight that is good for an encoder's vectors is so many times the one at which both legs' scores spread equally:
about the median over ten sets of questions, whose best weights were 0.6 to 5 times it."""
OUT_OF_SCALE = 4.0
"""A weight that is so many times off what the spreads suggest was made for vectors of another scale, and no table's
questions move a weight further."""
EVEN_LOSSES = 0.8
"""What dense loses on BM25's favourites, over what BM25 loses on dense's, where both legs err alike: BM25 has few high
scores. With it the weights of ten sets of questions came nearest to their best ones."""
DOUBTS = 10
"""Questions that speak for the usual weight before any is asked."""

FOLDS = 5
FEWEST_QUESTIONS = 50
"""With fewer labels, what plain questions tell is the better guide: on eight sets the weight that 20 labels chose
gained two thirds as much."""
STEPS = np.arange(-10, 11) / 4
"""Weights that are tried: the one that the questions suggest without their labels, times these powers of 2."""
LIKELY = 1 / 4
"""Standard deviation of the best weight's logarithm around that suggestion. With 50 questions the gain is smaller with
twice as much; from some hundred on it makes no difference."""
SHARPNESS = 2.0 ** np.arange(-5, 1.25, 0.25)
"""What fused scores are multiplied by, tried for each weight, to make probabilities of them."""
PARTS = np.array([1.0, 0.75, 0.5, 0.25])
"""How much of the way to a better weight is tried, until some of it pays."""
LEG_PAYS = 2.0
"""Standard errors of mean reciprocal rank by which a single leg has to beat the hybrid to replace it."""


@dataclass(frozen=True, slots=True)
class JudgedCandidates:
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


def weight_in_scale(weight: float, balanced: float | None) -> float:
    """Return the weight, or `OVER_BALANCED` times the balanced one where the weight is out of scale."""
    usual = None if balanced is None else OVER_BALANCED * balanced
    if usual is None or usual / OUT_OF_SCALE <= weight <= usual * OUT_OF_SCALE:
        return weight
    return usual


def mutual_weight(candidates: Sequence[tuple[Scores, Scores]], usual: float) -> float:
    """Return the weight that questions suggest without labels: each leg is judged by the other.

    The favourite of the better leg is the answer more often, and an answer has a good score in the other leg too; a
    wrong favourite of the worse leg has none. So the leg that loses less on the other's favourites, in units of its own
    spread, is the worse one: it takes wrong passages for good ones. `usual` is the weight for two legs that err alike,
    the encoder's own; it moves by the ratio of the losses, and less where few questions have two favourites. An encoder
    whose vectors are noise loses weight too, but only labels tell how much it deserves.

    Each question gives the dense and BM25 scores of its candidates.
    """
    both = [(dense, bm25) for dense, bm25 in candidates if bm25.any() and not np.isnan(dense).all()]
    facts = np.array([_losses(filled(dense), bm25) for dense, bm25 in both]).reshape(-1, 2, 2)
    (dense_lost, bm25_lost), (dense_spread, bm25_spread) = facts.sum(axis=0)
    if min(dense_lost, bm25_lost, dense_spread, bm25_spread) <= 0:
        return usual
    losses = (dense_lost / dense_spread) / (bm25_lost / bm25_spread)
    differing = int((facts[:, 0] > 0).all(axis=1).sum())
    moved = (losses / EVEN_LOSSES) ** (differing / (differing + DOUBTS))
    return usual * float(np.clip(moved, 1 / OUT_OF_SCALE, OUT_OF_SCALE))


def _losses(dense: Scores, bm25: Scores) -> list[list[float]]:
    """Return how far each leg's score of the other's favourite is below its best, and both spreads; dense first."""
    first, second = int(dense.argmax()), int(bm25.argmax())
    lost = [float(dense[first] - dense[second]), float(bm25[second] - bm25[first])]
    return [lost, [float(dense.std()), float(bm25.std())]]


def choose(judged: Sequence[JudgedCandidates], weight: float, mode: Mode, suggested: float) -> Choice:
    """Return the weight and mode to use in place of those in force; they change only where that pays.

    The best weight is the one under which the questions' answers are most likely (see `_likelihoods`), all the more
    likely the nearer it is to the one that is `suggested` without labels: likelihood varies far less from question to
    question than the rank of an answer. The weight in force goes there, or as far of the way in `PARTS`, as it gains
    mean reciprocal rank on questions that were not chosen on (`FOLDS`-fold cross-validation). A single leg is preferred
    to hybrid only where it is better by two standard errors.
    """
    tried = suggested * 2.0**STEPS
    likelihoods = np.array([_likelihoods(each, tried) for each in judged])  # [questions, weights, sharpness]
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
        if _clearly_above(by_mode[leg], by_mode["hybrid"], LEG_PAYS) and by_mode[leg].mean() > by_mode[best].mean():
            best = leg
    before = now if mode == "hybrid" else legs[mode]
    if not by_mode[best].mean() > before.mean():
        # Nothing is gained over what was in force.
        chosen, best, by_mode[best] = weight, mode, before
    means = dict(zip(tried.tolist(), hybrid.mean(axis=0).tolist(), strict=True)) | {weight: float(now.mean())}
    return Choice(
        weight=chosen,
        mode=best,
        before=float(before.mean()),
        after=float(by_mode[best].mean()),
        curve=tuple(sorted(means.items())),
    )


def _towards(weight: float, to: float) -> Values:
    """Return the weights that are `PARTS` of the way, on a scale of ratios."""
    return max(weight, 0.0) ** (1 - PARTS) * to**PARTS


def _most_likely(likelihoods: Values) -> int:
    """Return the index of the most likely of the weights, at whatever sharpness."""
    doubt = (STEPS * np.log(2.0) / LIKELY) ** 2 / 2
    return int((likelihoods.sum(axis=0).max(axis=1) - doubt).argmax())


def _likelihoods(judged: JudgedCandidates, weights: Values) -> NDArray[np.float32]:
    """Return log P(answer) under each weight: float32[weights, sharpness]; 0 where no candidate is an answer.

    P is that of a softmax over the candidates' fused scores, times a sharpness (a conditional logit model: McFadden
    1974); with several answers it is the sum of theirs.
    """
    if not judged.relevant.any():
        return np.zeros((len(weights), len(SHARPNESS)), np.float32)
    scores = judged.bm25 + weights[:, None] * filled(judged.dense)  # [weights, candidates]
    scores -= scores[:, judged.relevant].max(axis=1, keepdims=True)
    sharp = (SHARPNESS[:, None] * scores[:, None, :]).astype(np.float32)  # [weights, sharpness, candidates]
    # The best answer has the score 0; so much above it that float32 has no power of it, the exact one does not matter.
    powers = np.exp(np.minimum(sharp, np.float32(80.0)))
    found: NDArray[np.float32] = np.log(powers[:, :, judged.relevant].sum(axis=2)) - np.log(powers.sum(axis=2))
    return found


def _clearly_above(first: Values, second: Values, errors: float) -> bool:
    """Tell whether the first mean is above the second by so many standard errors of the paired difference."""
    difference = first - second
    return bool(difference.mean() > errors * difference.std() / np.sqrt(len(difference)))


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
