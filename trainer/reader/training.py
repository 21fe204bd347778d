"""A training of the reader from questions to bundle: read, mine, train, validate, export."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dpr_lance.encoders.card import Side
from dpr_lance.errors import InvalidInputError
from dpr_lance.reader.bundle import CARD
from dpr_lance.reader.card import ReaderCard
from dpr_lance.reader.late_interaction_loading import load_reranker
from dpr_lance.reader.loading import load_reader
from dpr_lance.reader.reranker import Reranker

from .. import run_checkpoints
from ..bundles.export_reader import export_reader
from ..distillation import reranker_teacher
from ..distributed import Group, device
from ..examples import Examples
from ..log import draw_curves
from ..mining import Mined, mine, rank_through, with_negatives
from ..preflight import check_places, check_space
from ..question_sets import KeptNegatives, read_sets, watched
from ..readable import readable
from ..table_questions import Log, log_oddities, open_table, read_questions
from .batches import ReaderPlanner, make_reader_corpus
from .config import ReaderRun
from .loop import ReaderLoop
from .start import starting_reader
from .student import READER
from .validation import (
    DevQuestion,
    ReaderAccuracy,
    TorchReader,
    accuracy,
    best_weight,
    bundle_answers,
    dev_questions,
    metrics,
    scored,
    weighted,
)

if TYPE_CHECKING:  # LanceDB is needed where a table is
    from dpr_lance.retriever import Retriever

REPORT = "report.json"


@dataclass(frozen=True, slots=True)
class ReaderReport:
    """What a training did. `accuracies` compares the table's own order, the untrained and the trained reader."""

    bundle: str
    work: str
    card: ReaderCard
    steps: int
    best_step: int
    stopped_early: bool
    train_questions: int
    dev_questions: int
    dropped: Mapping[str, int]
    """Mined passages that each filter left out."""
    accuracies: tuple[ReaderAccuracy, ...]
    seconds: float


