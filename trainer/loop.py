"""The training loop: plan a batch, encode, score, step; evaluate and keep the best; stop and continue at any step."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dpr_lance.cli.console import say
from dpr_lance.encoders.card import Side
from dpr_lance.errors import EncoderError, InvalidInputError

from . import grad_cache, run_checkpoints
from .batches import Batch, Corpus, Planner, seed_of
from .config import Recipe, to_json
from .distillation import Teacher, TeacherScores
from .distributed import Group
from .dual_encoder import Autocast, DualEncoder
from .log import RunLog
from .loss import Columns, batch_loss, temperature_of
from .run_checkpoints import Position
from .stopping import Stopping
from .tokens import Inputs, TokenisedTexts, tokenise

Validate: TypeAlias = Callable[[DualEncoder], Mapping[str, float]]
DISTILLING = ("margin-mse", "kl")
"""Losses that learn from a teacher's scores."""
CHECKPOINT_SECONDS = 300.0
"""The most training that an interruption can cost."""
GPU_CHUNK = 16
"""A GPU encodes this many times `chunk_tokens` together."""


class Loop:
    """One run over one corpus after another (each round of mining makes one).

    `folder` holds checkpoints and log; None keeps nothing. `validate` returns metrics; `recipe.metric` is one of them.
    """

    def __init__(
        self,
        model: DualEncoder,
        corpus: Corpus,
        recipe: Recipe,
        *,
        steps: int,
        folder: Path | None = None,
        validate: Validate | None = None,
        teacher: Teacher | None = None,
        group: Group | None = None,
    ) -> None:
        self.model, self.recipe, self.steps, self.folder = model, recipe, steps, folder
        self.checkpoint_seconds = CHECKPOINT_SECONDS
        self._kept: Position | None = None
        self.group = group or Group()
        self.device = model.device
        self.validate = validate
        check_teacher(recipe, teacher)
        self.teacher = TeacherScores(teacher) if teacher and recipe.loss in DISTILLING else None
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=recipe.learning_rate, eps=1e-8, weight_decay=recipe.weight_decay, fused=True
        )
        self.identity = _identity(recipe, corpus, steps, self.group)
        self.position = Position(step=0)
        self.truncated = 0
        self.log = RunLog(folder if self.group.first else None, shown=self.group.first)
        self._encode: Callable[[Side, Inputs], Tensor] = model
        if recipe.compile:
            self._encode = torch.compile(model, dynamic=True)
        self.autocast = precision(recipe.compute, self.device)
        self.temperature = temperature_of(recipe, normalise=model.passage.normalise)

    def resume(self) -> bool:
        """Continue from the last checkpoint in the folder; False, and a new log, when there is none."""
        place = run_checkpoints.last(self.folder) if self.folder is not None else None
        if place is None:
            self.log.resume_at(0)
            return False
        self.position = run_checkpoints.resume(place, self.model, self.optimizer, identity=self.identity)
        if self.group.first:
            self.log.resume_at(self.position.step)
        return True

    def run(self, corpus: Corpus, *, until: int | None = None) -> bool:
        """Train on `corpus` up to the step `until` (the last one by default); return whether patience ended it early.

        A checkpoint is kept after every evaluation, and every `checkpoint_seconds`. On SIGTERM and Ctrl-C the step is
        finished and kept; `SystemExit` (143) or `KeyboardInterrupt` follows. Raises `EncoderError`, which names the
        batch, when the loss or a gradient is NaN or infinite.
        """
        until = self.steps if until is None else min(until, self.steps)
        planner = Planner(corpus, self.recipe, steps=self.steps)
        texts = token_texts(self.model, corpus, self.recipe)
        self.truncated = int(
            texts["question"].truncated.sum() + texts["passage"].truncated[: len(corpus.passages)].sum()
        )
        every = self.recipe.evaluate_every or max(20, -(-self.steps // 10))
        self.model.train()
        with self.log.watching(self.steps, self.position.step), Stopping() as stopping:
            kept = time.monotonic()
            if self.position.step == 0 and self.validate is not None and self.group.first:
                self.log.evaluation(0, self.validate(self.model))
            while self.position.step < until and self.position.waited < self.recipe.patience:
                step = self.position.step
                self.log.step(step, self._step(planner.batch(step), corpus, texts))
                self.position = replace(self.position, step=step + 1)
                if (step + 1) % every == 0 or step + 1 == until:
                    self._evaluate()
                    kept = time.monotonic()
                kept = self._keep_if_due(stopping, kept)
        return self.position.waited >= self.recipe.patience

    def _keep_if_due(self, stopping: Stopping, kept: float) -> float:
        """Keep a checkpoint when it is time or when the run is to stop; return when the latest one was kept."""
        due = time.monotonic() - kept >= self.checkpoint_seconds
        # The first process decides for all: they must stop at the same step.
        wanted = self.group.agree(2.0 if stopping.asked else 1.0 if due else 0.0)
        if not wanted:
            return kept
        if self.position != self._kept:
            self._save()
        if wanted > 1:
            if self.group.first:
                where = f"kept in {self.folder}: the same command continues from there" if self.folder else "not kept"
                say(f"stopped after step {self.position.step:,} of {self.steps:,}, which is {where}")
            stopping.stop(f"stopped after step {self.position.step}")
        return time.monotonic()

    def next_phase(self) -> None:
        """Note that a round of mining is over and that training continues with other negatives."""
        self.position = replace(self.position, phase=self.position.phase + 1, waited=0)

    def _step(self, batch: Batch, corpus: Corpus, texts: Mapping[Side, TokenisedTexts]) -> dict[str, float]:
        started = time.perf_counter()
        columns = self._columns(batch, corpus)
        scored: list[Tensor] = []

        def loss(questions: Tensor, passages: Tensor) -> Tensor:
            every_question = self.group.gather(questions, len(batch.questions))
            every_passage = self.group.gather(passages, len(batch.passages))
            value, scores = batch_loss(
                every_question, every_passage, columns, self.recipe, temperature=self.temperature
            )
            scored[:] = [scores.detach(), questions.detach(), passages.detach()]
            return value

        passages = batch.passages
        if self.recipe.title_dropout:
            rng = np.random.default_rng(seed_of(self.recipe.seed, "titles", batch.step))
            untitled = rng.random(len(passages)) < self.recipe.title_dropout
            passages = passages + untitled * len(corpus.passages)
        rows: dict[Side, Any] = {"question": self.group.part(batch.questions), "passage": self.group.part(passages)}
        tokens = self.recipe.chunk_tokens * (GPU_CHUNK if self.device.type == "cuda" else 1)
        seed = seed_of(self.recipe.seed, "step", batch.step, self.group.rank)
        chunks = grad_cache.plan(texts, rows, tokens=tokens, seed=seed)
        padded = sum(chunk.tokens for chunk in chunks)
        passes = grad_cache.Passes(self._encode, texts, self.device, self.autocast)
        self.optimizer.zero_grad(set_to_none=True)
        run = grad_cache.cached if padded > self.recipe.cache_above_tokens else grad_cache.direct
        value = float(run(passes, chunks, loss))
        self.group.sum_gradients(self.model.parameters())
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.max_gradient_norm))
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise self._diverged(batch, corpus, value, norm)
        rate = self.recipe.learning_rate * schedule(batch.step, self.steps, self.recipe.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        seconds = time.perf_counter() - started
        used = sum(int(texts[side].lengths[wanted].sum()) for side, wanted in rows.items())
        return {
            "loss": value,
            **batch_metrics(scored, columns),
            "learning_rate": rate,
            "gradient_norm": norm,
            "seconds": seconds,
            "tokens_per_second": used * self.group.size / seconds,
            "padding": 1 - used / padded,
        }

    def _columns(self, batch: Batch, corpus: Corpus) -> Columns:
        parts: list[NDArray[Any]] = [batch.targets, batch.own, batch.excluded]
        if self.teacher is not None:
            parts.append(self.teacher.of(batch, corpus))
        return Columns(*(torch.from_numpy(part).to(self.device) for part in parts))

    def _evaluate(self) -> None:
        """Evaluate, note whether it is the best so far, and keep a checkpoint; the first process does so for all."""
        position = self.position
        score = math.nan
        if self.validate is not None and self.group.first:
            metrics = self.validate(self.model)
            self.log.evaluation(position.step, metrics)
            score = metrics[self.recipe.metric]
        score = self.group.agree(score)
        if math.isnan(score):
            self.position = replace(position, best_step=position.step)
        elif position.best_score is None or score > position.best_score:
            self.position = replace(position, best_score=score, best_step=position.step, waited=0)
        else:
            self.position = replace(position, waited=position.waited + 1)
        self._save()

    def _save(self) -> None:
        if self.folder is not None and self.group.first:
            run_checkpoints.save(self.folder, self.model, self.optimizer, self.position, identity=self.identity)
        self._kept = self.position
        self.group.agree(0.0)

    def _diverged(self, batch: Batch, corpus: Corpus, loss: float, norm: float) -> EncoderError:
        questions = [f"{corpus.places[row]} {corpus.questions[row]!r:.80}" for row in batch.questions]
        passages = [corpus.passage_ids[row] for row in batch.passages]
        where = ""
        if self.folder is not None and self.group.first:
            path = self.folder / f"diverged-{batch.step}.json"
            values = {"step": batch.step, "loss": repr(loss), "gradient_norm": repr(norm)}
            path.write_text(json.dumps(values | {"questions": questions, "passages": passages}), encoding="utf-8")
            where = f" (the whole batch is in {path})"
        shown = "; ".join(questions[:3])
        return EncoderError(
            f"step {batch.step}: the loss is {loss}, the norm of its gradient {norm}; training stopped before the "
            f"weights were changed; the batch begins with {shown}; passages {', '.join(passages[:3])}{where}. "
            "Lower learning_rate, or look for texts in it that differ from the others"
        )


def check_teacher(recipe: Recipe, teacher: Teacher | None) -> None:
    """Raise `InvalidInputError` when the loss learns from a teacher and there is none."""
    if recipe.loss in DISTILLING and teacher is None:
        raise InvalidInputError(f"loss={recipe.loss!r} learns from a teacher's scores: give one (teacher=...)")


def schedule(step: int, steps: int, warmup: float) -> float:
    """Return the factor of the learning rate: linear warm-up, then linear decay towards 0."""
    rising = max(1, round(steps * warmup))
    return (step + 1) / rising if step < rising else (steps - step) / max(1, steps - rising)


def token_texts(model: DualEncoder, corpus: Corpus, recipe: Recipe) -> dict[Side, TokenisedTexts]:
    """Return the token ids of all questions and passages; where titles are dropped, of all passages again without."""
    checkpoint, tokenizer = model.checkpoint, model.tokenizer
    passages = corpus.passages
    if recipe.title_dropout:
        passages += tuple(("", text) for _, text in passages)
    return {
        "question": tokenise(checkpoint, tokenizer, "question", corpus.questions, max_tokens=recipe.question_tokens),
        "passage": tokenise(checkpoint, tokenizer, "passage", passages, max_tokens=recipe.passage_tokens),
    }


def precision(compute: str, device: torch.device) -> Autocast:
    """Return the context that towers run in: bf16 on request, or when the processor has instructions for it."""
    if compute == "auto":
        if device.type == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            # 4.5 times the fp32 matrix products of one core with AVX512-BF16; emulated it is slower than fp32.
            fast = torch.cpu._is_avx512_bf16_supported()
        compute = "bf16" if fast else "fp32"
    if compute == "fp32":
        return nullcontext
    return lambda: torch.autocast(device.type, dtype=torch.bfloat16)


def batch_metrics(scored: list[Tensor], columns: Columns) -> dict[str, float]:
    """Return how a batch was ranked: top-1 accuracy, positive minus best negative, errors by own negatives."""
    scores, questions, passages = scored
    positive = scores.gather(1, columns.targets[:, None]).squeeze(1)
    others = scores.scatter(1, columns.targets[:, None], float("-inf"))
    strongest, at = others.max(dim=1)
    wrong = strongest >= positive
    hard = columns.own.gather(1, at[:, None]).squeeze(1)
    contested = torch.isfinite(strongest)
    margin = (positive - strongest)[contested].mean() if contested.any() else positive.new_zeros(())
    values = torch.stack(
        [
            (~wrong).float().mean(),
            margin,
            (wrong & hard).float().sum() / wrong.float().sum().clamp(min=1),
            questions.float().norm(dim=1).mean(),
            passages.float().norm(dim=1).mean(),
        ]
    ).tolist()
    names = ("accuracy", "margin", "errors_by_own_negatives", "question_norm", "passage_norm")
    return dict(zip(names, values, strict=True))


def _identity(recipe: Recipe, corpus: Corpus, steps: int, group: Group) -> str:
    """Return a hash of the settings and the data, which a resumed run must share."""
    digest = hashlib.blake2b(f"{to_json(recipe)} {steps} {group.size} {corpus.rates}".encode(), digest_size=16)
    for part in (corpus.questions, corpus.passages, corpus.gold, corpus.hard, corpus.easy):
        digest.update(json.dumps(part).encode())
    return digest.hexdigest()
