"""A teacher's scores of (question, passage) pairs, each computed once, for a small encoder to learn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from dpr_lance.errors import InvalidInputError

from .batches import Batch, Corpus

Teacher: TypeAlias = Callable[[Sequence[tuple[str, tuple[str, str]]]], Sequence[float]]
"""From pairs (question, (title, text)) to scores, higher is better: a cross-encoder, or a larger dual encoder."""


class TeacherScores:
    """The teacher's scores, kept for later epochs: about 12 bytes per pair."""

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher
        self._known: dict[tuple[int, int], float] = {}

    def of(self, batch: Batch, corpus: Corpus) -> NDArray[np.float32]:
        """Return float32 [B, C]: the scores of each question's own passages, 0 elsewhere.

        Raises `InvalidInputError` when the teacher does not return a finite score for each pair.
        """
        found = np.zeros(batch.own.shape, dtype=np.float32)
        places = [(int(row), int(column)) for row, column in np.argwhere(batch.own)]
        keys = [(int(batch.questions[row]), int(batch.passages[column])) for row, column in places]
        fresh = [key for key in keys if key not in self._known]
        if fresh:
            pairs = [(corpus.questions[question], corpus.passages[passage]) for question, passage in fresh]
            scores = [float(score) for score in self._teacher(pairs)]
            if len(scores) != len(fresh) or not np.isfinite(scores).all():
                raise InvalidInputError(
                    f"the teacher gave {scores[:5]!r}... for {len(fresh)} pairs: one finite score each is needed"
                )
            self._known.update(zip(fresh, scores, strict=True))
        for (row, column), key in zip(places, keys, strict=True):
            found[row, column] = self._known[key]
        return found
