"""How the scores of both legs agree on the questions that are asked, and what that says about λ without labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dpr_lance.search.fusion import Scores, filled

OVER_BALANCED = 1.75
"""A good weight for an encoder's vectors is this multiple of the balanced one: about the median over ten sets of
questions, whose best weights were 0.6 to 5 times it."""
OUT_OF_SCALE = 4.0
"""A weight that differs from that by more than this factor was made for vectors of another scale; nor do a table's
questions move a weight further."""
EVEN_LOSSES = 0.8
"""Dense's loss on BM25's favourites over BM25's loss on dense's, where both legs err equally often: BM25 has few high
scores. Fitted to ten sets of questions."""
DOUBTS = 10
"""The usual weight counts as much as this many questions."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Sums over questions that both legs have found passages for.

    `dense_lost` is how far below its best score dense search scores BM25's favourite, `bm25_lost` the same the other
    way round; the spreads are standard deviations over a question's candidates. For `differing` questions the
    favourites are two passages.
    """

    questions: int = 0
    differing: int = 0
    dense_lost: float = 0.0
    bm25_lost: float = 0.0
    dense_spread: float = 0.0
    bm25_spread: float = 0.0

    def __add__(self, other: Agreement) -> Agreement:
        """Return the sums over the questions of both."""
        return Agreement(
            self.questions + other.questions,
            self.differing + other.differing,
            self.dense_lost + other.dense_lost,
            self.bm25_lost + other.bm25_lost,
            self.dense_spread + other.dense_spread,
            self.bm25_spread + other.bm25_spread,
        )

    @property
    def balanced(self) -> float | None:
        """The weight at which both legs' scores spread equally; None where one of them does not."""
        if min(self.dense_spread, self.bm25_spread) <= 0:
            return None
        return self.bm25_spread / self.dense_spread

    def weight(self, usual: float) -> float:
        """Return the weight that the questions suggest: each leg is judged by the other.

        The better leg's favourite is more often the answer, which has a good score in the other leg too; a wrong
        favourite of the worse leg has a low one. So the leg whose score drops more for the other's favourites, in units
        of its own spread, is the better one. `usual` is the weight for two legs that err equally often; it moves by the
        ratio of the losses, and less where few questions have two favourites.
        """
        if min(self.dense_lost, self.bm25_lost, self.dense_spread, self.bm25_spread) <= 0:
            return usual
        losses = (self.dense_lost / self.dense_spread) / (self.bm25_lost / self.bm25_spread)
        moved = (losses / EVEN_LOSSES) ** (self.differing / (self.differing + DOUBTS))
        return usual * float(np.clip(moved, 1 / OUT_OF_SCALE, OUT_OF_SCALE))


def agreement_on(dense: Scores, bm25: Scores) -> Agreement:
    """Return what one question's candidates say; nothing where a leg has found none of them."""
    if not bm25.any() or np.isnan(dense).all():
        return Agreement()
    dense = filled(dense)
    first, second = int(dense.argmax()), int(bm25.argmax())
    dense_lost, bm25_lost = float(dense[first] - dense[second]), float(bm25[second] - bm25[first])
    differing = int(dense_lost > 0 and bm25_lost > 0)
    return Agreement(1, differing, dense_lost, bm25_lost, float(dense.std()), float(bm25.std()))


def weight_in_scale(weight: float, balanced: float | None) -> float:
    """Return the weight, or `OVER_BALANCED` times the balanced one where the weight is out of scale."""
    usual = None if balanced is None else OVER_BALANCED * balanced
    if usual is None or usual / OUT_OF_SCALE <= weight <= usual * OUT_OF_SCALE:
        return weight
    return usual