def train_reader(run: ReaderRun, *, teacher: Reranker | None = None, say: Log = lambda _: None) -> ReaderReport:
    """Train a reader with the settings `run`, and export the best checkpoint on the dev questions to `run.out`.

    After an interruption the same call continues the run. `teacher`, or the re-ranker that `run.teacher` names, scores
    passages for the student to learn from; `say` receives progress messages. Raises `InvalidInputError` for unusable
    data and settings, `EncoderError` and `ReaderError` for unusable checkpoints, and when the loss is NaN or infinite.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InvalidInputError("a reader is trained by one process: start it without torchrun")
    started = time.perf_counter()
    with ExitStack() as stack:
        check_places(run, run.work_folder)
        if teacher is None and run.teacher is not None:
            teacher = load_reranker(run.teacher)
        retriever = open_table(stack, str(run.table), run.table_name, run.storage_options)
        return _ReaderTraining(run, retriever, teacher, say).run(started)


class _ReaderTraining:
    """The parts of one training."""

    def __init__(self, settings: ReaderRun, retriever: Retriever, teacher: Reranker | None, say: Log) -> None:
        self.settings, self.retriever, self.teacher, self.say = settings, retriever, teacher, say
        self.work = settings.work_folder
        self.student = starting_reader(settings).to(device())
        check_space(self.work, sum(parameter.numel() for parameter in self.student.parameters()))
        self.kept = KeptNegatives(settings, Group(), say)

    def run(self, started: float) -> ReaderReport:
        """Read, mine, train and export."""
        run, recipe, student = self.settings, self.settings.recipe, self.student
        sets, dev_set = read_sets(run, self._read, recipe.seed)
        ReaderPlanner(make_reader_corpus(sets), recipe)  # raises where the questions do not make batches
        corpus = make_reader_corpus(self._with_negatives(sets))
        dev = self._dev(dev_set)
        self.say(f"{len(corpus.texts.questions):,} questions to train on, {len(dev):,} to validate with, "
                 f"starting from {student.card.source or run.base}")  # fmt: skip
        steps = recipe.steps or max(1, round(recipe.epochs * ReaderPlanner(corpus, recipe).steps_per_epoch))
        card: Any = getattr(self.teacher, "card", None)
        loop = ReaderLoop(
            student,
            corpus,
            recipe,
            steps=steps,
            folder=self.work,
            teacher=None if self.teacher is None else reranker_teacher(self.teacher),
            teacher_name=str(getattr(card, "fingerprint", "")),
        )
        loop.checkpoint_seconds = 60 * run.checkpoint_minutes
        torch_reader = TorchReader(student, loop.autocast)
        answers = torch_reader.answers if run.extracts else None
        accuracies = [
            accuracy(f"{run.source} search", dev, [one.retrieved for one in dev]),
            accuracy("untrained reader", dev, scored(dev, torch_reader.score_pairs), answers),
        ]
        self._report(accuracies)
        loop.validate = lambda _: metrics(dev, scored(dev, torch_reader.score_pairs), answers)
        if loop.resume():
            self.say(f"continuing from step {loop.position.step} in {self.work}")
        stopped = loop.run(corpus)
        card, trained = self._exported(dev)
        found = ReaderReport(
            bundle=run.out,
            work=str(self.work),
            card=card,
            steps=loop.position.step,
            best_step=loop.position.best_step,
            stopped_early=stopped,
            train_questions=len(corpus.texts.questions),
            dev_questions=len(dev),
            dropped=dict(self.kept.dropped),
            accuracies=(*accuracies, *trained),
            seconds=time.perf_counter() - started,
        )
        (self.work / REPORT).write_text(json.dumps(dataclasses.asdict(found), indent=1) + "\n", encoding="utf-8")
        return found

    # Data

    def _read(self, path: str, split: str) -> Examples:
        run = self.settings
        found = read_questions(path, split=split, retriever=self.retriever, on_error=run.on_error)
        found = readable(found, self._blank, titles=False, on_error=run.on_error)
        log_oddities(found, path, self.say)
        if not found.rows:
            raise InvalidInputError(f"{path} holds no question that can be used ({len(found.skipped)} were skipped)")
        return found

    def _blank(self, side: Side, texts: Sequence[Any]) -> NDArray[np.bool_]:
        """Return whether the tokenizer makes no token of a question, or of a passage's text."""
        plain = texts if side == "question" else [text for _, text in texts]
        encodings = self.student.tokenizer.encode_batch_fast(list(plain), add_special_tokens=False)
        return np.array([not encoding.ids for encoding in encodings], dtype=np.bool_)

    def _with_negatives(self, sets: Sequence[Examples]) -> list[Examples]:
        """Give each question with too few hard negatives those that the table finds."""
        settings, wanted = self.settings, self.settings.recipe.passages - 1

        def mined() -> Mined:
            found = Mined()
            for examples in sets:
                rows = [row for row in examples.rows if row.positives and len(row.hard_negatives) < wanted]
                rankings = rank_through(self.retriever, rows, settings.source, settings.mining.depth)
                rankings = watched(rankings, len(rows), self.say)
                found += mine(rows, examples.passages, rankings, settings.mining)
            return found

        negatives = self.kept.of(0, mined, reuse=run_checkpoints.last(self.work) is not None)
        texts = [(one.passage.title, one.passage.text) for one in negatives]
        blank = self._blank("passage", texts)
        negatives = [one for one, unread in zip(negatives, blank, strict=True) if not unread]
        return [with_negatives(examples, negatives) for examples in sets]

    def _dev(self, examples: Examples) -> list[DevQuestion]:
        run = self.settings
        rows = [row for row in examples.rows if row.positives]
        if run.recipe.metric == "exact-match" and not (run.extracts and any(row.answers for row in rows)):
            raise InvalidInputError(
                "metric='exact-match' needs validation questions with answers, and a head for spans"
            )
        rankings = rank_through(self.retriever, rows, run.source, run.validation_passages)
        return dev_questions(rows, examples.passages, rankings)

    # Model

    def _exported(self, dev: Sequence[DevQuestion]) -> tuple[ReaderCard, list[ReaderAccuracy]]:
        """Make the bundle of the best checkpoint, with the best weight of the retrieval score on its card."""
        run = self.settings
        place = run_checkpoints.best(self.work)
        if place is None:
            raise InvalidInputError(f"{self.work} has no checkpoint: no step was trained")
        self.student.restore(place / READER)
        scores = scored(dev, TorchReader(self.student).score_pairs)
        card = dataclasses.replace(self.student.card, retrieval_weight=best_weight(dev, scores))
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(place / READER, folder, dirs_exist_ok=True)
            (Path(folder) / CARD).write_text(card.to_json() + "\n", encoding="utf-8")
            export_reader(folder, run.out, precision=run.precision, replace=run.replace)
        draw_curves(self.work, accuracy=ReaderLoop.share)
        reader = load_reader(Path(run.out))
        scores = scored(dev, reader.score_pairs)
        answers = bundle_answers(reader) if run.extracts else None
        rows = [accuracy("trained reader", dev, scores, answers)]
        if reader.card.retrieval_weight:
            both = weighted(dev, scores, reader.card.retrieval_weight)
            rows.append(accuracy(f"trained reader + {reader.card.retrieval_weight:g} · {run.source} search", dev, both))
        self._report(rows)
        return reader.card, rows

    def _report(self, rows: Sequence[ReaderAccuracy]) -> None:
        for row in rows:
            shown = [f"top-{k} {100 * found.mean:.1f}" for k, found in row.top.items()] + [f"mrr {row.mrr.mean:.3f}"]
            if row.exact_match is not None and row.f1 is not None:
                shown.append(f"exact match {100 * row.exact_match:.1f}  F1 {100 * row.f1:.1f} (gold passage)")
            self.say(f"{row.name}: {'  '.join(shown)}")
