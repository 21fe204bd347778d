"""Answers questions: searches, reads the hits and combines what the reader finds in them."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from dpr_lance.answering.combination import combined_answers
from dpr_lance.checks import checked_path, checked_share, checked_whole, refused
from dpr_lance.errors import ReaderError
from dpr_lance.reader.choice import Rerankers
from dpr_lance.reader.onnx_reader import Reader
from dpr_lance.reader.reading import Reading
from dpr_lance.reader.reranker import PassageText
from dpr_lance.records.answers import AnswerCalibration, Answers
from dpr_lance.records.hits import Hits
from dpr_lance.search.options import SearchOptions
from dpr_lance.search.searcher import Searcher
from dpr_lance.table.tuning import answer_calibration_in

ReaderSource: TypeAlias = str | Path | Reader | None
"""The packaged reader (None), a name, a bundle folder or checkpoint, or a `Reader`."""

PASSAGES = 20
"""Passages that are read for a question: in the paper's figure 3, answers gain little from more."""
SPANS = 10
"""Spans of each passage that count."""
ANSWERS = 5
"""Different answers that are returned."""


def loaded_reader(source: ReaderSource, rerankers: Rerankers) -> Reader:
    """Return the reader that a source names, or is; raise `ReaderError` for one that finds no spans."""
    wanted = "give None for the packaged reader, a name, a bundle folder, or a Reader, as load_reader() makes it"
    reader: object = source
    if source is None:
        reader = rerankers.loaded(True)  # the same one re-ranks
    elif isinstance(source, str | os.PathLike):
        path = checked_path(source, "reader", wanted)
        reader = rerankers.loaded(source if isinstance(source, str) else path)
    if not isinstance(reader, Reader) and reader is source:
        raise refused("reader", source, wanted)
    if not isinstance(reader, Reader) or not reader.card.extracts:
        name = reader.card.name if isinstance(reader, Reader) else source
        raise ReaderError(
            f"the reader {str(name)!r} only scores passages, it finds no answers: choose one that extracts"
        )
    return reader


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """How to answer; see `Retriever.answer`."""

    k: int = PASSAGES
    most: int = ANSWERS
    threshold: float | None = None

    def checked(self) -> AnswerOptions:
        """Return the options with plain values; raise `InvalidInputError` that names an argument to change."""
        wanted = "give a probability from 0 to 1, or None"
        return AnswerOptions(
            checked_whole(self.k, "k", "read at least 1 passage, as a whole number", least=1),
            checked_whole(self.most, "most", "ask for at least 1 answer, as a whole number", least=1),
            None if self.threshold is None else checked_share(self.threshold, "threshold", wanted),
        )


@dataclass(frozen=True, slots=True)
class Answerer:
    """Answers questions from one table with one reader."""

    searcher: Searcher
    reader: Reader

    def answer(self, questions: Sequence[str], search: SearchOptions, options: AnswerOptions) -> list[Answers]:
        """Return the answers to each question; see `Retriever.answer`."""
        threshold = self.usual_threshold() if options.threshold is None else options.threshold
        return [self._answers(hits, threshold, options.most) for hits in self.searcher.search(questions, search)]

    def usual_threshold(self) -> float:
        """Return the threshold that was calibrated for the table and the reader, else that on the reader's card."""
        found = self.calibration()
        return self.reader.card.answer_threshold if found is None else found.threshold

    def calibration(self) -> AnswerCalibration | None:
        """Return what `calibrate_answers` has chosen for this reader."""
        store = self.searcher.store
        found = None if store.find() is None else answer_calibration_in(store.remembered.values())
        return found if found is not None and found.fingerprint == self.reader.card.fingerprint else None

    def read(self, hits: Hits) -> list[Reading]:
        """Return what the reader finds in each hit: nothing in one without text, which plain LanceDB can add."""
        texts = [PassageText(hit.title, hit.text) for hit in hits if hit.text.strip()]
        found = self.reader.read(hits.question, texts, spans=SPANS) if texts else []
        nothing = Reading(min((reading.score for reading in found), default=0.0), ())
        left = iter(found)
        return [next(left) if hit.text.strip() else nothing for hit in hits]

    def _answers(self, hits: Hits, threshold: float, most: int) -> Answers:
        started = time.perf_counter()
        readings = self.read(hits)
        answers = combined_answers(hits, readings)[:most]
        reason = None
        if not hits:
            reason = "no passage was found"
        elif not answers:
            reason = "the reader finds no span in these passages"
        elif answers[0].probability < threshold:
            best = answers[0]
            reason = (
                f"the best answer, {best.text!r:.80}, has the probability {best.probability:.3g}, below the threshold "
                f"of {threshold:.3g}"
            )
        taken = time.perf_counter() - started
        return Answers(
            question=hits.question,
            answers=() if reason else tuple(answers),
            hits=selected(hits, readings, self.reader.card.name),
            reader=self.reader.card.name,
            threshold=threshold,
            reason=reason,
            withheld=tuple(answers) if reason else (),
            seconds={**hits.seconds, "read": taken, "total": hits.seconds["total"] + taken},
        )


def selected(hits: Hits, readings: Sequence[Reading], reader: str) -> Hits:
    """Return hits in the order of the reader's selection scores."""
    scored = [replace(hit, score=read.score, rerank_score=read.score) for hit, read in zip(hits, readings, strict=True)]
    order = sorted(scored, key=lambda hit: (-hit.score, hit.rank))
    ranked = tuple(replace(hit, rank=rank) for rank, hit in enumerate(order, start=1))
    return replace(hits, hits=ranked, reranked=len(ranked), reranker=reader, retrieval_weight=0.0)
