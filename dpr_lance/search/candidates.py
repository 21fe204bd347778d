"""The candidates of a search: what both legs found, merged, every candidate with both scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dpr_lance.encoders.vectors import Vector, vectors_of
from dpr_lance.errors import EncoderError, MissingExtraError
from dpr_lance.records.hits import Effort, Mode
from dpr_lance.search.fusion import Candidates, Scores, fused_scores
from dpr_lance.search.legs import Leg, bm25_leg, dense_in_memory, dense_in_table, effort_of
from dpr_lance.search.resident import Resident, ResidentVectors
from dpr_lance.search.stopwatch import Stopwatch
from dpr_lance.table.filters import Filter, among
from dpr_lance.table.index_policy import IndexPolicy
from dpr_lance.table.schema import TableCard
from dpr_lance.table.snapshot import Snapshot

Encode: TypeAlias = Callable[[Sequence[str], TableCard], Vector]
"""From questions, and the card of the vectors that they are compared with, to float32[n, d]."""


@dataclass(frozen=True, slots=True)
class QuestionLegs:
    """One question with what its legs found; a leg that is not searched is None, and so is the vector without it."""

    question: str
    vector: Vector | None
    dense: Leg | None
    bm25: Leg | None


@dataclass(frozen=True, slots=True)
class HitBudget:
    """How many hits are wanted, and the weight that ranks them: scores that cannot change these are not computed."""

    k: int
    weight: float


@dataclass(frozen=True, slots=True)
class LegResults:
    """What the legs found for some questions, in their order; `mode` is what was really used."""

    legs: list[QuestionLegs]
    candidates: list[Candidates]
    mode: Mode
    fallback: str | None
    effort: Effort | None


@dataclass(frozen=True, slots=True)
class CandidateSearch:
    """Searches both legs in one snapshot of the table."""

    snapshot: Snapshot
    where: Filter
    policy: IndexPolicy
    memory: ResidentVectors
    encode: Encode
    """Raises `EncoderError` or `MissingExtraError`, whose message becomes the reason of a fallback."""
    pool: Executor

    def collect_candidates(
        self, questions: Sequence[str], n: int, mode: Mode, watch: Stopwatch, budget: HitBudget | None = None
    ) -> LegResults:
        """Return up to `n` candidates of each leg that `mode` uses, merged, for each question.

        With a budget, a candidate that cannot be among its hits may lack its BM25 score.
        """
        snapshot, card = self.snapshot, self.snapshot.card
        held = self.memory.held(snapshot) if mode != "bm25" else None
        column = card.column if mode == "hybrid" and held is None else None
        spans: list[tuple[float, float]] = []
        # One more shows whether the last one ties with it.
        limit = n + 1 if mode == "hybrid" else n

        async def bm25_timed(question: str) -> Leg:
            began = time.perf_counter()
            leg = await bm25_leg(snapshot, question, limit, self.where, column)
            spans.append((began, time.perf_counter()))
            return leg

        # BM25 runs in LanceDB's threads while the questions are encoded in this one.
        pending = [] if mode == "dense" else [snapshot.ask(bm25_timed(question)) for question in questions]
        vectors, fallback = self._encoded(questions, mode, watch)
        dense: list[Leg] | None = None
        effort = resident = None
        if vectors is not None:
            with watch.stage("dense"):
                resident = held or self.memory.request(snapshot, len(questions))
                dense, effort = self._dense(resident, vectors, limit, mode)
            if not any(map(len, dense)) and self._lacks_vectors():
                fallback = "no passage has a vector yet: call embed()"
                if mode == "dense":
                    raise EncoderError(f"{snapshot.place}: {fallback}")
                dense = effort = None
        if mode == "hybrid" and dense is None:
            mode = "bm25"
        bm25 = [leg.result() for leg in pending]
        if spans:
            watch.add("bm25", max(end for _, end in spans) - min(began for began, _ in spans))
        if mode == "hybrid" and dense is not None:
            dense, bm25 = ([leg.without_cut_ties(n) for leg in legs] for legs in (dense, bm25))
        with watch.stage("fuse"):
            legs = [
                QuestionLegs(
                    question,
                    vector=None if vectors is None or dense is None else vectors[number],
                    dense=None if dense is None else dense[number],
                    bm25=bm25[number] if bm25 else None,
                )
                for number, question in enumerate(questions)
            ]
            merging = [snapshot.ask(merge_candidates(snapshot, resident, each, budget)) for each in legs]
            candidates = [each.result() for each in merging]
        return LegResults(legs, candidates, mode, fallback, effort)

    def _encoded(self, questions: Sequence[str], mode: Mode, watch: Stopwatch) -> tuple[Vector | None, str | None]:
        """Return the questions' vectors, or None and why there are none; raise in dense mode instead."""
        if mode == "bm25":
            return None, None
        with watch.stage("encode"):
            try:
                return self.encode(questions, self.snapshot.card), None
            except (EncoderError, MissingExtraError) as error:
                if mode == "dense":
                    raise
                return None, str(error)

    def _dense(self, resident: Resident | None, vectors: Vector, n: int, mode: Mode) -> tuple[list[Leg], Effort]:
        snapshot, where = self.snapshot, self.where
        effort = Effort()
        if resident is None or where is not None:
            effort = effort_of(snapshot.state, snapshot.card, self.policy, mode)
        # Finding which of the vectors in memory match a filter takes longer than an index takes to search them.
        if resident is not None and effort.partitions is None:
            return dense_in_memory(snapshot, resident, vectors, n, where, self.pool), effort
        return snapshot.ask(dense_in_table(snapshot, vectors, n, where, effort, self.policy)).result()

    def _lacks_vectors(self) -> bool:
        """Tell whether there are passages, none of which has a vector."""
        snapshot = self.snapshot
        if snapshot.ask(snapshot.reads.count_rows(snapshot.card.embedded)).result():
            return False
        return bool(snapshot.ask(snapshot.reads.count_rows()).result())


