"""Which questions and passages make a batch: a pure function of (seed, step). Needs no torch.

A batch holds each passage once, and a question's other known positives are never its negatives.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from dpr_lance.errors import InvalidInputError

from .config import Recipe
from .examples import Examples

Indices: TypeAlias = NDArray[np.int64]

HARDEST_FIRST = 30
"""A hard negative is drawn from the first 30 that a question has (the original draws from the top 30 to 50)."""


def seed_of(*parts: int | str) -> int:
    """Return 63 bits that depend on all parts and on nothing else."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@dataclass(frozen=True, slots=True)
class Batch:
    """B questions and the C different passages that they are scored against."""

    step: int
    dataset: int
    questions: Indices
    """[B] positions among all questions."""
    passages: Indices
    """[C] positions among all passages."""
    targets: Indices
    """[B] column of each question's positive."""
    own: NDArray[np.bool_]
    """[B, C]: the question's own positive and negatives."""
    excluded: NDArray[np.bool_]
    """[B, C]: other positives of the question, by id or by text; they are not its negatives."""


@dataclass(frozen=True)
class Corpus:
    """All questions and passages of a run by position, with each question's pools of passages."""

    questions: tuple[str, ...]
    places: tuple[str, ...]
    passages: tuple[tuple[str, str], ...]
    """(title, text)."""
    passage_ids: tuple[str, ...]
    same: Indices
    """For each passage the position of the first one with the same text."""
    gold: tuple[tuple[int, ...], ...]
    hard: tuple[tuple[int, ...], ...]
    easy: tuple[tuple[int, ...], ...]
    datasets: tuple[range, ...]
    """The questions of each data set."""
    rates: tuple[float, ...] | None = None
    """Relative numbers of batches of each set; None: by size."""


