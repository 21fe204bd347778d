"""The training loop of the reader: read a question's passages, compare them, find the answer, learn from a teacher."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dpr_lance.encoders.batches import length_batches
from dpr_lance.errors import InvalidInputError
from dpr_lance.reader.inputs import ReaderInput, Window
from dpr_lance.reader.reranker import PassageText
from dpr_lance.reader.spans import span_tokens
from dpr_lance.text.answers import answer_spans

from ..batches import seed_of
from ..config import to_json
from ..distillation import Teacher, TeacherScores
from ..resumable import GPU_CHUNK, ResumableLoop
from .batches import ReaderBatch, ReaderCorpus, ReaderPlanner
from .config import ReaderRecipe
from .loss import Spans, divergence, margin_mse, selection_loss, span_loss
from .student import ReaderStudent

TEACHER_SCORES = "teacher-scores.jsonl"
TERMS = ("selection", "span", "kl", "margin_mse", "mse")
"""The terms of the loss; a recipe has a weight for each."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One question of a batch as the model reads it."""

    windows: Sequence[Window]
    """One for each passage, the positive one's first."""
    text: Tensor
    """bool [s]: the tokens of the first window that can be in an answer."""
    spans: Spans
    """Of the answer in the first window; empty where it is not there."""
    teacher: Tensor | None
    """float32 [m]: the teacher's scores, NaN where one is not known."""

    @property
    def tokens(self) -> int:
        """Padded tokens of the windows."""
        return len(self.windows) * max(len(window.tokens.ids) for window in self.windows)

    @property
    def terms(self) -> set[str]:
        """The terms of the loss that this question has."""
        found = ({"selection"} if len(self.windows) > 1 else set()) | ({"span"} if self.spans else set())
        if self.teacher is not None:
            known = torch.isfinite(self.teacher)
            found |= {"kl", "mse"} if int(known.sum()) > 1 else set()
            found |= {"margin_mse"} if bool(known[0]) and int(known.sum()) > 1 else set()
        return found


