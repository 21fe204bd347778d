"""The methods of a `Retriever` that answer questions from what they find."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import overload

from dpr_lance.answering.answerer import ANSWERS, PASSAGES, Answerer, AnswerOptions, ReaderSource, loaded_reader
from dpr_lance.answering.threshold import calibrated_threshold
from dpr_lance.inputs.questions import QuestionSource, checked_questions
from dpr_lance.records.answers import AnswerCalibration, Answers
from dpr_lance.records.hits import Mode
from dpr_lance.search.options import SearchOptions
from dpr_lance.search.searchable import Searchable
from dpr_lance.table.filters import Filter


class Answerable(Searchable):
    """A table that can be searched and asked."""

    @overload
    def answer(  # type: ignore[overload-overlap]  # a string is a sequence of strings, and the first one that fits
        self,
        question: str,
        k: int = PASSAGES,
        *,
        mode: Mode | None = None,
        where: Filter = None,
        reader: ReaderSource = None,
        threshold: float | None = None,
        most: int = ANSWERS,
    ) -> Answers: ...
    @overload
    def answer(
        self,
        question: Sequence[str],
        k: int = PASSAGES,
        *,
        mode: Mode | None = None,
        where: Filter = None,
        reader: ReaderSource = None,
        threshold: float | None = None,
        most: int = ANSWERS,
    ) -> list[Answers]: ...
    def answer(
        self,
        question: str | Sequence[str],
        k: int = PASSAGES,
        *,
        mode: Mode | None = None,
        where: Filter = None,
        reader: ReaderSource = None,
        threshold: float | None = None,
        most: int = ANSWERS,
    ) -> Answers | list[Answers]:
        """Return the answers to a question, or a list of such results for a list of questions; nothing is generated.

        An answer is a span of one of the k best passages, found as `search` finds them with this `mode` and `where`. A
        `reader` (None: the packaged one, a name, a bundle folder, or a `Reader`) scores the passages and the spans
        (paper, section 6.1): a span is as probable as its passage among the k times itself in the passage. The same
        answer in several places is returned once, with the sum of the probabilities and all places. Up to `most`
        answers are returned; none, with the reason, where the best is less probable than `threshold` (None: that of
        `calibrate_answers`, else the reader's own).

            answers = retriever.answer("where does the Rhine rise?")
            answers.best.text if answers.best else answers.reason

        Raises as `search` does, and `ReaderError` when the reader is not available or finds no spans.
        """
        self._store.check_usable()
        options = AnswerOptions(k, most, threshold).checked()
        search = SearchOptions(k=options.k, mode=mode, where=where, rerank=False).checked()
        questions = checked_questions(question)
        answerer = Answerer(self._searcher, loaded_reader(reader, self._searcher.rerankers))
        answers = answerer.answer(questions, search, options)
        return answers[0] if isinstance(question, str) else answers

    async def answer_async(
        self,
        question: str,
        k: int = PASSAGES,
        *,
        mode: Mode | None = None,
        where: Filter = None,
        reader: ReaderSource = None,
        threshold: float | None = None,
        most: int = ANSWERS,
    ) -> Answers:
        """Return what `answer` does for one question, without keeping the event loop from other work meanwhile."""
        self._store.check_usable()
        return await asyncio.to_thread(
            self.answer, question, k, mode=mode, where=where, reader=reader, threshold=threshold, most=most
        )

    def calibrate_answers(
        self, questions: QuestionSource, k: int = PASSAGES, *, reader: ReaderSource = None, split: str | None = None
    ) -> AnswerCalibration:
        """Choose the probability below which an answer is withheld, and store it next to the table for this reader.

        `questions`: at least 20, as for `evaluate`, with their answers; those with an empty list of answers (or
        without one) are questions that the table does not answer, and there must be some. The threshold is the one with
        the highest mean F1, where withholding counts 1 for a question without an answer and 0 for another. It stays as
        it is unless another is better on questions that it was not chosen on.

        Raises `InvalidInputError` for questions that cannot be used, and as `answer` does; `TableError` when nothing
        has been added yet.
        """
        self._store.check_usable()
        options = AnswerOptions(k).checked()
        answerer = Answerer(self._searcher, loaded_reader(reader, self._searcher.rerankers))
        return calibrated_threshold(answerer, questions, options.k, split=split)
