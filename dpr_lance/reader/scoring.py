"""Scores of a re-ranker, checked: any object may be one, and a wrong score would put hits in a wrong order unseen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpr_lance.errors import DprLanceError, ReaderError, is_panic
from dpr_lance.reader.choice import name_of
from dpr_lance.reader.reranker import PassageText, Reranker

RerankScores = NDArray[np.float64]


class Candidates(NamedTuple):
    """A question with the passages to score for it, and their ids for messages."""

    question: str
    passages: Sequence[PassageText]
    ids: Sequence[str]

    def part(self, start: int, end: int) -> Candidates:
        """Return those from `start` to before `end`."""
        return Candidates(self.question, self.passages[start:end], self.ids[start:end])

    def only(self, kept: NDArray[np.bool_]) -> Candidates:
        """Return those that are `kept`."""
        return Candidates(self.question, [*compress(self.passages, kept)], [*compress(self.ids, kept)])


def scores_of(reranker: Reranker, asked: Sequence[Candidates]) -> list[RerankScores]:
    """Return, for each question, one finite score for each of its passages.

    Several questions are one call of the re-ranker's `score_pairs` where it has that method. A passage without text,
    which plain LanceDB can add to a table, is not read: it gets the lowest score of its question.

    Raises `ReaderError` for a re-ranker that fails, or gives the wrong number of scores or no finite numbers.
    """
    written = [np.array([bool(passage.text.strip()) for passage in each.passages], dtype=np.bool_) for each in asked]
    found = _scores(reranker, [each.only(kept) for each, kept in zip(asked, written, strict=True)])
    filled = [
        np.full(len(kept), scores.min() if len(scores) else 0.0) for scores, kept in zip(found, written, strict=True)
    ]
    for every, scores, kept in zip(filled, found, written, strict=True):
        every[kept] = scores
    return filled


def _scores(reranker: Reranker, asked: Sequence[Candidates]) -> list[RerankScores]:
    score_pairs = getattr(reranker, "score_pairs", None)
    if len(asked) > 1 and callable(score_pairs):
        pairs = [(each.question, passage) for each in asked for passage in each.passages]
        place = f"{len(pairs)} pairs of question and passage"
        scores = _answer(reranker, lambda: score_pairs(pairs), len(pairs), place) if pairs else np.empty(0)
        ends = np.cumsum([len(each.passages) for each in asked])
        parts = np.split(scores, ends[:-1])
    else:
        parts = [
            _answer(reranker, _call(reranker, each), len(each.ids), f"{len(each.ids)} passages for {_quoted(each)}")
            if each.ids
            else np.empty(0)
            for each in asked
        ]
    for each, part in zip(asked, parts, strict=True):
        bad = np.flatnonzero(~np.isfinite(part))
        if bad.size:
            at = int(bad[0])
            raise ReaderError(
                f"the re-ranker {name_of(reranker)!r} gave {part[at]} for {_quoted(each)} and the passage "
                f"{each.ids[at]!r} (number {at + 1} of {len(each.ids)}): scores must be finite numbers"
            )
    return parts


def _call(reranker: Reranker, asked: Candidates) -> Callable[[], object]:
    return lambda: reranker.score(asked.question, asked.passages)


def _quoted(asked: Candidates) -> str:
    return f"the question {asked.question!r:.80}"


def _answer(reranker: Reranker, call: Callable[[], object], count: int, place: str) -> RerankScores:
    """Return float64[count] of what a re-ranker gives."""
    name = name_of(reranker)
    try:
        given = call()
    except DprLanceError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        raise ReaderError(f"the re-ranker {name!r} failed on {place} ({type(error).__name__}: {error})") from error
    try:
        array: NDArray[Any] = np.asarray(given)
    except ValueError as error:  # rows of several lengths
        raise ReaderError(f"the re-ranker {name!r} gave scores of no even shape for {place} ({error})") from error
    if array.dtype.kind not in "fiu":
        raise ReaderError(
            f"the re-ranker {name!r} gave {type(given).__name__} of {array.dtype} for {place}: return one number for "
            f"each passage, float32[{count}]"
        )
    if array.shape != (count,):
        raise ReaderError(
            f"the re-ranker {name!r} gave an array of shape {array.shape} for {place}: return one number for each "
            f"passage, float32[{count}]"
        )
    return array.astype(np.float64)
