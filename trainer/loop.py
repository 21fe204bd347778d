"""The training loop of the encoder: plan a batch, encode, score, step."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpr_lance.encoders.card import Side
from dpr_lance.errors import InvalidInputError

from . import grad_cache
from .batches import Batch, Corpus, Planner, seed_of
from .config import Recipe, to_json
from .distillation import Teacher, TeacherScores
from .distributed import Group
from .dual_encoder import DualEncoder
from .loss import Columns, batch_loss, temperature_of
from .resumable import GPU_CHUNK, ResumableLoop
from .tokens import Inputs, TokenisedTexts, tokenise

Texts: TypeAlias = Mapping[Side, TokenisedTexts]
Validate: TypeAlias = Callable[[DualEncoder], Mapping[str, float]]
DISTILLING = ("margin-mse", "kl")
"""Losses that learn from a teacher's scores."""


class Loop(ResumableLoop[DualEncoder, Corpus, Batch, Texts]):
    """One run of an encoder over one corpus after another (each round of mining makes one)."""

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
        group = group or Group()
        identity = _identity(recipe, corpus, steps, group)
        super().__init__(model, recipe, steps=steps, identity=identity, folder=folder, validate=validate, group=group)
        self.recipe = recipe
        check_teacher(recipe, teacher)
        self.teacher = TeacherScores(teacher) if teacher and recipe.loss in DISTILLING else None
        self.truncated = 0
        self._encode: Callable[[Side, Inputs], Tensor] = model
        if recipe.compile:
            self._encode = torch.compile(model, dynamic=True)
        self.temperature = temperature_of(recipe, normalise=model.passage.normalise)

    def _prepare(self, corpus: Corpus) -> tuple[Callable[[int], Batch], Texts]:
        planner = Planner(corpus, self.recipe, steps=self.steps)
        texts = token_texts(self.model, corpus, self.recipe)
        self.truncated = int(
            texts["question"].truncated.sum() + texts["passage"].truncated[: len(corpus.passages)].sum()
        )
        return planner.batch, texts

    def _step(self, batch: Batch, corpus: Corpus, texts: Texts) -> dict[str, float]:
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
        descended = self._descend(batch.step, value, lambda: _named(batch, corpus))
        seconds = time.perf_counter() - started
        used = sum(int(texts[side].lengths[wanted].sum()) for side, wanted in rows.items())
        return {
            "loss": value,
            **batch_metrics(scored, columns),
            **descended,
            "seconds": seconds,
            "tokens_per_second": used * self.group.size / seconds,
            "padding": 1 - used / padded,
        }

    def _columns(self, batch: Batch, corpus: Corpus) -> Columns:
        parts: list[NDArray[Any]] = [batch.targets, batch.own, batch.excluded]
        if self.teacher is not None:
            parts.append(self.teacher.of(batch, corpus))
        return Columns(*(torch.from_numpy(part).to(self.device) for part in parts))


def _named(batch: Batch, corpus: Corpus) -> tuple[list[str], list[str]]:
    """Return the questions of a batch with their places, and the ids of its passages."""
    questions = [f"{corpus.places[row]} {corpus.questions[row]!r:.80}" for row in batch.questions]
    return questions, [corpus.passage_ids[row] for row in batch.passages]


def check_teacher(recipe: Recipe, teacher: Teacher | None) -> None:
    """Raise `InvalidInputError` when the loss learns from a teacher and there is none."""
    if recipe.loss in DISTILLING and teacher is None:
        raise InvalidInputError(f"loss={recipe.loss!r} learns from a teacher's scores: give one (teacher=...)")


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
