"""How well a reader answers labelled questions over a table: exact match and F1 (paper, section 6.2)."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np

from dpr_lance.answering.answerer import SPANS, ReaderSource, loaded_reader
from dpr_lance.answering.combination import combined_answers
from dpr_lance.checks import checked_callback, checked_items, refused
from dpr_lance.errors import EncoderError, InvalidInputError
from dpr_lance.evaluation.evaluate import READER, checked_ks, checked_searches
from dpr_lance.evaluation.metrics import Interval, bootstrap
from dpr_lance.evaluation.results import EvaluationProgress
from dpr_lance.inputs.questions import LabelledQuestion, QuestionSource, read_questions
from dpr_lance.reader.choice import Rerankers
from dpr_lance.reader.onnx_reader import Reader
from dpr_lance.reader.reading import Reading
from dpr_lance.reader.reranker import PassageText
from dpr_lance.records.hits import CANDIDATES, Hit
from dpr_lance.retriever import Retriever
from dpr_lance.search.options import SearchOptions
from dpr_lance.search.searcher import QUESTIONS_AT_ONCE
from dpr_lance.text.exact_match import exact_match, word_f1

ANSWER_KS = (1, 5, 20, 50)
"""Passages that are read, as in the paper's figure 3."""
ANSWERED: tuple[str, ...] = ("bm25", "dense", "hybrid", "hybrid+reader")
GOLD = "gold"
"""Names the row in which the labelled passages are read."""


@dataclass(frozen=True, slots=True)
class AnswerEvaluationRow:
    """What a reader reaches over the first `k` passages of a search: means over questions with their 95 % intervals.

    `exact_match` is the share of questions whose best answer is one of the known ones, `f1` the mean overlap of its
    words, both by the rules of SQuAD. The row "gold" (k = 0) reads the labelled passages of the `questions` that have
    some in the table.
    """

    name: str
    k: int
    questions: int
    exact_match: Interval
    f1: Interval


@dataclass(frozen=True, slots=True)
class AnswerEvaluation:
    """The rows of an evaluation of answers, by search and k; `questions` had answers, `skipped` others had none."""

    questions: int
    skipped: int
    reader: str
    rows: tuple[AnswerEvaluationRow, ...]
    seconds: float

    def row(self, name: str, k: int = 0) -> AnswerEvaluationRow:
        """Return one row; raise `InvalidInputError` where it was not measured."""
        for row in self.rows:
            if (row.name, row.k) == (name, k):
                return row
        known = ", ".join(f"{row.name} at {row.k}" for row in self.rows)
        raise InvalidInputError(f"there is no row {name} at {k}; there are {known}")


def evaluate_answers(
    retriever: Retriever,
    questions: QuestionSource,
    *,
    ks: Sequence[int] = ANSWER_KS,
    modes: Sequence[str] = ANSWERED,
    reader: ReaderSource = None,
    split: str | None = None,
    progress: Callable[[EvaluationProgress], None] | None = None,
) -> AnswerEvaluation:
    """Measure the answers of a reader over the first k passages of each search, and over the labelled passages.

    `questions`: as for `evaluate`; those without answers are counted as skipped. `modes`: as for `evaluate`; the row
    "hybrid+reader" reads hybrid hits that the reader has re-ranked. Every answer counts, however improbable.

        evaluation = dpr_lance.evaluate_answers(retriever, "nq-dev.csv")
        evaluation.row("hybrid", 20).exact_match.mean

    Raises as `evaluate` does, and `ReaderError` when the reader is not available or finds no spans.
    """
    if not isinstance(retriever, Retriever):
        raise refused("retriever", retriever, "give a Retriever, as `connect` makes it")
    ks = checked_ks(ks)
    if progress is not None:
        checked_callback(progress, "progress")
    loaded = loaded_reader(reader, Rerankers())
    if modes is ANSWERED and not loaded.card.selects:
        modes = [name for name in ANSWERED if not name.endswith(READER)]
    names = checked_items(modes, "modes", "name the searches to measure")
    reranks = any(isinstance(name, str) and name.endswith(READER) for name in names)
    searches = checked_searches(names, loaded if reranks else False, max(CANDIDATES, *ks))
    started = time.perf_counter()
    tally = _Tally(retriever, loaded, searches, ks)
    with closing(read_questions(questions, split=split)) as source:
        while batch := list(itertools.islice(source, QUESTIONS_AT_ONCE)):
            tally.take(batch)
            if progress is not None:
                progress(EvaluationProgress("questions", tally.questions + tally.skipped, None))
    return AnswerEvaluation(
        tally.questions, tally.skipped, loaded.card.name, tuple(tally.rows()), time.perf_counter() - started
    )


