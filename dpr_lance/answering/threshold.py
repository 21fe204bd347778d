"""Chooses the probability below which an answer is withheld, by questions with and without an answer."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import closing
from typing import NamedTuple

import numpy as np

from dpr_lance.answering.answerer import Answerer, AnswerOptions
from dpr_lance.errors import InvalidInputError
from dpr_lance.inputs.questions import LabelledQuestion, QuestionSource, read_questions
from dpr_lance.records.answers import AnswerCalibration
from dpr_lance.search.options import SearchOptions
from dpr_lance.search.searcher import QUESTIONS_AT_ONCE
from dpr_lance.table.tuning import keep_answer_calibration
from dpr_lance.text.exact_match import word_f1

FEWEST, MOST = 20, 500
"""Questions that are needed, and that are read: each takes a reader `k` passages."""
_FOLDS = 5


class JudgedAnswer(NamedTuple):
    """The best answer to a question: its probability, its F1 (0 where there is nothing to find), and which of these."""

    probability: float
    f1: float
    answerable: bool


def calibrated_threshold(answerer: Answerer, source: QuestionSource, k: int, *, split: str | None) -> AnswerCalibration:
    """Choose and store the threshold; see `Retriever.calibrate_answers`."""
    store = answerer.searcher.store
    if store.find() is None:
        raise store.absent()
    with closing(read_questions(source, split=split, unanswerable=True)) as reader:
        questions = list(itertools.islice(reader, MOST))
    _check(questions)
    judged = []
    search, options = SearchOptions(k=k, rerank=False, learn=False), AnswerOptions(k, 1, 0.0)
    for start in range(0, len(questions), QUESTIONS_AT_ONCE):
        part = questions[start : start + QUESTIONS_AT_ONCE]
        found = answerer.answer([question.text for question in part], search, options)
        for question, answers in zip(part, found, strict=True):
            best = answers.best
            f1 = 0.0 if best is None else word_f1(best.text, question.answers)
            judged.append(JudgedAnswer(0.0 if best is None else best.probability, f1, bool(question.answers)))
    usual = answerer.usual_threshold()
    before, after = mean_f1(judged, usual), cross_validated(judged)
    card = answerer.reader.card
    found_threshold = AnswerCalibration(
        reader=card.name,
        fingerprint=card.fingerprint,
        threshold=best_threshold(judged) if after > before else usual,
        questions=len(judged),
        unanswerable=sum(not each.answerable for each in judged),
        before=before,
        after=max(after, before),
    )
    keep_answer_calibration(store, found_threshold)
    return found_threshold


def _check(questions: Sequence[LabelledQuestion]) -> None:
    for question in questions:
        if question.labels and not question.answers:
            raise InvalidInputError(
                f"{question.place or f'question {question.id!r}'}: it has labels and no answers; to calibrate answers, "
                f"give its answers, or neither for a question without an answer"
            )
    without = sum(not question.answers for question in questions)
    if len(questions) < FEWEST or not 0 < without < len(questions):
        raise InvalidInputError(
            f"questions: {len(questions) - without} with answers and {without} without are too few to calibrate with: "
            f"give {FEWEST} or more in all, of both kinds"
        )


def mean_f1(judged: Sequence[JudgedAnswer], threshold: float) -> float:
    """Return the mean F1 with a threshold: of a withheld answer, 1 where there is none to find, else 0."""
    gains = [each.f1 if each.probability >= threshold else float(not each.answerable) for each in judged]
    return float(np.mean(gains))


def best_threshold(judged: Sequence[JudgedAnswer]) -> float:
    """Return the threshold with the highest mean F1, the lowest of several: between two of the probabilities."""
    known = sorted({each.probability for each in judged})
    middles = [(lower + upper) / 2 for lower, upper in itertools.pairwise(known)]
    tried = [0.0, *middles, min(1.0, np.nextafter(known[-1], 2.0))]
    return float(max(tried, key=lambda threshold: (mean_f1(judged, threshold), -threshold)))


def cross_validated(judged: Sequence[JudgedAnswer]) -> float:
    """Return the mean F1 of questions with thresholds chosen on the others."""
    gains = []
    for fold in range(_FOLDS):
        chosen = best_threshold([each for at, each in enumerate(judged) if at % _FOLDS != fold])
        gains += [mean_f1([each], chosen) for each in judged[fold::_FOLDS]]
    return float(np.mean(gains))
