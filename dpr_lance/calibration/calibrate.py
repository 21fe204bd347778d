"""Chooses a table's hybrid weight, default mode and search effort by questions."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from dpr_lance.calibration.hybrid_weight import (
    FEWEST_QUESTIONS,
    JudgedCandidates,
    balanced_weight,
    choose,
    mutual_weight,
)
from dpr_lance.calibration.rerank import calibrated_reranking, checked_for_calibration
from dpr_lance.checks import checked_items, refused
from dpr_lance.encoders.encoding import UnencodableError
from dpr_lance.encoders.vectors import Vector
from dpr_lance.errors import EncoderError, InvalidInputError
from dpr_lance.indexes.recall import efforts
from dpr_lance.inputs.questions import LabelledQuestion, QuestionSource, check_split, checked_question, read_questions
from dpr_lance.reader.choice import RerankSource
from dpr_lance.records.hits import Mode
from dpr_lance.records.reports import Skipped
from dpr_lance.records.table_info import Calibration
from dpr_lance.search.agreement import weight_in_scale
from dpr_lance.search.fusion import Candidates, Scores
from dpr_lance.search.searcher import QUESTIONS_AT_ONCE, Searcher
from dpr_lance.table.schema import DOCUMENT_ID, ID, TableCard
from dpr_lance.table.tuning import calibration_in, keep_calibration, training_of

CalibrationQuestions = QuestionSource | Sequence[str]
T = TypeVar("T")
Q = TypeVar("Q", str, LabelledQuestion)

MOST_QUESTIONS = 5_000
"""No more are read: the choice would not change."""
DEPTH = 100
"""Candidates of each leg that are ranked."""
QUESTIONS_FOR_EFFORT = range(20, 101)
"""With fewer, the index's own measurement stands; more do not change the choice."""
MADE_QUESTIONS = 100
MADE_QUESTION_WORDS = 8
"""Without questions, the first words of `MADE_QUESTIONS` passages serve instead: on four sets their scores spread like
those of real questions (balanced weights of 30-31, real ones 26-40)."""


