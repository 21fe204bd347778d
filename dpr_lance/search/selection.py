"""Which of the ranked hits are the result: the best ones, grouped and diverse on request."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np
import pyarrow.compute as pc
from lancedb.table import Table

from dpr_lance.checks import checked_share, checked_text, checked_whole
from dpr_lance.encoders.vectors import Vector, vectors_of
from dpr_lance.errors import InvalidInputError
from dpr_lance.records.hits import Hit, Hits, Mode
from dpr_lance.search.candidates import CandidateSearch, Encode
from dpr_lance.search.diversity import choose_diverse
from dpr_lance.search.grouping import Chosen, Grouping, complete_groups, narrowed_by
from dpr_lance.table.filters import among
from dpr_lance.table.schema import ID, TableCard
from dpr_lance.table.snapshot import Snapshot

POOL_PER_HIT, LEAST_POOL, MOST_POOL = 5, 50, 1_000
"""Ranked hits that are chosen from: for each hit of the result, at least, and at most where that is enough."""

Rank = Callable[[CandidateSearch, Sequence[str], int, Mode | None], list[Hits]]
"""From a search, questions, k and a mode to the k best passages for each question."""


@dataclass(frozen=True, slots=True)
class Page:
    """The hits of a result: k hits or groups after the first `offset`, of those with a score of `min_score` or more."""

    k: int
    offset: int = 0
    min_score: float | None = None

    @property
    def end(self) -> int:
        """How many hits or groups there are up to the last one of the page."""
        return self.offset + self.k

    def high_enough(self, hits: Hits) -> Hits:
        """Return the hits with the lowest score or more. Where some are re-scored, the others have no such score."""
        if self.min_score is None:
            return hits
        scored = [hit for hit in hits if hit.rerank_score is not None] if hits.reranked else hits.hits
        return replace(hits, hits=tuple(hit for hit in scored if hit.score >= self.min_score))


@dataclass(frozen=True, slots=True)
class Selection:
    """How the result is chosen from the ranked hits."""

    grouping: Grouping | None = None
    diversity: float = 0.0

    @property
    def is_plain(self) -> bool:
        """Whether the result is the best hits."""
        return self.grouping is None and not self.diversity

    def pool(self, k: int) -> int:
        """Return how many ranked hits the result is chosen from."""
        if self.is_plain:
            return k
        hits = k * (self.grouping.per_group if self.grouping else 1)
        return max(hits, min(max(LEAST_POOL, POOL_PER_HIT * hits), MOST_POOL))

    def pool_of(
        self, search: CandidateSearch, found: Sequence[Hits], asked: int, k: int, rank: Rank, *, reranks: bool
    ) -> Pool:
        """Return the ranked hits, `asked` for each question, with those that are missing from k groups, best first.

        With them come the stored vectors that diversity needs.
        """
        if self.is_plain:
            return Pool(found, {})
        started = time.perf_counter()
        whole = [self._with_groups(search, hits, asked, k, rank, every=reranks or self.diversity > 0) for hits in found]
        vectors = self._vectors(search.snapshot, whole) if self.diversity else {}
        return Pool(timed(whole, time.perf_counter() - started), vectors)

    def _with_groups(
        self, search: CandidateSearch, found: Hits, asked: int, k: int, rank: Rank, *, every: bool
    ) -> Hits:
        """Search for further passages with the known groups left out, then for those that known groups lack.

        With `every`, all groups are completed: re-ranking and diversity can put any of them first.
        """
        grouping = self.grouping
        if grouping is None or len(found) < asked:
            return found

        def further(condition: Callable[[Table], str]) -> tuple[list[Hit], bool]:
            where = narrowed_by(search.snapshot.table, search.where, condition(search.snapshot.table))
            more = rank(replace(search, where=where), [found.question], asked, found.mode)[0]
            return list(more), len(more) < asked

        hits = complete_groups(found.hits, grouping, k, further, every=every)
        return _ranked(found, hits)

    def _vectors(self, snapshot: Snapshot, found: Sequence[Hits]) -> dict[str, Vector]:
        """Return the stored vectors of the hits by passage id."""
        ids = sorted({hit.id for hits in found for hit in hits})
        if not ids:
            return {}
        column = snapshot.card.column
        read = snapshot.ask(snapshot.reads.query().where(among(ID, ids)).select([ID, column]).to_arrow()).result()
        read = read.filter(pc.is_valid(read[column]))
        return dict(zip(read[ID].to_pylist(), vectors_of(read[column]), strict=True))

    def chosen(self, pool: Pool, page: Page) -> list[Hits]:
        """Return the page of each question: hits, or those of groups."""
        started = time.perf_counter()
        results = [self._chosen(page.high_enough(hits), page, pool.vectors) for hits in pool.found]
        return results if self.is_plain else timed(results, time.perf_counter() - started)

    def _chosen(self, hits: Hits, page: Page, vectors: Mapping[str, Vector]) -> Hits:
        if self.is_plain:
            return hits if not page.offset and len(hits) <= page.k else replace(hits, hits=hits[page.offset : page.end])
        chosen = Chosen(page.end, self.grouping)
        if self.diversity:
            choose_diverse(hits.hits, vectors, self.diversity, chosen.take)
        else:
            for hit in hits:
                chosen.take(hit)
        before, kept = chosen.parted(page.offset)
        return _ranked(hits, kept, after=len(before))


class SelectionFields(TypedDict):
    """The arguments of a search that make its selection."""

    group_by: str | None
    per_group: int
    diversity: float


def checked_selection(group_by: object, per_group: object, diversity: object) -> SelectionFields:
    """Return these arguments with plain values; raise `InvalidInputError` that names one to change."""
    wanted = "give the number of passages of a group, 1 or more"
    count = checked_whole(per_group, "per_group", wanted, least=1)
    share = checked_share(diversity, "diversity", "give a number from 0 (no diversity) to 1 (diversity alone)")
    if group_by is None and count != 1:
        raise InvalidInputError(f"per_group={count} needs group_by=..., such as group_by='document_id'")
    column = None if group_by is None else checked_text(group_by, name="the name of a column", place="group_by")
    return SelectionFields(group_by=column, per_group=count, diversity=share)


@dataclass(frozen=True, slots=True)
class Pool:
    """The ranked hits of each question that its result is chosen from, and the vectors that are compared."""

    found: Sequence[Hits]
    vectors: Mapping[str, Vector]


def timed(found: Sequence[Hits], taken: float) -> list[Hits]:
    """Return the hits with these seconds added to the time of choosing and to the total."""
    return [
        replace(
            hits,
            seconds={
                **hits.seconds,
                "select": hits.seconds["select"] + taken,
                "total": hits.seconds["total"] + taken,
            },
        )
        for hits in found
    ]


def _ranked(hits: Hits, chosen: Sequence[Hit], *, after: int = 0) -> Hits:
    return replace(hits, hits=tuple(replace(hit, rank=rank) for rank, hit in enumerate(chosen, start=after + 1)))


def encoded_once(encode: Encode) -> Encode:
    """Return the same encoder of questions, which remembers what it has encoded: for further searches."""
    known: dict[str, Vector] = {}

    def encoded(questions: Sequence[str], card: TableCard) -> Vector:
        new = [question for question in questions if question not in known]
        if new:
            known.update(zip(new, encode(new, card), strict=True))
        return np.stack([known[question] for question in questions])

    return encoded
