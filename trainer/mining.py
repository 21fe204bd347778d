"""Hard negatives from the table that serves: BM25's mistakes and the encoder's own. Needs no torch.

These filters drop passages from a ranking, in this order, and count them: listed positives; the same text, or a
neighbour that overlaps with a positive; a passage that holds an answer; ranks before `first_rank`; dense scores too
near to the positive's; a teacher that scores it as high as the positive. The rest are negatives, best ranks first.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dpr_lance.encoders.encoding import UnencodableError
from dpr_lance.encoders.vectors import nearest
from dpr_lance.text.answers import answer_matcher

from .config import Mining, Source
from .distillation import Teacher
from .examples import Example, Examples, KnownPassage

if TYPE_CHECKING:  # LanceDB is not needed to train
    from dpr_lance.records.hits import Hit
    from dpr_lance.retriever import Retriever

Encode: TypeAlias = Callable[[Sequence[tuple[str, str]]], NDArray[np.float32]]

QUESTIONS_AT_ONCE = 256
PASSAGES_AT_ONCE = 4096
ANSWER_DEPTH = 100
"""BM25 passages that are searched for an answer (paper, section 4.2)."""
FILTERS = ("positive", "near-duplicate", "answer", "rank", "margin", "teacher")
_OVERLAP_WORDS = 8
"""Passages overlap when this many words at the end of one are in the next."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A passage of a ranking, with its rank (from 1)."""

    passage: KnownPassage
    rank: int
    score: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """The passages for one question, best first; the positive's score where it is known."""

    source: Source
    candidates: Sequence[Candidate]
    positive_score: float | None = None


@dataclass(frozen=True, slots=True)
class Negative:
    """A hard negative of a question, and where it was found."""

    question: str
    passage: KnownPassage
    source: Source
    rank: int
    score: float
    positive_score: float | None
    teacher_score: float | None
    round: int