@dataclass(slots=True)
class Calibrator:
    """One calibration of a table; see `Retriever.calibrate`."""

    searcher: Searcher
    card: TableCard
    regex: bool = False
    _vectors: list[Vector] = field(default_factory=list)
    _skipped: list[Skipped] = field(default_factory=list)

    def run(
        self, labelled: Sequence[LabelledQuestion], unlabelled: Sequence[str], rerank: RerankSource = None
    ) -> Calibration:
        """Choose by these questions, store the choice, and return it.

        With a re-ranker its weight is chosen too; False drops what was chosen for one.
        """
        started, store = time.perf_counter(), self.searcher.store
        if rerank is not None and rerank is not False:
            if len(labelled) < FEWEST_QUESTIONS:
                raise refused("rerank", rerank, f"calibrating a re-ranker takes {FEWEST_QUESTIONS} labelled questions")
            checked_for_calibration(self.searcher.rerankers.loaded(rerank), rerank)
        judged = [each for part in _parts(labelled) for each in self._judged(part)]
        spreads = [(each.dense, each.bm25) for each in judged]
        spreads += [pair for part in _parts(unlabelled) for pair in self._spreads(part)]
        vectors, skipped = self._vectors.copy(), tuple(self._skipped)
        if skipped and not spreads:
            raise InvalidInputError(f"no question is left to calibrate with: {skipped[0].place}: {skipped[0].reason}")
        # A few questions say little about how scores spread.
        made = self._made_questions() if len(spreads) < QUESTIONS_FOR_EFFORT.start else []
        now = calibration_in(store.remembered.values(), self.card)
        usual = self.card.encoder.hybrid_weight
        weight = self.searcher.asked.ranking_in(store.remembered.values(), self.card).weight
        mode: Mode = "hybrid" if now is None else now.mode
        balanced = balanced_weight(spreads + [pair for part in _parts(made) for pair in self._spreads(part)])
        suggested = mutual_weight(spreads, weight_in_scale(usual, balanced))
        found = Calibration(weight, mode, self.card.column, questions=len(spreads), labelled=len(judged))
        if len(judged) >= FEWEST_QUESTIONS:
            if not any(each.relevant.any() for each in judged):
                raise _none_answered(labelled, store.place)
            chosen = choose(judged, weight, mode, suggested)
            found = replace(found, hybrid_weight=chosen.weight, mode=chosen.mode, weights=chosen.curve)
            found = replace(found, before=chosen.before, after=chosen.after)
        elif now is not None and now.after is not None:
            found = now  # chosen by labels
        else:
            in_scale = suggested if spreads else weight_in_scale(weight, balanced)
            # Without labels, too few passages say nothing.
            found = replace(found, hybrid_weight=weight if store.count() < DEPTH else in_scale)
        earlier = None if now is None or rerank is False else now.rerank
        found = replace(self._with_effort(found, vectors, now), rerank=earlier, seconds=time.perf_counter() - started)
        keep_calibration(store, found)
        if rerank is not None and rerank is not False:  # over searches as they are from now on
            chosen_rerank = calibrated_reranking(self.searcher, labelled, rerank, earlier, regex=self.regex)
            found = replace(found, rerank=chosen_rerank, seconds=time.perf_counter() - started)
            keep_calibration(store, found)
        return replace(found, skipped=skipped)

    def _encodable(self, questions: Sequence[Q], text: Callable[[Q], str]) -> tuple[list[Q], Vector]:
        """Return the questions that have a vector, and their vectors; the others are noted as skipped."""
        chosen, encode = list(questions), self.searcher.encoder.encode_questions
        try:
            return chosen, encode([text(each) for each in chosen], self.card)
        except UnencodableError as error:
            for at, reason in error.reasons.items():
                each = chosen[at]
                place = each.place if isinstance(each, LabelledQuestion) and each.place else f"{text(each)!r:.80}"
                self._skipped.append(Skipped(place, reason))
            chosen = [each for at, each in enumerate(chosen) if at not in error.reasons]
        if not chosen:
            return [], np.empty((0, self.card.encoder.dimension), dtype=np.float32)
        return chosen, encode([text(each) for each in chosen], self.card)

    def _candidates(self, questions: Sequence[str], vectors: Vector) -> list[Candidates]:
        """Return the candidates of both legs for each question."""
        if not questions:
            return []
        self._vectors.append(vectors)
        found = self.searcher.candidates(questions, vectors, DEPTH)
        if found.fallback is not None:
            raise EncoderError(f"{self.searcher.store.place} cannot be calibrated: {found.fallback}")
        return found.candidates

    def _spreads(self, questions: Sequence[str]) -> list[tuple[Scores, Scores]]:
        """Return the dense and BM25 scores of each question's candidates."""
        chosen, vectors = self._encodable(questions, str)
        return [(each.dense, each.bm25) for each in self._candidates(chosen, vectors)]

    def _judged(self, questions: Sequence[LabelledQuestion]) -> Iterator[JudgedCandidates]:
        """Yield each question's candidates with which of them answer it: by its answers, else by its labels."""
        chosen, vectors = self._encodable(questions, lambda each: each.text)
        candidates = self._candidates([each.text for each in chosen], vectors)
        for question, found in zip(chosen, candidates, strict=True):
            holds_answer, labels = question.matcher(regex=self.regex, language=self.card.language), question.labels
            rows = self.searcher.store.take(found.row_ids.tolist(), [ID, DOCUMENT_ID, "text"]).to_pylist()
            answering = [
                row["_rowid"]
                for row in rows
                if (holds_answer(row["text"]) if question.answers else row[ID] in labels or row[DOCUMENT_ID] in labels)
            ]
            yield JudgedCandidates(found.dense, found.bm25, np.isin(found.row_ids, answering))

    def _made_questions(self) -> list[str]:
        """Return the first words of passages spread over the table."""
        store = self.searcher.store
        total = store.count()
        offsets = np.linspace(0, total - 1, min(total, MADE_QUESTIONS), dtype=np.int64).tolist()
        found = store.retry_on_conflict(lambda table: table.take_offsets(offsets).select(["text"]).to_arrow())
        return [" ".join(text.split()[:MADE_QUESTION_WORDS]) for text in found["text"].to_pylist()]

    def _with_effort(self, found: Calibration, vectors: Sequence[Vector], now: Calibration | None) -> Calibration:
        """Return the calibration with the smallest share of partitions that reaches the recall target.

        With too few questions, an earlier calibration's share stands.
        """
        store = self.searcher.store
        training, count = training_of(store, self.card), sum(map(len, vectors))
        if training is None or count < QUESTIONS_FOR_EFFORT.start:
            if now is None:
                return found
            return replace(found, probed_share=now.probed_share, recall=now.recall, efforts=now.efforts)
        most = min(count, QUESTIONS_FOR_EFFORT.stop - 1)
        chosen = np.concatenate(vectors)[np.linspace(0, count - 1, most, dtype=np.int64)]
        points = store.retry_on_conflict(lambda table: tuple(efforts(table, training, chosen, store.policy)))
        enough = [point for point in points if point.recall >= store.policy.target_recall]
        point = enough[0] if enough else max(points, key=lambda point: point.recall)
        return replace(found, probed_share=point.probes / training.partitions, recall=point.recall, efforts=points)


def _none_answered(labelled: Sequence[LabelledQuestion], place: str) -> InvalidInputError:
    first = labelled[0]
    sought = f"the answer {first.answers[0]!r:.60}" if first.answers else f"the label {min(first.labels)!r:.60}"
    return InvalidInputError(
        f"{place}: none of the {len(labelled):,} questions is answered by a passage that was found for it, so there is "
        f"nothing to choose by (the first has {sought}). Labels are ids of this table's passages or documents; answers "
        f"are searched for in its texts"
    )


def sorted_questions(
    questions: CalibrationQuestions | None, *, split: str | None
) -> tuple[list[LabelledQuestion], list[str]]:
    """Return the labelled questions and the unlabelled ones, which are given as a list of strings; one list is empty.

    Raises `InvalidInputError` for questions that cannot be used, and for a source without any.
    """
    if questions is None:
        return [], []
    check_split(split, questions)
    if isinstance(questions, (str, os.PathLike)):
        reader = read_questions(questions, split=split)
    else:
        given = checked_items(questions, "questions", "give a file or folder, or a list of questions")
        texts = [item for item in given if isinstance(item, str)]
        if texts and len(texts) == len(given):
            return [], [
                checked_question(text, f"questions[{number}]") for number, text in enumerate(texts[:MOST_QUESTIONS])
            ]
        if texts:
            raise InvalidInputError(f"labelled questions and plain ones cannot be mixed ({texts[0]!r:.60} is plain)")
        reader = read_questions([item for item in given if not isinstance(item, str)])
    with closing(reader):
        labelled = list(itertools.islice(reader, MOST_QUESTIONS))
    if not labelled:
        raise InvalidInputError("there are no questions to calibrate with; omit them to calibrate without questions")
    return labelled, []


def _parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + QUESTIONS_AT_ONCE] for start in range(0, len(items), QUESTIONS_AT_ONCE))
