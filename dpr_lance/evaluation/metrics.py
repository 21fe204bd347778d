"""Measures of retrieval: top-k accuracy, bootstrap intervals, paired tests, MRR, nDCG and recall.

Ranks count from 1; 0 means "not found". Accuracies are shares from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpr_lance.errors import InvalidInputError, MissingExtraError

Values = NDArray[np.float64]

SEED = 2020
RESAMPLES = 2_000
"""Bootstrap samples for an interval; its ends then vary by about a twentieth of its width."""


def first_rank(found: Iterable[bool]) -> int:
    """Return the rank of the first hit; 0 when there is none."""
    return next((rank for rank, hit in enumerate(found, start=1) if hit), 0)


def hits_within(ranks: Sequence[int] | NDArray[np.int64], k: int) -> Values:
    """Return float64[questions]: 1 where the first hit is among the first k, else 0. The mean is top-k accuracy."""
    found = np.asarray(ranks)
    return ((found >= 1) & (found <= k)).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over questions with its bootstrap interval."""

    mean: float
    low: float
    high: float


def bootstrap(values: Values, *, resamples: int = RESAMPLES) -> Interval:
    """Return the mean of one value per question with its 95 % percentile interval over resampled questions.

    Of `a - b`, two rows on the same questions, it is the paired bootstrap. Raises `InvalidInputError` without values.
    """
    if not len(values):
        raise InvalidInputError("there is no question to take a mean over")
    distinct, counts = np.unique(values, return_counts=True)
    # The counts of the distinct values in a sample are multinomial: no need to draw questions one by one.
    drawn = np.random.default_rng(SEED).multinomial(len(values), counts / len(values), size=resamples)
    means = drawn @ distinct / len(values)
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(float(values.mean()), float(low), float(high))


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Two rows on the same questions: how the first differs from the second.

    Only the first answers `wins` questions, only the second answers `losses`. `difference` is the mean of first minus
    second with the interval of the paired bootstrap. `p_value` is that of McNemar's exact test, two-sided: the
    probability of wins and losses at least this uneven if both rows were equally good.
    """

    wins: int
    losses: int
    difference: Interval
    p_value: float


def paired_test(first: Values, second: Values) -> PairedTest:
    """Compare two rows of hits (float64[questions] of 0 and 1, the same questions in the same order)."""
    if len(first) != len(second):
        raise InvalidInputError(f"{len(first)} questions cannot be paired with {len(second)}")
    wins, losses = int((first > second).sum()), int((first < second).sum())
    return PairedTest(wins, losses, bootstrap(first - second), mcnemar(wins, losses))


def mcnemar(wins: int, losses: int) -> float:
    """Return the two-sided p-value of McNemar's exact test, that of `wins + losses` throws of a fair coin."""
    throws, fewer = wins + losses, min(wins, losses)
    term = total = 1  # the ways to have 0 of the rarer outcome, then up to 1, ...
    for taken in range(fewer):
        term = term * (throws - taken) // (taken + 1)
        total += term
    return min(1.0, 2 * total / (1 << throws))


def ranking_measures(
    labels: Sequence[Mapping[str, int]], rankings: Sequence[Sequence[str]], ks: Iterable[int]
) -> dict[str, Values]:
    """Return float64[questions] of MRR@10, nDCG@10 and recall at each k, by name: "mrr@10", "ndcg@10", "recall@20".

    For each question, `labels` has the relevant ids with their grades and `rankings` the ids that were found, best
    first, each once. Raises `MissingExtraError` if ir-measures is not installed.
    """
    try:
        import ir_measures  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtraError("MRR@10, nDCG@10 and recall@k (by ir-measures)", "eval") from error
    measures = {"mrr@10": ir_measures.RR @ 10, "ndcg@10": ir_measures.nDCG @ 10}
    measures |= {f"recall@{k}": ir_measures.R @ k for k in ks}
    qrels = {str(number): dict(grades) for number, grades in enumerate(labels)}
    run = {
        str(number): {name: float(-rank) for rank, name in enumerate(ranking)}
        for number, ranking in enumerate(rankings)
        if ranking
    }
    values = {name: np.zeros(len(labels)) for name in measures}
    names = {measure: name for name, measure in measures.items()}
    for found in ir_measures.iter_calc(list(names), qrels, run):
        values[names[found.measure]][int(found.query_id)] = found.value
    return values
