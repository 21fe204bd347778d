"""Pure numbers: top-k accuracy from ranks, bootstrap intervals over questions, spreads of ratios."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SEED = 2020
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over questions with the 95 % interval of its bootstrap."""

    mean: float
    low: float
    high: float


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
    return next((rank for rank, item in enumerate(ranking, 1) if item in gold), 0)


def hits_within(ranks: Sequence[int], k: int) -> npt.NDArray[np.float64]:
    """float64[questions]: 100 where the first gold passage is among the first k, else 0: means are per cent."""
    found = np.asarray(ranks)
    return np.where((found >= 1) & (found <= k), 100.0, 0.0)


def bootstrap(values: npt.NDArray[np.float64], *, seed: int = SEED) -> Interval:
    """Mean of one value a question with its 95 % percentile interval over resampled questions."""
    random = np.random.default_rng(seed)
    means = [float(values[random.integers(0, len(values), len(values))].mean()) for _ in range(RESAMPLES)]
    low, high = np.percentile(means, (2.5, 97.5))
    return Interval(float(values.mean()), float(low), float(high))
