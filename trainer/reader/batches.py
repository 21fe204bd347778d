"""Which questions and passages make a batch of the reader: a pure function of (seed, step). Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from dpr_lance.errors import InvalidInputError
from dpr_lance.reader.reranker import PassageText

from ..batches import Corpus, make_corpus, sample, seed_of
from ..examples import Examples
from .config import ReaderRecipe

Pair: TypeAlias = tuple[int, int]
"""Positions of a question and of a passage in a corpus."""


@dataclass(frozen=True)
class ReaderCorpus:
    """The questions and passages of a run with the answers, and the teacher's scores that came with the questions."""

    texts: Corpus
    answers: tuple[tuple[str, ...], ...]
    given: Mapping[Pair, float]

    def passage(self, number: int) -> PassageText:
        """Return a passage as the reader reads it."""
        return PassageText(*self.texts.passages[number])


def make_reader_corpus(sets: Sequence[Examples]) -> ReaderCorpus:
    """Join data sets; a question without a positive is left out."""
    texts = make_corpus(sets)
    rows = [(examples, row) for examples in sets for row in examples.rows if row.positives]
    given: dict[Pair, float] = {}
    for question, (_, row) in enumerate(rows):
        pools = (texts.gold[question], texts.hard[question], texts.easy[question])
        names = (*row.positives, *row.hard_negatives, *row.negatives)
        for name, passage in zip(names, (at for pool in pools for at in pool), strict=True):
            if name in row.teacher_scores:
                given[question, passage] = row.teacher_scores[name]
    return ReaderCorpus(texts, tuple(row.answers for _, row in rows), given)


@dataclass(frozen=True, slots=True)
class ReaderBatch:
    """Questions, each with its passages."""

    step: int
    questions: tuple[int, ...]
    passages: tuple[tuple[int, ...], ...]
    """Of each question: a positive first, then its negatives. The last questions may have a positive one alone."""
    untitled: tuple[NDArray[np.bool_], ...]
    """Of each question: the passages that are read without their titles."""


class ReaderPlanner:
    """Plans every batch of a run. Two planners with the same arguments agree on every step, in any order."""

    def __init__(self, corpus: ReaderCorpus, recipe: ReaderRecipe, *, steps: int | None = None) -> None:
        """Plan `steps` batches, by default one pass over the data.

        Raises `InvalidInputError` where the questions do not fill a batch.
        """
        self.corpus, self.recipe = corpus, recipe
        total = len(corpus.texts.questions)
        self.steps_per_epoch = total // recipe.batch_size
        if not self.steps_per_epoch:
            raise InvalidInputError(
                f"{total} questions do not fill a batch of {recipe.batch_size}: lower batch_size, or bring more of them"
            )
        self.steps = self.steps_per_epoch if steps is None else steps
        self._answered = np.flatnonzero([bool(answers) for answers in corpus.answers])
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    def batch(self, step: int) -> ReaderBatch:
        """Return the batch of `step`, counted from 0."""
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} of a run of {self.steps}")
        epoch, place = divmod(step, self.steps_per_epoch)
        if self._order[0] != epoch:
            rng = np.random.default_rng(seed_of(self.recipe.seed, "order", epoch))
            self._order = epoch, rng.permutation(len(self.corpus.texts.questions))
        size = self.recipe.batch_size
        questions = tuple(int(at) for at in self._order[1][place * size : (place + 1) * size])
        passages = tuple(tuple(self._drawn(question, epoch, self.recipe.passages - 1)) for question in questions)
        further = self._further(step)
        questions += further
        passages += tuple(tuple(self._drawn(question, step, 0)) for question in further)
        rng = np.random.default_rng(seed_of(self.recipe.seed, "titles", step))
        untitled = tuple(rng.random(len(group)) < self.recipe.title_dropout for group in passages)
        return ReaderBatch(step, questions, passages, untitled)

    def _further(self, step: int) -> tuple[int, ...]:
        """Return the questions that train spans alone."""
        if not self.recipe.span_questions or not len(self._answered):
            return ()
        rng = np.random.default_rng(seed_of(self.recipe.seed, "spans", step))
        return tuple(int(at) for at in rng.choice(self._answered, self.recipe.span_questions))

    def _drawn(self, question: int, epoch: int, wanted: int) -> list[int]:
        """Return a positive, then hard negatives, easy ones where these do not suffice, and random passages else."""
        texts = self.corpus.texts
        rng = np.random.default_rng(seed_of(self.recipe.seed, "passages", epoch, question))
        gold = texts.gold[question]
        positive = gold[int(rng.integers(len(gold)))] if self.recipe.any_positive else gold[0]
        negatives = sample(rng, texts.hard[question], wanted)
        negatives += sample(rng, texts.easy[question], wanted - len(negatives))
        known = {int(texts.same[passage]) for passage in (*gold, *negatives)}
        for passage in rng.permutation(len(texts.passages)) if len(negatives) < wanted else ():
            if len(negatives) == wanted:
                break
            if int(texts.same[passage]) not in known:
                known.add(int(texts.same[passage]))
                negatives.append(int(passage))
        return [positive, *negatives]
