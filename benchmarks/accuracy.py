"""Top-k accuracy in per cent, as the library measures it, and spreads of ratios."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dpr_lance.evaluation import metrics
from dpr_lance.evaluation.metrics import SEED, Interval, bootstrap

__all__ = ["SEED", "Floats", "Interval", "Spread", "bootstrap", "first_rank", "hits_within", "mean_of_sets"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Spread:
    """Minimum, median and maximum over rounds."""

    minimum: float
    median: float
    maximum: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        return cls(min(values), float(np.median(values)), max(values))

    def __str__(self) -> str:
        return f"{self.minimum:.2f} / **{self.median:.2f}** / {self.maximum:.2f}"


def first_rank(ranking: Sequence[object], gold: Collection[object]) -> int:
    """1-based rank of the first item of `ranking` that is in `gold`; 0 when there is none."""
    return metrics.first_rank(item in gold for item in ranking)


def hits_within(ranks: Sequence[int], k: int) -> Floats:
    """float64[questions]: 100 where the first gold passage is among the first k, else 0: means are per cent."""
    return 100 * metrics.hits_within(ranks, k)


def mean_of_sets(values: Sequence[Floats]) -> Interval:
    """The mean over sets of their means, of one value a question; questions are resampled within each set."""
    drawn = np.random.default_rng(SEED)
    means = np.mean([drawn.choice(each, (metrics.RESAMPLES, len(each))).mean(axis=1) for each in values], axis=0)
    low, high = np.quantile(means, ((1 - metrics.CONFIDENCE) / 2, (1 + metrics.CONFIDENCE) / 2))
    return Interval(float(np.mean([each.mean() for each in values])), float(low), float(high))
