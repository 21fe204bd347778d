"""Top-k accuracy in per cent, as the library measures it, and spreads of ratios."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dpr_lance import metrics
from dpr_lance.metrics import SEED, Interval, bootstrap

__all__ = ["SEED", "Interval", "Spread", "bootstrap", "first_rank", "hits_within"]


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


def hits_within(ranks: Sequence[int], k: int) -> npt.NDArray[np.float64]:
    """float64[questions]: 100 where the first gold passage is among the first k, else 0: means are per cent."""
    return 100 * metrics.hits_within(ranks, k)
