"""The numbers that results keep, as lists for JSON: intervals, spreads, percentiles."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.data import LabelledQuestion
from dpr_lance.evaluation import metrics
from dpr_lance.records.hits import Hits

SEED = metrics.SEED

Floats = npt.NDArray[np.float64]
Ranks = Sequence[int]
"""1-based rank of each question's first labelled passage; 0 where it was not found."""


def first_rank(ranking: Sequence[object], gold: Collection[object]) -> int:
    """Return the rank of the first item that is in `gold`; 0 when there is none."""
    return metrics.first_rank(item in gold for item in ranking)


def ranks_of(found: Sequence[Hits], questions: Sequence[LabelledQuestion]) -> list[int]:
    """Return the rank of each question's first labelled document among its hits; 0 where it was not found."""
    return [
        first_rank([hit.document_id for hit in hits], question.gold)
        for hits, question in zip(found, questions, strict=True)
    ]


def hits_within(ranks: Ranks, k: int) -> Floats:
    """Return 100 for each question that has a labelled passage among the first k, else 0: means are per cent."""
    return 100 * metrics.hits_within(ranks, k)


def interval(values: Floats) -> list[float]:
    """Return the mean of one value a question with its 95 % bootstrap interval: mean, low, high."""
    found = metrics.bootstrap(values)
    return [found.mean, found.low, found.high]


def accuracies(ranks: Ranks, ks: Sequence[int]) -> list[list[float]]:
    """Return the accuracy in per cent at each k, as intervals."""
    return [interval(hits_within(ranks, k)) for k in ks]


def gain(first: Ranks, second: Ranks, k: int) -> list[float]:
    """Return the points of top-k accuracy by which the first ranks are better on the same questions, as interval."""
    return interval(hits_within(first, k) - hits_within(second, k))


def spread(values: Sequence[float]) -> list[float]:
    """Return minimum, median and maximum over rounds."""
    return [min(values), float(np.median(values)), max(values)]


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return the spread of the ratios that are formed within each round."""
    return spread([mine / other for mine, other in zip(ours, theirs, strict=True)])


def p50_p99(values: Sequence[float]) -> list[float]:
    """Return median and 99th percentile."""
    return [float(value) for value in np.percentile(values, (50, 99))]


def cosines(ours: npt.NDArray[np.float32], theirs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the cosine of each row with its counterpart."""
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    found: npt.NDArray[np.float32] = (ours * theirs).sum(axis=1) / lengths
    return found
