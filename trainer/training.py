"""A training from questions to bundle: read, mine, train, validate, export."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from dpr_lance.encoders.card import EncoderCard
from dpr_lance.encoders.loading import load_encoder
from dpr_lance.errors import InvalidInputError

from . import run_checkpoints
from .batches import Corpus, Planner, make_corpus, seed_of
from .bundles.export import export
from .checkpoints.starting_point import starting_checkpoint
from .config import Recipe, Run
from .distillation import Teacher
from .distributed import Group, device, join, leave
from .dual_encoder import ENCODER, DualEncoder
from .examples import Examples, KnownPassage
from .log import EveryMinute, draw_curves
from .loop import Loop, check_teacher, token_texts
from .mining import Mined, Negative, mine, rank_all, rank_through, with_negatives
from .preflight import check_places, check_space
from .question_sets import KeptNegatives, read_sets, watched
from .readable import Blank, readable, readable_passages
from .table_questions import Log, log_oddities, open_table, read_questions
from .tokens import blank_texts
from .validation import Accuracy, TorchEncoder, evaluate, through_table

if TYPE_CHECKING:  # LanceDB is needed where a table is
    from dpr_lance.retriever import Retriever

REPORT = "report.json"


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What a training did. `accuracies` compares BM25, the untrained and the trained encoder."""

    bundle: str
    work: str
    card: EncoderCard
    steps: int
    best_step: int
    stopped_early: bool
    train_questions: int
    dev_questions: int
    dev_passages: int
    truncated: int
    """Questions and passages that are longer than the encoder reads: their ends were not trained on."""
    dropped: Mapping[str, int]
    """Mined passages that each filter left out, over all rounds."""
    accuracies: tuple[Accuracy, ...]
    seconds: float


def train(run: Run, *, teacher: Teacher | None = None, say: Log = lambda _: None) -> TrainingReport:
    """Train with the settings `run`, and export the best checkpoint on the dev questions to the bundle `run.out`.

    After an interruption the same call continues the run. Under torchrun the processes share the work. `teacher` scores
    (question, passage) pairs for the losses margin-mse and kl, and filters mined negatives; `say` receives progress
    messages. Raises `InvalidInputError` for unusable data and settings, `EncoderError` for unusable checkpoints, and
    when the loss is NaN or infinite.
    """
    work = run.work_folder
    started = time.perf_counter()
    with ExitStack() as stack:
        group = join()
        stack.callback(leave)
        if group.first:
            check_places(run, work)
        else:
            say = lambda _: None  # noqa: E731 - the other processes are silent
        retriever = None
        if run.table is not None:
            retriever = open_table(stack, run.table, run.table_name, run.storage_options)
        return _Training(run, work, group, retriever, teacher, say).run(started)


