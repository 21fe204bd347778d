"""A teacher's scores of (question, passage) pairs, each computed once, for a smaller model to learn from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from dpr_lance.errors import InvalidInputError
from dpr_lance.reader.reranker import PassageText, Reranker
from dpr_lance.reader.scoring import Candidates, scores_of

from .batches import Batch, Corpus

Teacher: TypeAlias = Callable[[Sequence[tuple[str, tuple[str, str]]]], Sequence[float]]
"""From pairs (question, (title, text)) to scores, higher is better: a cross-encoder, or a larger dual encoder."""
Key: TypeAlias = tuple[int, int]
"""Positions of a question and of a passage in a corpus."""


def reranker_teacher(reranker: Reranker) -> Teacher:
    """Return a teacher that scores as `reranker` does, and raises `ReaderError` for scores that are not finite."""

    def teacher(pairs: Sequence[tuple[str, tuple[str, str]]]) -> list[float]:
        places: dict[str, list[int]] = {}
        for number, (question, _) in enumerate(pairs):
            places.setdefault(question, []).append(number)
        asked = [
            Candidates(question, [PassageText(*pairs[at][1]) for at in numbers], [f"pair {at}" for at in numbers])
            for question, numbers in places.items()
        ]
        found = np.empty(len(pairs))
        for numbers, scores in zip(places.values(), scores_of(reranker, asked), strict=True):
            found[numbers] = scores
        return found.tolist()

    return teacher


class TeacherScores:
    """The teacher's scores, kept for later epochs: about 12 bytes per pair.

    With a file they outlast the process: a line for each time that the teacher was asked, with the scores by a hash of
    question and passage. A line that a crash cut off is asked for again.
    """

    def __init__(self, teacher: Teacher, file: Path | None = None) -> None:
        self._teacher, self._file = teacher, file
        self._known: dict[Key, float] = {}
        self._stored = _read(file) if file is not None and file.is_file() else {}

    def of(self, batch: Batch, corpus: Corpus) -> NDArray[np.float32]:
        """Return float32 [B, C]: the scores of each question's own passages, 0 elsewhere.

        Raises `InvalidInputError` when the teacher does not return a finite score for each pair.
        """
        found = np.zeros(batch.own.shape, dtype=np.float32)
        places = [(int(row), int(column)) for row, column in np.argwhere(batch.own)]
        keys = [(int(batch.questions[row]), int(batch.passages[column])) for row, column in places]
        for (row, column), score in zip(places, self.of_pairs(keys, corpus), strict=True):
            found[row, column] = score
        return found

    def of_pairs(self, keys: Sequence[Key], corpus: Corpus) -> list[float]:
        """Return the score of each pair; raises as `of` does."""
        fresh = [key for key in keys if key not in self._known]
        names = {key: _name(key, corpus) for key in fresh} if self._file is not None else {}
        self._known |= {key: self._stored[name] for key, name in names.items() if name in self._stored}
        unknown = [key for key in dict.fromkeys(fresh) if key not in self._known]
        if unknown:
            pairs = [(corpus.questions[question], corpus.passages[passage]) for question, passage in unknown]
            scores = [float(score) for score in self._teacher(pairs)]
            if len(scores) != len(unknown) or not np.isfinite(scores).all():
                raise InvalidInputError(
                    f"the teacher gave {scores[:5]!r}... for {len(unknown)} pairs: one finite score each is needed"
                )
            self._known.update(zip(unknown, scores, strict=True))
            if self._file is not None:
                line = {names[key]: score for key, score in zip(unknown, scores, strict=True)}
                with self._file.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(line) + "\n")
        return [self._known[key] for key in keys]


def _name(key: Key, corpus: Corpus) -> str:
    question, passage = key
    text = json.dumps([corpus.questions[question], corpus.passages[passage]])
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _read(file: Path) -> dict[str, float]:
    """Return the scores of a file, and end its last line where a crash cut it off."""
    found: dict[str, float] = {}
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
        file.write_text("".join(lines), encoding="utf-8")
    for number, line in enumerate(lines, start=1):
        try:
            found |= json.loads(line)
        except (ValueError, TypeError) as error:
            raise InvalidInputError(f"{file}:{number}: it holds no scores of a teacher ({error}): delete it") from error
    return found
