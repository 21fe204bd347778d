"""What re-ranks: any object that scores passages for a question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class PassageText(NamedTuple):
    """A passage as a re-ranker reads it; the title may be empty."""

    title: str
    text: str


class Reranker(Protocol):
    """Scores passages for a question, such as a `Reader`, or an object of your own."""

    def score(self, question: str, passages: Sequence[PassageText]) -> NDArray[np.float32]:
        """Return one score for each passage, float32[n]; higher is better."""
        ...