class ReaderLoop(ResumableLoop[ReaderStudent, ReaderCorpus, ReaderBatch, None]):
    """One run of a reader over one corpus, in one process.

    A `teacher`'s scores are kept in the folder. Its name, in `teacher_name`, is part of what a resumed run must share.
    """

    share = "positives first"

    def __init__(
        self,
        model: ReaderStudent,
        corpus: ReaderCorpus,
        recipe: ReaderRecipe,
        *,
        steps: int,
        folder: Path | None = None,
        validate: Callable[[ReaderStudent], Mapping[str, float]] | None = None,
        teacher: Teacher | None = None,
        teacher_name: str = "",
    ) -> None:
        check_learnable(corpus, recipe, taught=teacher is not None)
        identity = _identity(recipe, corpus, steps, model, teacher_name)
        super().__init__(model, recipe, steps=steps, identity=identity, folder=folder, validate=validate)
        self.recipe = recipe
        prepare(model, recipe)
        self.teacher: TeacherScores | None = None
        if teacher is not None and recipe.distils:
            self.teacher = TeacherScores(teacher, None if folder is None else folder / TEACHER_SCORES)

    def _prepare(self, corpus: ReaderCorpus) -> tuple[Callable[[int], ReaderBatch], None]:
        return ReaderPlanner(corpus, self.recipe, steps=self.steps).batch, None

    def _step(self, batch: ReaderBatch, corpus: ReaderCorpus, texts: None) -> dict[str, float]:  # noqa: ARG002
        started = time.perf_counter()
        asked = self._asked(batch, corpus)
        totals = {term: sum(term in one.terms for one in asked) for term in TERMS}
        sums = dict.fromkeys((*TERMS, "loss", "accuracy", "margin"), 0.0)
        padded = 0
        torch.manual_seed(seed_of(self.recipe.seed, "step", batch.step))
        self.optimizer.zero_grad(set_to_none=True)
        for part in grouped(asked, self.recipe.graph_tokens * (GPU_CHUNK if self.device.type == "cuda" else 1)):
            loss, found, tokens = self._loss(part, totals)
            loss.backward()  # type: ignore[no-untyped-call]
            sums["loss"] += float(loss.detach())
            sums = {name: value + found.get(name, 0.0) for name, value in sums.items()}
            padded += tokens
        descended = self._descend(batch.step, sums["loss"], lambda: _named(batch, corpus))
        seconds = time.perf_counter() - started
        used = sum(len(window.tokens.ids) for one in asked for window in one.windows)
        compared = max(1, totals["selection"])
        terms = {term: sums[term] / totals[term] for term in TERMS if totals[term] and self._weight(term)}
        return {
            "loss": sums["loss"],
            "accuracy": sums["accuracy"] / compared,
            "margin": sums["margin"] / compared,
            **terms,
            **descended,
            "seconds": seconds,
            "tokens_per_second": used / seconds,
            "padding": 1 - used / padded,
        }

    def _weight(self, term: str) -> float:
        weight: float = getattr(self.recipe, f"{term}_weight")
        return weight

    def _asked(self, batch: ReaderBatch, corpus: ReaderCorpus) -> list[Asked]:
        questions = self.model.inputs.question_ids([corpus.texts.questions[question] for question in batch.questions])
        pairs: list[list[int]] = []
        passages: list[PassageText] = []
        for ids, group, untitled in zip(questions, batch.passages, batch.untitled, strict=True):
            for number, dropped in zip(group, untitled, strict=True):
                passage = corpus.passage(number)
                pairs.append(ids)
                passages.append(passage._replace(title="") if dropped else passage)
        inputs = iter(zip(self.model.inputs.build(pairs, passages, offsets=True), passages, strict=True))
        found = []
        for question, group in zip(batch.questions, batch.passages, strict=True):
            read = [next(inputs) for _ in group]
            wanted = answer_spans(read[0][1].text, corpus.answers[question]) if self._weight("span") else []
            window, spans = located(read[0][0], wanted)
            windows = [window, *(one.windows[0] for one, _ in read[1:])]
            text = readable_tokens(read[0][0], window, read[0][1].text)
            teacher = self._teacher_scores(question, group, corpus)
            found.append(Asked(windows, torch.from_numpy(text), spans, teacher))
        return found

    def _teacher_scores(self, question: int, passages: Sequence[int], corpus: ReaderCorpus) -> Tensor | None:
        if not self.recipe.distils:
            return None
        keys = [(question, passage) for passage in passages]
        scores = {key: corpus.given[key] for key in keys if key in corpus.given}
        if self.teacher is not None and len(scores) < len(keys):
            unknown = [key for key in keys if key not in scores]
            scores |= zip(unknown, self.teacher.of_pairs(unknown, corpus.texts), strict=True)
        return torch.tensor([scores.get(key, math.nan) for key in keys]) if scores else None

    def _loss(self, asked: Sequence[Asked], totals: Mapping[str, int]) -> tuple[Tensor, dict[str, float], int]:
        """Return the part of the batch's loss that these questions have, sums for the log, and padded tokens."""
        windows = [window for one in asked for window in one.windows]
        firsts = np.cumsum([0, *(len(one.windows) for one in asked)])
        wanted = {int(first) for first, one in zip(firsts, asked, strict=False) if one.spans}
        lengths = np.array([len(window.tokens.ids) for window in windows])
        tokens = self.recipe.chunk_tokens * (GPU_CHUNK if self.device.type == "cuda" else 1)
        selected: list[Tensor] = []
        rows: list[int] = []
        ends: dict[int, tuple[Tensor, Tensor]] = {}
        padded = 0
        for chunk in length_batches(lengths, tokens):
            read = [row for row, at in enumerate(chunk.tolist()) if at in wanted]
            with self.autocast():
                logits = self.model([windows[at] for at in chunk], spans_of=read)
            padded += len(chunk) * int(lengths[chunk].max())
            selected.append(logits.select.float())
            rows.extend(chunk.tolist())
            if logits.start is not None and logits.end is not None:
                for at, start, end in zip(chunk[read].tolist(), logits.start, logits.end, strict=True):
                    size = int(lengths[at])
                    ends[at] = start[:size].float(), end[:size].float()
        scores = torch.cat(selected)[torch.tensor(np.argsort(rows), device=self.device)]
        loss = 0 * scores.sum()  # these questions may have no term that counts
        sums = dict.fromkeys((*TERMS, "accuracy", "margin"), 0.0)
        for first, one in zip(firsts, asked, strict=False):
            own = scores[first : first + len(one.windows)]
            terms = self._terms(one, own, ends.get(int(first)))
            for term, value in terms.items():
                loss = loss + self._weight(term) * value / totals[term]
                sums[term] += float(value.detach())
            if len(own) > 1:
                margin = float(own.detach()[0] - own.detach()[1:].max())
                sums["accuracy"] += margin > 0
                sums["margin"] += margin
        return loss, sums, padded

    def _terms(self, one: Asked, scores: Tensor, ends: tuple[Tensor, Tensor] | None) -> dict[str, Tensor]:
        """Return the terms of a question's loss that have a weight."""
        terms = {term for term in one.terms if self._weight(term)}
        found: dict[str, Tensor] = {}
        if "selection" in terms:
            found["selection"] = selection_loss(scores)
        if "span" in terms and ends is not None:
            found["span"] = span_loss(*ends, one.text.to(self.device), one.spans)
        if one.teacher is not None and terms & {"kl", "mse", "margin_mse"}:
            known = torch.isfinite(one.teacher).to(self.device)
            student, teacher = scores[known], one.teacher.to(self.device)[known]
            if "kl" in terms:
                found["kl"] = divergence(student, teacher, self.recipe.temperature)
            if "mse" in terms:
                found["mse"] = nn.functional.mse_loss(student, teacher)
            if "margin_mse" in terms:
                found["margin_mse"] = margin_mse(student, teacher)
        return found