class _Training:
    """The parts of one training."""

    def __init__(
        self, settings: Run, work: Path, group: Group, retriever: Retriever | None, teacher: Teacher | None, say: Log
    ) -> None:
        self.settings, self.work, self.group, self.retriever = settings, work, group, retriever
        self.teacher, self.say = teacher, say
        self.model = self._model()
        self.blank: Blank = partial(blank_texts, self.model.checkpoint, self.model.tokenizer)
        self.kept = KeptNegatives(settings, group, say)

    def run(self, started: float) -> TrainingReport:
        """Read, mine, train and export."""
        run, recipe, model = self.settings, self.settings.recipe, self.model
        sets, dev = read_sets(run, self._read, recipe.seed)
        Planner(make_corpus(sets, rates=run.rates), recipe)  # raises where the questions do not make batches
        if self.retriever is not None and recipe.hard_negatives:
            sets, dev = self._with_bm25_negatives(sets, dev)
        corpus, dev_corpus = make_corpus(sets, rates=run.rates), self._pool(dev, sets)
        checkpoint = model.checkpoint
        self.say(f"{len(corpus.questions):,} questions to train on, {len(dev_corpus.questions):,} to validate with, "
                 f"starting from {checkpoint.name} ({checkpoint.source})")  # fmt: skip
        steps = recipe.steps or max(1, round(recipe.epochs * Planner(corpus, recipe).steps_per_epoch))
        accuracies = self._untrained(model, dev_corpus)
        texts = token_texts(model, dev_corpus, Recipe())
        loop = Loop(model, corpus, recipe, steps=steps, folder=self.work, teacher=self.teacher, group=self.group)
        loop.checkpoint_seconds = 60 * run.checkpoint_minutes
        loop.validate = lambda trained: evaluate(trained, dev_corpus, texts, recipe, loop.autocast)
        if loop.resume():
            self.say(f"continuing from step {loop.position.step} in {self.work}")
        stopped = self._phases(loop, sets, steps)
        if self.group.first:
            accuracies += self._exported(dev_corpus)
        found = TrainingReport(
            bundle=run.out,
            work=str(self.work),
            card=checkpoint.card("training") if not self.group.first else load_encoder(Path(run.out)).card,
            steps=loop.position.step,
            best_step=loop.position.best_step,
            stopped_early=stopped,
            train_questions=len(corpus.questions),
            dev_questions=len(dev_corpus.questions),
            dev_passages=len(dev_corpus.passages),
            truncated=loop.truncated,
            dropped=dict(self.kept.dropped),
            accuracies=tuple(accuracies),
            seconds=time.perf_counter() - started,
        )
        if self.group.first:
            (self.work / REPORT).write_text(json.dumps(dataclasses.asdict(found), indent=1) + "\n", encoding="utf-8")
        self.group.agree(0.0)
        return found

    def _model(self) -> DualEncoder:
        run, recipe = self.settings, self.settings.recipe
        check_teacher(recipe, self.teacher)
        torch.manual_seed(seed_of(recipe.seed, "projection"))
        checkpoint = starting_checkpoint(run.encoder, self.retriever)
        if recipe.similarity == "cosine" and not checkpoint.normalise:
            checkpoint = replace(checkpoint, normalise=True)
        if recipe.similarity == "l2" and not checkpoint.normalise:
            raise InvalidInputError(
                "similarity='l2': a table compares by inner product, which ranks alike for vectors of unit length only"
            )
        model = DualEncoder(checkpoint, separate=run.separate, projection=run.projection).to(device())
        if self.group.first:
            check_space(self.work, sum(parameter.numel() for parameter in model.parameters()))
        return model

    # Data

    def _read(self, path: str, split: str) -> Examples:
        run = self.settings
        found = read_questions(path, split=split, retriever=self.retriever, on_error=run.on_error)
        found = readable(found, self.blank, titles=not run.recipe.title_dropout, on_error=run.on_error)
        log_oddities(found, path, self.say)
        if not found.rows:
            raise InvalidInputError(f"{path} holds no question that can be used ({len(found.skipped)} were skipped)")
        return found

    def _pool(self, dev: Examples, sets: Sequence[Examples]) -> Corpus:
        """Return the dev questions over `validation_passages`: their positives, then hard negatives, then any others.

        The best-ranked hard negatives come first: among random passages a good encoder makes no mistakes, and
        checkpoints could not be compared.
        """
        limit = self.settings.validation_passages
        passages = {name: dev.passages[name] for row in dev.rows for name in row.positives}
        for name in chain.from_iterable(zip_longest(*(row.hard_negatives for row in dev.rows))):
            if len(passages) >= limit:
                break
            if name is not None:
                passages[name] = dev.passages[name]
        rows = tuple(
            replace(row, hard_negatives=tuple(name for name in row.hard_negatives if name in passages), negatives=())
            for row in dev.rows
        )
        others = [one for found in (dev, *sets) for one in found.passages.values()]
        wanted = max(0, limit - len(passages))
        if self.retriever is not None:
            stored = islice(self.retriever.passages(), limit)
            known = [KnownPassage(passage.id, passage.title, passage.text) for passage in stored]
            others += readable_passages(known, self.blank)
        fresh = list({one.id: one for one in others if one.id not in passages}.values())
        order = np.random.default_rng(seed_of(self.settings.recipe.seed, "pool")).permutation(len(fresh))[:wanted]
        passages |= {fresh[int(at)].id: fresh[int(at)] for at in order}
        return make_corpus([replace(dev, rows=rows, passages=passages)])

    # Mining

    def _with_bm25_negatives(self, sets: list[Examples], dev: Examples) -> tuple[list[Examples], Examples]:
        """Give each question with too few hard negatives those that BM25 finds."""

        def mined() -> Mined:
            found = Mined()
            for examples in (*sets, dev):
                rows = [row for row in examples.rows if len(row.hard_negatives) < self.settings.recipe.hard_negatives]
                assert self.retriever is not None  # noqa: S101 - there is a table
                rankings = rank_through(self.retriever, rows, "bm25", self.settings.mining.depth)
                rankings = watched(rankings, len(rows), self.say)
                found += mine(rows, examples.passages, rankings, self.settings.mining, teacher=self.teacher)
            return found

        negatives = self._readable(self.kept.of(0, mined, reuse=run_checkpoints.last(self.work) is not None))
        *ours, dev = (with_negatives(examples, negatives) for examples in (*sets, dev))
        return ours, dev

    def _with_own_negatives(self, loop: Loop, sets: Sequence[Examples], number: int, *, reuse: bool) -> list[Examples]:
        """Give each question the negatives that the encoder in training finds, before its others.

        A run that continues within a round reuses what was mined when the round began.
        """

        def mined() -> Mined:
            lines = EveryMinute(self.say, at_once=False)
            encoder = TorchEncoder(loop.model, loop.model.checkpoint.card("training"), loop.autocast)
            found = Mined()
            for examples in sets:
                assert self.retriever is not None  # noqa: S101 - config.Run requires a table
                rankings = rank_all(
                    self.retriever,
                    examples.rows,
                    examples.passages,
                    encode_questions=encoder.encode_questions,
                    encode_passages=encoder.encode_passages,
                    depth=self.settings.mining.depth,
                    blank=lambda passages: self.blank("passage", passages),
                    progress=lambda done: lines.report(lambda: f"mining: {done:,} passages encoded"),
                )
                settings = self.settings.mining
                found += mine(
                    examples.rows, examples.passages, rankings, settings, teacher=self.teacher, round_number=number
                )
            return found

        negatives = self._readable(self.kept.of(number, mined, reuse=reuse))
        return [with_negatives(examples, negatives, ahead=True) for examples in sets]

    def _readable(self, negatives: Sequence[Negative]) -> list[Negative]:
        titles = not self.settings.recipe.title_dropout
        readable = {one.id for one in readable_passages([one.passage for one in negatives], self.blank, titles=titles)}
        return [one for one in negatives if one.passage.id in readable]

    # Model

    def _phases(self, loop: Loop, sets: Sequence[Examples], steps: int) -> bool:
        phases = self.settings.rounds + 1
        given = sets
        if loop.position.phase:
            given = self._with_own_negatives(loop, sets, loop.position.phase, reuse=True)
        while True:
            phase = loop.position.phase
            stopped = loop.run(make_corpus(given, rates=self.settings.rates), until=steps * (phase + 1) // phases)
            if stopped or phase + 1 == phases:
                return stopped
            given = self._with_own_negatives(loop, sets, phase + 1, reuse=False)
            loop.next_phase()

    def _untrained(self, model: DualEncoder, dev: Corpus) -> list[Accuracy]:
        if not self.group.first:
            return []
        card = replace(model.checkpoint.card("untrained"), dimension=model.dimension)
        rows = through_table("untrained", TorchEncoder(model, card), dev)
        self._report(rows)
        return rows

    def _exported(self, dev: Corpus) -> list[Accuracy]:
        place = run_checkpoints.best(self.work)
        if place is None:
            raise InvalidInputError(f"{self.work} has no checkpoint: no step was trained")
        run = self.settings
        export(place / ENCODER, run.out, precision=run.precision, name=Path(run.out).name, replace=run.replace)
        draw_curves(self.work)
        rows = through_table("trained", load_encoder(Path(run.out)), dev, modes=("dense", "hybrid"))
        self._report(rows)
        return rows

    def _report(self, rows: Sequence[Accuracy]) -> None:
        for row in rows:
            accuracy = "  ".join(f"top-{k} {100 * found.mean:.1f}" for k, found in row.top.items())
            self.say(f"{row.name}, {row.mode}: {accuracy}")