async def merge_candidates(
    snapshot: Snapshot, resident: Resident | None, legs: QuestionLegs, budget: HitBudget | None
) -> Candidates:
    """Return the union of the legs that were searched, every candidate with each leg's exact score.

    The BM25 score of a candidate that cannot be among the budget's hits may be left at 0.
    """
    searched = [leg for leg in (legs.dense, legs.bm25) if leg is not None]
    row_ids = np.array(list(dict.fromkeys(row for leg in searched for row in leg.row_ids.tolist())), dtype=np.int64)
    at = {row: index for index, row in enumerate(row_ids.tolist())}
    dense = np.full(len(row_ids), np.nan)
    bm25 = np.full(len(row_ids), np.nan if legs.bm25 is None else 0.0)
    within = [at[row] for row in legs.bm25.row_ids.tolist()] if legs.bm25 is not None else []
    if legs.bm25 is not None:
        bm25[within] = legs.bm25.scores
        if legs.dense is not None and legs.vector is not None and within:
            dense[within] = await _inner_products(snapshot, resident, legs.bm25, legs.vector)
    if legs.dense is not None:
        dense[[at[row] for row in legs.dense.row_ids.tolist()]] = legs.dense.scores
    merged = Candidates(row_ids, dense, bm25)
    if legs.dense is not None and legs.bm25 is not None and within and not legs.bm25.complete:
        unscored = np.ones(len(row_ids), dtype=np.bool_)
        unscored[within] = False
        if budget is not None:
            unscored &= _within_reach(merged, float(legs.bm25.scores.min()), budget)
        if unscored.any():
            missing = row_ids[unscored].tolist()
            scored = await bm25_leg(snapshot, legs.question, len(missing), among("_rowid", missing))
            bm25[[at[row] for row in scored.row_ids.tolist()]] = scored.scores
    return merged


def _within_reach(merged: Candidates, most: float, budget: HitBudget) -> NDArray[np.bool_]:
    """Return which candidates can be among the hits, where a BM25 score of 0 may turn out to be up to `most`.

    The bound of Fagin's threshold algorithm: the k-th best of the scores that are certain.
    """
    certain = fused_scores(merged.dense, merged.bm25, budget.weight)
    if len(certain) <= budget.k:
        return np.ones(len(certain), dtype=np.bool_)
    least = np.partition(certain, -budget.k)[-budget.k]
    return np.asarray(certain + most >= least)


async def _inner_products(snapshot: Snapshot, resident: Resident | None, leg: Leg, vector: Vector) -> Scores:
    """Return float64[rows of the leg]: inner products with the stored vectors, NaN where there is none."""
    column = snapshot.card.column
    products = np.full(len(leg), np.nan)
    row_ids, vectors = leg.row_ids, leg.vectors
    unknown = np.arange(len(leg))
    if resident is not None:
        places = resident.places(row_ids)
        there = places >= 0
        products[there] = resident.inner_products(places[there], vector)
        unknown = np.flatnonzero(~there)
    if not len(unknown):
        return products
    if vectors is None:
        wanted = sorted(row_ids[unknown].tolist())
        read = await snapshot.reads.take_row_ids(wanted).with_row_id().select([column]).to_arrow()
        if read.num_rows < len(wanted):
            raise snapshot.gone_rows()
        at = {row: index for index, row in enumerate(row_ids.tolist())}
        unknown = np.array([at[row] for row in read["_rowid"].to_pylist()], dtype=np.int64)
        vectors = read[column]
    else:
        vectors = vectors.take(pa.array(unknown))
    embedded = vectors.is_valid().to_numpy()
    products[unknown[embedded]] = np.multiply(vectors_of(vectors), vector, dtype=np.float64).sum(axis=1)
    return products
