"""The two legs of a search: the passages with the largest inner products, and those with the best BM25 scores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from lancedb.expr import Expr
from lancedb.query import MatchQuery

from dpr_lance.encoders.vectors import Vector
from dpr_lance.records.hits import Effort, Mode
from dpr_lance.search.fusion import RowIds, Scores
from dpr_lance.search.resident import Resident, row_ids_of
from dpr_lance.table.consistency import existing
from dpr_lance.table.filters import Filter
from dpr_lance.table.index_policy import IndexPolicy
from dpr_lance.table.schema import CONTENT, TableCard
from dpr_lance.table.snapshot import Snapshot
from dpr_lance.table.tuning import calibration_in, training_in
from dpr_lance.text.normal_form import indexed_form
from dpr_lance.text.terms import distinct_words


@dataclass(frozen=True, slots=True)
class Leg:
    """What one leg found for a question, best first."""

    row_ids: RowIds
    scores: Scores
    """Exact inner products, or BM25 scores."""
    vectors: pa.ChunkedArray | None = None
    """The stored vectors, where they were read too."""
    complete: bool = False
    """Whether these are all passages that the leg could find, fewer than it was asked for."""

    def __len__(self) -> int:
        return len(self.row_ids)

    def without_cut_ties(self, n: int) -> Leg:
        """Return the first n, without those among them that are as good as what follows.

        Which of such ties LanceDB lists is chance. They stay where they are half of the leg.
        """
        if len(self) <= n:
            return self
        kept = int((self.scores[:n] > self.scores[n]).sum())
        kept = kept if 2 * kept >= n else n
        vectors = None if self.vectors is None else self.vectors.slice(0, kept)
        return replace(self, row_ids=self.row_ids[:kept], scores=self.scores[:kept], vectors=vectors)


def effort_of(values: Mapping[str, Any], card: TableCard, policy: IndexPolicy, mode: Mode) -> Effort:
    """Return with what effort the table's vectors are searched, by what the small table remembers.

    A hybrid search asks for several candidates for each hit and scores all of them again: it needs no more.
    """
    training = training_in(values, card)
    if training is None:
        return Effort()
    calibration = calibration_in(values, card)
    if calibration is None or calibration.probed_share is None:
        probes = training.probes or training.partitions
    else:
        probes = max(1, round(calibration.probed_share * training.partitions))
    refined = 1 if mode == "hybrid" else policy.refine_factor(training.kind)
    return Effort(training.partitions, probes, refined, training.metric)


def dense_in_memory(
    snapshot: Snapshot, resident: Resident, vectors: Vector, n: int, where: Filter, pool: Executor
) -> list[Leg]:
    """Return, for each question vector, the n passages with the largest inner product."""
    among = None
    if where is not None:
        matching = snapshot.reads.query().where(where).with_row_id().select(["_rowid"])
        places = resident.places(row_ids_of(snapshot.ask(matching.to_arrow()).result()))
        among = places[places >= 0]
    return [Leg(rows, scores) for rows, scores in resident.nearest(vectors, n, among, pool)]


async def dense_in_table(
    snapshot: Snapshot, vectors: Vector, n: int, where: Filter, effort: Effort, policy: IndexPolicy
) -> tuple[list[Leg], Effort]:
    """Return, for each question vector, the n passages with the largest inner product, and the effort it took.

    One call for all questions. Exact while the table has no vector index; with one, hits are scored again on the stored
    vectors, and all partitions are probed for a question that has found fewer than n passages that match the filter.
    """

    async def nearest(vectors: Vector, where: Filter, effort: Effort) -> list[Leg]:
        # Without refinement an index's distances are approximate, whoever built it; exact search ignores it.
        return await _nearest(snapshot, vectors, n, where, effort, effort.refine_factor or policy.refine_pq)

    if effort.partitions is None or effort.probes is None:
        return await nearest(vectors, where, effort), effort
    taken, matching = effort, n
    if where is not None:
        rows, matching = await snapshot.reads.count_rows(), await _matching(snapshot, where)
        # The n best of what matches are among the n·rows/matching best of all.
        taken = replace(effort, probes=min(effort.partitions, math.ceil(effort.probes * rows / max(1, matching))))
    legs = await nearest(vectors, where, taken)
    few = [number for number, leg in enumerate(legs) if len(leg) < min(n, matching)]
    if few and await snapshot.may_list_gone_rows():
        there = await nearest(vectors[few], existing(where), taken)
        if any(len(leg) > len(legs[number]) for number, leg in zip(few, there, strict=True)):
            raise snapshot.gone_rows()
    if few and taken.probes != effort.partitions:
        taken = replace(effort, probes=effort.partitions)
        for number, leg in zip(few, await nearest(vectors[few], where, taken), strict=True):
            legs[number] = leg
    return legs, taken


async def _matching(snapshot: Snapshot, where: Expr | str) -> int:
    if isinstance(where, str):
        return int(await snapshot.reads.count_rows(where))  # which takes SQL only
    found = await snapshot.reads.query().where(where).with_row_id().select(["_rowid"]).to_arrow()
    return int(found.num_rows)


async def _nearest(
    snapshot: Snapshot, vectors: Vector, n: int, where: Filter, effort: Effort, refine_factor: int
) -> list[Leg]:
    search = snapshot.reads.query().nearest_to(vectors).column(snapshot.card.column).distance_type(effort.metric)
    search = search.refine_factor(refine_factor)
    probes = effort.probes or 0
    if 0 < probes < (effort.partitions or 0):
        # With a higher maximum LanceDB scans all partitions up to it, however many rows it has found.
        search = search.nprobes(probes)
    else:
        search = search.maximum_nprobes(0)
        if probes:
            search = search.minimum_nprobes(probes)
    where = snapshot.narrowed(where)
    if where is not None:
        search = search.where(where)
    found = await search.with_row_id().select(["_distance"]).limit(n).to_arrow()
    row_ids = row_ids_of(found)
    # LanceDB's dot distance is 1 - inner product, in float32, and so is its cosine distance of unit vectors.
    scores = 1.0 - found["_distance"].to_numpy().astype(np.float64)
    if "query_index" not in found.schema.names:
        return [Leg(row_ids, scores)]
    index = found["query_index"].to_numpy()
    return [Leg(row_ids[index == number], scores[index == number]) for number in range(len(vectors))]


async def bm25_leg(snapshot: Snapshot, question: str, n: int, where: Filter, column: str | None = None) -> Leg:
    """Return up to n passages with a word of the question, and their vectors if their column is named.

    The index may list passages that are gone. They are left out if vectors are read, else they are in the leg.
    """
    language = snapshot.card.language
    asked = [indexed_form(word.text, language) for word in distinct_words(question, language)]
    match = MatchQuery(" ".join(asked), CONTENT)
    search = snapshot.reads.query().nearest_to_text(match).with_row_id().limit(n)
    where = snapshot.narrowed(where)
    if where is not None:
        search = search.where(where)
    found = await search.select(["_score", *([column] if column else [])]).to_arrow()
    if column is not None and found.num_rows < n and await snapshot.may_list_gone_rows():
        listed = await search.select(["_score"]).to_arrow()
        if listed.num_rows > found.num_rows:
            raise snapshot.gone_rows()
    scores = found["_score"].to_numpy().astype(np.float64)
    vectors = None if column is None else found[column]
    return Leg(row_ids_of(found), scores, vectors, complete=found.num_rows < n)
