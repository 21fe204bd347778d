"""Run files and labels in the form of TREC, as trec_eval reads them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TextIO
from urllib.parse import quote

import numpy as np

from dpr_lance.errors import InvalidInputError
from dpr_lance.inputs.questions import LabelledQuestion

_BLANK = re.compile(r"\s")


class RunFiles:
    """Files in a folder, created if missing: `ROW.run` (question, Q0, passage, rank, score, row), and `qrels.txt`.

    Scores are written as float32, in which trec_eval computes, each below the one before: it orders by score, and might
    order ties in another way. Blanks in ids would end a column, so they are written as %20 and so on.
    """

    def __init__(self, folder: Path, rows: Iterable[str]) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._runs: dict[str, TextIO] = {row: (folder / f"{row}.run").open("w", encoding="utf-8") for row in rows}
            self._labels: TextIO = (folder / "qrels.txt").open("w", encoding="utf-8")
        except OSError as error:
            raise InvalidInputError(f"{folder}: run files cannot be written ({error.strerror or error})") from None

    def write(self, row: str, question: str, ranking: Sequence[tuple[str, float]]) -> None:
        """Write the ids and scores that a row found for a question, best first."""
        last = np.float32(np.inf)
        for rank, (name, score) in enumerate(ranking, start=1):
            last = min(np.float32(score), np.nextafter(last, np.float32(-np.inf)))
            self._runs[row].write(f"{_column(question)} Q0 {_column(name)} {rank} {last!s} {row}\n")

    def write_labels(self, questions: Iterable[LabelledQuestion]) -> None:
        """Write the labels of questions."""
        for question in questions:
            for name, grade in question.labels.items():
                self._labels.write(f"{_column(question.id)} 0 {_column(name)} {grade}\n")

    def __enter__(self) -> RunFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (*self._runs.values(), self._labels):
            file.close()


def _column(name: str) -> str:
    return _BLANK.sub(lambda blank: quote(blank.group()), name)