@dataclass(frozen=True, slots=True)
class Mined:
    """The negatives, and what each filter dropped."""

    negatives: tuple[Negative, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    questions: frozenset[str] = frozenset()
    """All questions that had a ranking."""
    answered: tuple[tuple[str, str], ...] = ()
    """(question, passage id) where a passage that is not labelled holds an answer: candidates for positives."""

    @property
    def without(self) -> int:
        """Questions that got no negative."""
        return len(self.questions - {negative.question for negative in self.negatives})

    def __add__(self, other: Mined) -> Mined:
        dropped = {what: self.dropped.get(what, 0) + other.dropped.get(what, 0) for what in FILTERS}
        negatives, questions = self.negatives + other.negatives, self.questions | other.questions
        return Mined(negatives, dropped, questions, self.answered + other.answered)


def mine(
    rows: Sequence[Example],
    passages: Mapping[str, KnownPassage],
    rankings: Iterable[Ranking],
    settings: Mining,
    *,
    teacher: Teacher | None = None,
    round_number: int = 0,
) -> Mined:
    """Return the negatives among `rankings`, one ranking for each of `rows` (see the module's text)."""
    dropped: Counter[str] = Counter(dict.fromkeys(FILTERS, 0))
    negatives: list[Negative] = []
    answered: list[tuple[str, str]] = []
    for row, ranking in zip(rows, rankings, strict=True):
        left = _unlike_positives(row, ranking, passages, dropped)
        holds = answer_matcher(row.answers)
        hits = {found.passage.id for found in left if holds(found.passage.text)}
        dropped["answer"] += len(hits)
        answered.extend((row.question, identity) for identity in sorted(hits))
        left = [found for found in left if found.passage.id not in hits]
        ranked = [found for found in left if found.rank >= settings.first_rank]
        dropped["rank"] += len(left) - len(ranked)
        limit = _limit(ranking, settings.margin)
        left = [found for found in ranked if found.score <= limit]
        dropped["margin"] += len(ranked) - len(left)
        left = left[: settings.keep]
        scores: list[float | None] = [None] * len(left)
        if teacher is not None and left:
            left, scores = _below_teacher(row, left, passages, teacher, settings.margin, dropped)
        negatives.extend(
            Negative(
                row.question,
                found.passage,
                ranking.source,
                found.rank,
                found.score,
                ranking.positive_score,
                score,
                round_number,
            )
            for found, score in zip(left, scores, strict=True)
        )
    return Mined(tuple(negatives), dropped, frozenset(row.question for row in rows), tuple(answered))


def _limit(ranking: Ranking, margin: float) -> float:
    """Return the best score that a negative may have; without the positive's score a dense ranking gives none."""
    if ranking.source != "dense":
        return float("inf")
    score = ranking.positive_score
    return float("-inf") if score is None else score - margin * abs(score)


def _unlike_positives(
    row: Example, ranking: Ranking, passages: Mapping[str, KnownPassage], dropped: Counter[str]
) -> list[Candidate]:
    positives = [passages[identity] for identity in row.positives]
    listed = {passage.id for passage in positives}
    texts = {passage.same for passage in positives}
    left = []
    for found in ranking.candidates:
        if found.passage.id in listed:
            dropped["positive"] += 1
        elif found.passage.same in texts or any(_overlap(found.passage, positive) for positive in positives):
            dropped["near-duplicate"] += 1
        else:
            left.append(found)
    return left


def _overlap(passage: KnownPassage, positive: KnownPassage) -> bool:
    """Return whether two passages are neighbours in a document and share words."""
    (document, _, position), (other, _, place) = passage.id.rpartition("#"), positive.id.rpartition("#")
    if document != other or not document or not (position.isdecimal() and place.isdecimal()):
        return False
    if abs(int(position) - int(place)) != 1:
        return False
    first, second = (passage.same, positive.same) if int(position) < int(place) else (positive.same, passage.same)
    return " ".join(first.split()[-_OVERLAP_WORDS:]) in second


def _below_teacher(
    row: Example,
    left: list[Candidate],
    passages: Mapping[str, KnownPassage],
    teacher: Teacher,
    margin: float,
    dropped: Counter[str],
) -> tuple[list[Candidate], list[float | None]]:
    positive = passages[row.positives[0]]
    pairs = [(row.question, (one.title, one.text)) for one in (positive, *(found.passage for found in left))]
    best, *scores = (float(score) for score in teacher(pairs))
    limit = best - margin * abs(best)
    kept = [(found, score) for found, score in zip(left, scores, strict=True) if score <= limit]
    dropped["teacher"] += len(left) - len(kept)
    return [found for found, _ in kept], [score for _, score in kept]


# Rankings


def rank_through(
    retriever: Retriever,
    rows: Sequence[Example],
    source: Source,
    depth: int,
    *,
    with_answers: bool = False,
    unencodable: Callable[[Example, str], None] | None = None,
) -> Iterable[Ranking]:
    """Yield what the table's BM25 index, its vectors, or both find for each question.

    `with_answers` adds the answers to BM25's question. `unencodable` receives each question that the table's encoder
    makes no vector of, and the reason; its ranking is empty.
    """
    for start in range(0, len(rows), QUESTIONS_AT_ONCE):
        part = rows[start : start + QUESTIONS_AT_ONCE]
        questions = [" ".join([row.question, *row.answers]) if with_answers else row.question for row in part]
        found: Sequence[Sequence[Hit]]
        try:
            found = retriever.search(questions, depth, mode=source)
        except UnencodableError:
            if unencodable is None:
                raise
            found = _one_by_one(retriever, part, depth, unencodable)
        for row, hits in zip(part, found, strict=True):
            candidates = [_candidate(hit) for hit in hits]
            listed = set(row.positives)
            scores = [found.score for found in candidates if found.passage.id in listed]
            yield Ranking(source, candidates, max(scores, default=None))


def _one_by_one(
    retriever: Retriever, rows: Sequence[Example], depth: int, unencodable: Callable[[Example, str], None]
) -> list[Sequence[Hit]]:
    found: list[Sequence[Hit]] = []
    for row in rows:
        try:
            found.append(retriever.search(row.question, depth, mode="dense"))
        except UnencodableError as error:
            unencodable(row, error.reasons[0])
            found.append(())
    return found


def _candidate(hit: Hit) -> Candidate:
    return Candidate(KnownPassage(hit.id, hit.title, hit.text), hit.rank, hit.score)


def rank_all(
    retriever: Retriever,
    rows: Sequence[Example],
    passages: Mapping[str, KnownPassage],
    *,
    encode_questions: Callable[[Sequence[str]], NDArray[np.float32]],
    encode_passages: Encode,
    depth: int,
    blank: Callable[[Sequence[tuple[str, str]]], NDArray[np.bool_]] | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Ranking]:
    """Rank the whole table exactly by an encoder in training (ANCE, Xiong et al. 2021).

    The table's passages are streamed and encoded once; its stored vectors stay. Memory holds one block of vectors and
    the best `depth` passages of each question. `blank` finds passages without a token, which get no rank; `progress`
    receives the number of passages ranked so far.
    """
    questions = encode_questions([row.question for row in rows])  # [q, d]
    own = [passages[row.positives[0]] for row in rows]
    positive_scores = (questions * encode_passages([(one.title, one.text) for one in own])).sum(axis=1)
    ids: list[str] = []

    def parts() -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        unread = iter(retriever.passages())
        while part := list(itertools.islice(unread, PASSAGES_AT_ONCE)):
            block = [(passage.title, passage.text) for passage in part]
            if blank is not None:
                kept = np.flatnonzero(~blank(block)).tolist()
                part, block = [part[at] for at in kept], [block[at] for at in kept]
            if block:
                yield encode_passages(block), np.arange(len(ids), len(ids) + len(block))
            ids.extend(passage.id for passage in part)
            progress(len(ids))

    found = nearest(questions, parts(), depth)
    stored = {passage.id: passage for passage in retriever.get(sorted({ids[at] for hits, _ in found for at in hits}))}
    rankings = []
    for (numbers, scores), positive_score in zip(found, positive_scores, strict=True):
        hits = [(ids[number], float(score)) for number, score in zip(numbers, scores, strict=True)]
        candidates = [
            Candidate(KnownPassage(name, stored[name].title, stored[name].text), rank, score)
            for rank, (name, score) in enumerate(hits, start=1)
            if name in stored
        ]
        rankings.append(Ranking("dense", candidates, float(positive_score)))
    return rankings


# Examples


def with_negatives(examples: Examples, negatives: Sequence[Negative], *, ahead: bool = False) -> Examples:
    """Return the examples with mined negatives after their own hard ones, or before them (`ahead`)."""
    mined: dict[str, list[str]] = {}
    passages = dict(examples.passages)
    for negative in negatives:
        passages.setdefault(negative.passage.id, negative.passage)
        mined.setdefault(negative.question, []).append(negative.passage.id)
    rows = []
    for row in examples.rows:
        fresh = mined.get(row.question, [])
        both = (*fresh, *row.hard_negatives) if ahead else (*row.hard_negatives, *fresh)
        rows.append(replace(row, hard_negatives=tuple(dict.fromkeys(both))))
    return replace(examples, rows=tuple(rows), passages=passages)


def distant_positives(retriever: Retriever, examples: Examples) -> Examples:
    """Give questions that have only answers the best BM25 passage that contains one (paper, section 4.2).

    BM25 searches for the question with its answers. A question is dropped, and counted, when none of the first 100
    passages contains an answer.
    """
    wanting = [row for row in examples.rows if not row.positives]
    if not wanting:
        return examples
    passages, found = dict(examples.passages), {}
    for row, ranking in zip(
        wanting, rank_through(retriever, wanting, "bm25", ANSWER_DEPTH, with_answers=True), strict=True
    ):
        holds = answer_matcher(row.answers)
        best = next((one.passage for one in ranking.candidates if holds(one.passage.text)), None)
        if best is not None:
            passages[best.id] = best
            found[row.question] = best.id
    rows = [
        row if row.positives else replace(row, positives=(found[row.question],))
        for row in examples.rows
        if row.positives or row.question in found
    ]
    oddities = Counter(examples.oddities)
    oddities["positive found by its answer"] += len(found)
    oddities["no passage with an answer: left out"] += len(wanting) - len(found)
    return replace(examples, rows=tuple(rows), passages=passages, oddities=oddities)