@dataclass(slots=True)
class _Tally:
    retriever: Retriever
    reader: Reader
    searches: Mapping[str, SearchOptions]
    ks: tuple[int, ...]
    questions: int = 0
    skipped: int = 0
    _values: dict[tuple[str, int], list[tuple[float, float]]] = field(default_factory=dict)

    def take(self, batch: Sequence[LabelledQuestion]) -> None:
        """Answer these questions in every row."""
        chosen = [question for question in batch if question.answers]
        self.skipped += len(batch) - len(chosen)
        self.questions += len(chosen)
        if not chosen:
            return
        texts, depth = [question.text for question in chosen], max(self.ks)
        found = {
            name: self.retriever.search(texts, depth, mode=each.mode, rerank=each.rerank, candidates=each.candidates)
            for name, each in self.searches.items()
        }
        for name, all_hits in found.items():
            for hits in all_hits:
                if hits.mode != self.searches[name].mode:
                    raise EncoderError(f"{name} cannot be measured, {hits.mode} alone would answer: {hits.fallback}")
        for at, question in enumerate(chosen):
            readings = _Readings(self.reader, question.text)
            for name in self.searches:
                for k in self.ks:
                    self._judge((name, k), question, readings, found[name][at][:k])
            if gold := self._gold(question):
                self._judge((GOLD, 0), question, readings, gold)

    def _gold(self, question: LabelledQuestion) -> list[Hit]:
        """Return the labelled passages; of a labelled document those that hold an answer, or all if none does."""
        holds_answer = question.matcher()
        stored = self.retriever.get(sorted(question.labels)) if question.labels else []
        gold = [each for each in stored if each.id in question.labels or holds_answer(each.text)] or stored
        return [
            Hit(rank, each.id, each.document_id, each.title, each.text, 0.0, None, None)
            for rank, each in enumerate(gold, start=1)
        ]

    def _judge(
        self, row: tuple[str, int], question: LabelledQuestion, readings: _Readings, hits: Sequence[Hit]
    ) -> None:
        answers = combined_answers(hits, readings.of(hits))
        best = answers[0].text if answers else None
        exact = 0.0 if best is None else float(exact_match(best, question.answers))
        f1 = 0.0 if best is None else word_f1(best, question.answers)
        self._values.setdefault(row, []).append((exact, f1))

    def rows(self) -> Iterator[AnswerEvaluationRow]:
        """Yield the rows."""
        if not self.questions:
            raise InvalidInputError("there is no question with answers to evaluate")
        for (name, k), values in self._values.items():
            exact, f1 = np.array(values).T
            yield AnswerEvaluationRow(name, k, len(values), bootstrap(exact), bootstrap(f1))


@dataclass(slots=True)
class _Readings:
    """What the reader finds in passages for one question, each read once."""

    reader: Reader
    question: str
    _known: dict[str, Reading] = field(default_factory=dict)

    def of(self, hits: Iterable[Hit]) -> list[Reading]:
        """Return the readings of these passages."""
        hits = list(hits)
        new = [hit for hit in hits if hit.id not in self._known]
        if new:
            texts = [PassageText(hit.title, hit.text) for hit in new]
            read = self.reader.read(self.question, texts, spans=SPANS)
            self._known |= {hit.id: reading for hit, reading in zip(new, read, strict=True)}
        return [self._known[hit.id] for hit in hits]