def make_corpus(sets: Sequence[Examples], *, rates: tuple[float, ...] | None = None) -> Corpus:
    """Join data sets; a question without a positive is left out (see `mining` for finding one)."""
    position: dict[tuple[str, str, str], int] = {}
    first: dict[str, int] = {}
    passages: list[tuple[str, str]] = []
    ids: list[str] = []
    same: list[int] = []
    rows: list[tuple[str, str, tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = []
    ranges = []
    for examples in sets:
        at: dict[str, int] = {}
        for identity, passage in examples.passages.items():
            key = (identity, passage.title, passage.text)
            if key not in position:
                position[key] = len(passages)
                passages.append((passage.title, passage.text))
                ids.append(identity)
                same.append(first.setdefault(passage.same, position[key]))
            at[identity] = position[key]
        start = len(rows)
        for row in examples.rows:
            if row.positives:
                pools = [tuple(at[i] for i in pool) for pool in (row.positives, row.hard_negatives, row.negatives)]
                rows.append((row.question, row.place, pools[0], pools[1], pools[2]))
        ranges.append(range(start, len(rows)))
        if not ranges[-1]:
            raise InvalidInputError(f"{examples.name}: no question has a positive passage; there is nothing to learn")
    return Corpus(
        questions=tuple(row[0] for row in rows),
        places=tuple(row[1] for row in rows),
        passages=tuple(passages),
        passage_ids=tuple(ids),
        same=np.array(same, dtype=np.int64),
        gold=tuple(row[2] for row in rows),
        hard=tuple(row[3] for row in rows),
        easy=tuple(row[4] for row in rows),
        datasets=tuple(ranges),
        rates=rates,
    )


class Planner:
    """Plans every batch of a run. Two planners with the same arguments agree on every step, in any order."""

    def __init__(self, corpus: Corpus, recipe: Recipe, *, steps: int | None = None) -> None:
        """Plan `steps` batches, by default one pass over the data.

        Raises `InvalidInputError` for a set that does not fill a batch, and for rates that do not fit the sets.
        """
        self.corpus, self.recipe = corpus, recipe
        self._texts = len(set(corpus.same.tolist()))
        self._same: list[frozenset[int]] = [
            frozenset(int(corpus.same[passage]) for passage in gold) for gold in corpus.gold
        ]
        per_set = [len(rows) // recipe.batch_size for rows in corpus.datasets]
        if not all(per_set):
            short = min(len(rows) for rows in corpus.datasets)
            raise InvalidInputError(
                f"{short} questions do not fill a batch of {recipe.batch_size}: lower batch_size, or bring more of them"
            )
        self.steps_per_epoch = sum(per_set)
        self.steps = self.steps_per_epoch if steps is None else steps
        self._per_set = per_set
        rates = corpus.rates
        weights = np.array(per_set if rates is None else rates, dtype=np.float64)
        if len(weights) != len(per_set) or not np.isfinite(weights).all() or (weights <= 0).any():
            raise InvalidInputError(f"rates={rates!r}: give a number above 0 for each of {len(per_set)} data sets")
        draws = np.random.default_rng(seed_of(recipe.seed, "data sets")).random(self.steps)
        self._set_of_step = np.searchsorted(np.cumsum(weights / weights.sum()), draws, side="right")
        self._set_of_step = np.minimum(self._set_of_step, len(per_set) - 1)
        self._epochs: dict[tuple[int, int], list[Indices]] = {}

    def batch(self, step: int) -> Batch:
        """Return the batch of `step`, counted from 0."""
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} of a run of {self.steps}")
        dataset = int(self._set_of_step[step])
        number = int(np.count_nonzero(self._set_of_step[:step] == dataset))
        epoch, place = divmod(number, self._per_set[dataset])
        return self._assembled(step, dataset, epoch, self._epoch(dataset, epoch)[place])

    def _epoch(self, dataset: int, epoch: int) -> list[Indices]:
        key = (dataset, epoch)
        if key not in self._epochs:
            self._epochs = {known: plan for known, plan in self._epochs.items() if known[0] != dataset}
            self._epochs[key] = self._planned(dataset, epoch)
        return self._epochs[key]

    def _planned(self, dataset: int, epoch: int) -> list[Indices]:
        """Fill batches in shuffled order; a question that would meet a positive of its own waits for the next batch.

        Questions that still wait at the end fill the last batches, where only the mask keeps positives apart.
        """
        rows = self.corpus.datasets[dataset]
        order = np.random.default_rng(seed_of(self.recipe.seed, "order", dataset, epoch)).permutation(len(rows))
        pending = deque(rows[int(at)] for at in order)
        plan: list[Indices] = []
        while len(plan) < self._per_set[dataset]:
            taken: list[int] = []
            waiting: list[int] = []
            seen: set[int] = set()
            positive: set[int] = set()
            while pending and len(taken) < self.recipe.batch_size:
                question = pending.popleft()
                drawn = {int(self.corpus.same[passage]) for passage in self._drawn(question, epoch)}
                known = self._same[question]
                if drawn & positive or known & seen:
                    waiting.append(question)
                    continue
                taken.append(question)
                seen |= drawn
                positive |= known
            short = self.recipe.batch_size - len(taken)
            plan.append(np.array(taken + waiting[:short], dtype=np.int64))
            pending.extendleft(reversed(waiting[short:]))
        return plan

    def _drawn(self, question: int, epoch: int) -> list[int]:
        corpus = self.corpus
        rng = np.random.default_rng(seed_of(self.recipe.seed, "passages", epoch, question))
        gold = corpus.gold[question]
        positive = gold[int(rng.integers(len(gold)))] if self.recipe.any_positive else gold[0]
        hard = sample(rng, corpus.hard[question][:HARDEST_FIRST], self.recipe.hard_negatives)
        hard += sample(rng, corpus.easy[question], self.recipe.hard_negatives - len(hard))
        return [positive, *hard, *self._random_passages(question, self.recipe.random_negatives, rng)]

    def _random_passages(self, question: int, count: int, rng: np.random.Generator) -> list[int]:
        """Draw from all passages that are not positives of the question, as many as there are."""
        count = min(count, self._texts - len(self._same[question]))
        found: list[int] = []
        while len(found) < count:
            passage = int(rng.integers(len(self.corpus.passages)))
            if int(self.corpus.same[passage]) not in self._same[question] and passage not in found:
                found.append(passage)
        return found

    def _assembled(self, step: int, dataset: int, epoch: int, questions: Indices) -> Batch:
        column: dict[int, int] = {}
        drawn = [self._drawn(int(question), epoch) for question in questions]
        # The first of the passages with the same text represents all.
        for passage in (passage for row in drawn for passage in row):
            column.setdefault(int(self.corpus.same[passage]), len(column))
        shape = len(questions), len(column)
        own, excluded = np.zeros(shape, dtype=np.bool_), np.zeros(shape, dtype=np.bool_)
        targets = np.array([column[int(self.corpus.same[row[0]])] for row in drawn], dtype=np.int64)
        for row, (question, passages) in enumerate(zip(questions, drawn, strict=True)):
            own[row, [column[int(self.corpus.same[passage])] for passage in passages]] = True
            excluded[row, [column[same] for same in self._same[int(question)] if same in column]] = True
        excluded[np.arange(len(targets)), targets] = False
        if self.recipe.in_batch is not None:
            group = np.arange(len(targets)) // self.recipe.in_batch
            shared = (group[:, None] == group) @ own  # [B, C]: somebody's of the same group
            excluded |= ~shared
        own &= ~excluded
        return Batch(step, dataset, questions, np.array(list(column), dtype=np.int64), targets, own, excluded)


def sample(rng: np.random.Generator, pool: Sequence[int], count: int) -> list[int]:
    """Return up to `count` different members of `pool`."""
    return [pool[int(at)] for at in rng.permutation(len(pool))[:count]] if count > 0 else []
