"""What training loops share: schedule, evaluations, checkpoints, the log, and stopping and continuing exactly."""

from __future__ import annotations

import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

import torch
from torch import nn

from dpr_lance.cli.console import say
from dpr_lance.errors import EncoderError

from . import run_checkpoints
from .config import Learning
from .distributed import Group
from .log import RunLog
from .run_checkpoints import Position, Trainable
from .stopping import Stopping

Autocast: TypeAlias = Callable[[], AbstractContextManager[object]]
"""Returns the context that models run in, which sets their precision."""

CHECKPOINT_SECONDS = 300.0
"""The most training that an interruption can cost."""
GPU_CHUNK = 16
"""A GPU computes this many times `chunk_tokens` together."""


class TrainableModule(nn.Module, Trainable):
    """A torch module that a loop trains."""

    part = ""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the weights are."""


M = TypeVar("M", bound=TrainableModule)
B = TypeVar("B")
C = TypeVar("C")
T = TypeVar("T")


class ResumableLoop(ABC, Generic[M, C, B, T]):
    """One run of a model M over one corpus C after another; a subclass plans batches B and takes the steps.

    `folder` holds checkpoints and log; None keeps nothing. `validate` returns metrics; `recipe.metric` is one of them.
    A run resumes from checkpoints of the same `identity` only.
    """

    share = "in-batch"
    """What the log calls the share of the questions of a batch whose positive was ranked first."""

    def __init__(
        self,
        model: M,
        recipe: Learning,
        *,
        steps: int,
        identity: str,
        folder: Path | None = None,
        validate: Callable[[M], Mapping[str, float]] | None = None,
        group: Group | None = None,
    ) -> None:
        self.model, self.learning, self.steps, self.folder = model, recipe, steps, folder
        self.checkpoint_seconds = CHECKPOINT_SECONDS
        self._kept: Position | None = None
        self.group = group or Group()
        self.device = model.device
        self.validate = validate
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=recipe.learning_rate, eps=1e-8, weight_decay=recipe.weight_decay, fused=True
        )
        self.identity = identity
        self.position = Position(step=0)
        self.log = RunLog(folder if self.group.first else None, shown=self.group.first, share=self.share)
        self.autocast = precision(recipe.compute, self.device)

    @abstractmethod
    def _prepare(self, corpus: C) -> tuple[Callable[[int], B], T]:
        """Return the function that plans the batch of a step, and the tokens of all texts."""

    @abstractmethod
    def _step(self, batch: B, corpus: C, texts: T) -> dict[str, float]:
        """Train on a batch, and return what the log says of it: at least loss, accuracy, margin, tokens_per_second."""

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

    def run(self, corpus: C, *, until: int | None = None) -> bool:
        """Train on `corpus` up to the step `until` (the last one by default); return whether patience ended it early.

        A checkpoint is kept after every evaluation, and every `checkpoint_seconds`. On SIGTERM and Ctrl-C the step is
        finished and kept; `SystemExit` (143) or `KeyboardInterrupt` follows. Raises `EncoderError`, which names the
        batch, when the loss or a gradient is NaN or infinite.
        """
        until = self.steps if until is None else min(until, self.steps)
        planned, texts = self._prepare(corpus)
        every = self.learning.evaluate_every or max(20, -(-self.steps // 10))
        self.model.train()
        with self.log.watching(self.steps, self.position.step), Stopping() as stopping:
            kept = time.monotonic()
            if self.position.step == 0 and self.validate is not None and self.group.first:
                self.log.evaluation(0, self.validate(self.model))
            while self.position.step < until and self.position.waited < self.learning.patience:
                step = self.position.step
                self.log.step(step, self._step(planned(step), corpus, texts))
                self.position = replace(self.position, step=step + 1)
                if (step + 1) % every == 0 or step + 1 == until:
                    self._evaluate()
                    kept = time.monotonic()
                kept = self._keep_if_due(stopping, kept)
        return self.position.waited >= self.learning.patience

    def next_phase(self) -> None:
        """Note that a round of mining is over and that training continues with other negatives."""
        self.position = replace(self.position, phase=self.position.phase + 1, waited=0)

    def _descend(
        self, step: int, loss: float, texts: Callable[[], tuple[Sequence[str], Sequence[str]]]
    ) -> dict[str, float]:
        """Change the weights by the gradients of `loss`; return the learning rate and the norm of the gradient.

        `texts` names the questions and passages of the batch for the error about a loss that is NaN or infinite.
        """
        self.group.sum_gradients(self.model.parameters())
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), self.learning.max_gradient_norm))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise self._diverged(step, loss, norm, *texts())
        rate = self.learning.learning_rate * schedule(step, self.steps, self.learning.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        return {"learning_rate": rate, "gradient_norm": norm}

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

    def _evaluate(self) -> None:
        """Evaluate, note whether it is the best so far, and keep a checkpoint; the first process does so for all."""
        position = self.position
        score = math.nan
        if self.validate is not None and self.group.first:
            metrics = self.validate(self.model)
            self.log.evaluation(position.step, metrics)
            score = metrics[self.learning.metric]
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

    def _diverged(
        self, step: int, loss: float, norm: float, questions: Sequence[str], passages: Sequence[str]
    ) -> EncoderError:
        where = ""
        if self.folder is not None and self.group.first:
            path = self.folder / f"diverged-{step}.json"
            values = {"step": step, "loss": repr(loss), "gradient_norm": repr(norm)}
            named = {"questions": list(questions), "passages": list(passages)}
            path.write_text(json.dumps(values | named), encoding="utf-8")
            where = f" (the whole batch is in {path})"
        shown = "; ".join(questions[:3])
        return EncoderError(
            f"step {step}: the loss is {loss}, the norm of its gradient {norm}; training stopped before the "
            f"weights were changed; the batch begins with {shown}; passages {', '.join(passages[:3])}{where}. "
            "Lower learning_rate, or look for texts in it that differ from the others"
        )


def schedule(step: int, steps: int, warmup: float) -> float:
    """Return the factor of the learning rate: linear warm-up, then linear decay towards 0."""
    rising = max(1, round(steps * warmup))
    return (step + 1) / rising if step < rising else (steps - step) / max(1, steps - rising)


def precision(compute: str, device: torch.device) -> Autocast:
    """Return the context that models run in: bf16 on request, or when the processor has instructions for it."""
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