def check_learnable(corpus: ReaderCorpus, recipe: ReaderRecipe, *, taught: bool) -> None:
    """Raise `InvalidInputError` when no question has what the terms of the loss with a weight learn from."""
    answered = recipe.span_weight > 0 and any(corpus.answers)
    if not (recipe.selection_weight > 0 or answered or (recipe.distils and (taught or corpus.given))):
        raise InvalidInputError(
            "there is nothing to learn: selection_weight is 0, and the questions have neither answers for spans nor a "
            "teacher's scores (teacher, or teacher_scores with the questions) whose loss has a weight"
        )


def prepare(model: ReaderStudent, recipe: ReaderRecipe) -> None:
    """Set the dropout of the transformer, and whether its embeddings of words are trained."""
    if recipe.dropout is not None:
        for module in model.reader.modules():
            if isinstance(module, nn.Dropout):
                module.p = recipe.dropout
            for name in ("dropout_prob", "attention_dropout"):
                if isinstance(getattr(module, name, None), float):
                    setattr(module, name, recipe.dropout)
    if not recipe.train_words:
        words: nn.Module = model.reader.bert.get_input_embeddings()  # type: ignore[operator]
        words.requires_grad_(requires_grad=False)


def grouped(asked: Sequence[Asked], tokens: int) -> list[list[Asked]]:
    """Return the questions in groups of at most `tokens` padded tokens and at least one question."""
    groups: list[list[Asked]] = []
    used = tokens
    for one in asked:
        if used + one.tokens > tokens:
            groups.append([])
            used = 0
        groups[-1].append(one)
        used += one.tokens
    return groups


def readable_tokens(passage: ReaderInput, window: Window, text: str) -> NDArray[np.bool_]:
    """Return bool[s]: the tokens of a window that take part in the softmax of the spans."""
    found = np.zeros(len(window.tokens.ids), dtype=np.bool_)
    visible = span_tokens(text, passage.offsets).visible
    found[window.first : window.first + window.length] = visible[window.at : window.at + window.length]
    return found


def located(passage: ReaderInput, spans: Sequence[tuple[int, int]]) -> tuple[Window, list[tuple[int, int]]]:
    """Return the first window that holds one of the `spans` of characters, and those that it holds as tokens of it.

    Without any it is the first window, and there are none.
    """
    tokens = []
    for begin, end in spans:
        within = [
            at for at, (first, last) in enumerate(passage.offsets) if first < end and last > begin and first < last
        ]
        if within:
            tokens.append((within[0], within[-1]))
    for window in passage.windows:
        shift = window.first - window.at
        held = [
            (first + shift, last + shift)
            for first, last in dict.fromkeys(tokens)
            if window.at <= first and last < window.at + window.length
        ]
        if held:
            return window, held
    return passage.windows[0], []


def _named(batch: ReaderBatch, corpus: ReaderCorpus) -> tuple[list[str], list[str]]:
    """Return the questions of a batch with their places, and the ids of its passages."""
    texts = corpus.texts
    questions = [f"{texts.places[row]} {texts.questions[row]!r:.80}" for row in batch.questions]
    return questions, [texts.passage_ids[row] for group in batch.passages for row in group]


def _identity(recipe: ReaderRecipe, corpus: ReaderCorpus, steps: int, model: ReaderStudent, teacher_name: str) -> str:
    """Return a hash of the settings and the data, which a resumed run must share."""
    digest = hashlib.blake2b(f"{to_json(recipe)} {steps} {teacher_name}".encode(), digest_size=16)
    texts = corpus.texts
    for part in (texts.questions, texts.passages, texts.gold, texts.hard, texts.easy, corpus.answers):
        digest.update(json.dumps(part).encode())
    digest.update(json.dumps([(*key, score) for key, score in corpus.given.items()]).encode())
    digest.update(model.card.to_json().encode())
    return digest.hexdigest()
