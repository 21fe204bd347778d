"""The two legs of a search and their union: inner products and BM25 from LanceDB, every candidate with both scores."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from lancedb.expr import Expr
from lancedb.query import MatchQuery
from numpy.typing import NDArray

from dpr_lance.encoders.vectors import Vector, vectors_of
from dpr_lance.errors import EncoderError, MissingExtraError
from dpr_lance.indexes.policy import POLICY, record_of, training_in
from dpr_lance.records.hits import Effort, Mode
from dpr_lance.records.table_info import Calibration
from dpr_lance.search.fusion import Candidates, Scores, fused_scores
from dpr_lance.search.resident import Resident, ResidentVectors, RowIds, row_ids_of
from dpr_lance.search.stopwatch import Stopwatch
from dpr_lance.table.coverage import existing
from dpr_lance.table.filters import Filter, among
from dpr_lance.table.schema import CONTENT, TableCard
from dpr_lance.table.snapshot import Snapshot
from dpr_lance.text.normal_form import normal_form
from dpr_lance.text.terms import distinct_words

QUESTIONS_AT_ONCE = 64
"""Questions of a batch that are searched together; bounds what a long list of them holds in memory."""

Encode: TypeAlias = Callable[[Sequence[str], TableCard], Vector]
"""Questions, and the card of the vectors that they are compared with, to float32[n, d]."""

CALIBRATION = "calibration"
"""Key of the `Calibration` beside the table."""


@dataclass(frozen=True, slots=True)
class Leg:
    """What one leg found for a question, best first."""

    row_ids: RowIds
    scores: Scores
    """Exact inner products, or BM25 scores."""
    vectors: pa.ChunkedArray | None = None
    """The stored vectors, where they were read along."""
    complete: bool = False
    """Whether these are all passages that the leg could find, fewer than it was asked for."""

    def __len__(self) -> int:
        return len(self.row_ids)


@dataclass(frozen=True, slots=True)
class Ask:
    """One question with what its legs found; a leg that is not searched is None, and so is the vector without it."""

    question: str
    vector: Vector | None
    dense: Leg | None
    bm25: Leg | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """How many hits, ranked by which weight: what spares the union the scores that cannot change them."""

    k: int
    weight: float


@dataclass(frozen=True, slots=True)
class Found:
    """What the legs found for some questions, in their order; `mode` is what was really used."""

    asks: list[Ask]
    united: list[Candidates]
    mode: Mode
    fallback: str | None
    effort: Effort | None


def gather(  # noqa: PLR0913 - keywords
    snapshot: Snapshot,
    memory: ResidentVectors,
    questions: Sequence[str],
    n: int,
    *,
    mode: Mode,
    where: Filter,
    encode: Encode,
    pool: Executor,
    watch: Stopwatch,
    wanted: Wanted | None = None,
) -> Found:
    """Return up to `n` candidates of each leg that `mode` uses, united, for each question.

    `encode` gives float32[questions, d], or raises what a fallback tells. What cannot be among the hits that are
    `wanted` may lack its BM25 score.
    """
    card = snapshot.card
    # BM25 runs in LanceDB's threads while the questions are encoded in this one.
    held = memory.held(snapshot) if mode != "bm25" else None
    column = card.column if mode == "hybrid" and held is None else None
    spans: list[tuple[float, float]] = []
    # One more tells whether the last one ties with it.
    asked = n + 1 if mode == "hybrid" else n

    async def bm25_timed(question: str) -> Leg:
        began = time.perf_counter()
        leg = await bm25_leg(snapshot, question, asked, where, column)
        spans.append((began, time.perf_counter()))
        return leg

    pending = [] if mode == "dense" else [snapshot.ask(bm25_timed(question)) for question in questions]
    vectors, fallback = _encoded(questions, card, mode, encode, watch)
    dense: list[Leg] | None = None
    effort = resident = None
    if vectors is not None:
        with watch.stage("dense"):
            resident = held or memory.asked(snapshot, len(questions))
            effort = Effort() if resident is not None and where is None else effort_of(snapshot.state, card, mode)
            # To tell which of the vectors in memory match a filter takes longer than an index takes to search them.
            if resident is not None and effort.partitions is None:
                dense = _dense_in_memory(snapshot, resident, vectors, asked, where, pool)
            else:
                dense, effort = snapshot.ask(_dense(snapshot, vectors, asked, where, effort)).result()
        if not any(map(len, dense)) and _lacks_vectors(snapshot):
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
        dense, bm25 = ([_without_cut_ties(leg, n) for leg in legs] for legs in (dense, bm25))
    with watch.stage("fuse"):
        asks = [
            Ask(
                question,
                vector=None if vectors is None or dense is None else vectors[number],
                dense=None if dense is None else dense[number],
                bm25=bm25[number] if bm25 else None,
            )
            for number, question in enumerate(questions)
        ]
        uniting = [snapshot.ask(unite(snapshot, resident, ask, wanted)) for ask in asks]
        united = [each.result() for each in uniting]
    return Found(asks, united, mode, fallback, effort)


def _lacks_vectors(snapshot: Snapshot) -> bool:
    """Tell whether there are passages, none of which has a vector."""
    if snapshot.ask(snapshot.reads.count_rows(snapshot.card.embedded)).result():
        return False
    return bool(snapshot.ask(snapshot.reads.count_rows()).result())


def effort_of(state: Mapping[str, Any], card: TableCard, mode: Mode = "dense") -> Effort:
    """Return with what effort the table's vectors are searched, by what is remembered beside it.

    A hybrid search asks for several candidates a hit, and all that are asked for are scored again: no more are needed.
    """
    training = training_in(state, card)
    if training is None:
        return Effort()
    calibration = calibration_of(state, card)
    if calibration is None or calibration.probed_share is None:
        probes = training.probes or training.partitions
    else:
        probes = max(1, round(calibration.probed_share * training.partitions))
    refined = 1 if mode == "hybrid" else POLICY.refine_factor(training.kind)
    return Effort(training.partitions, probes, refined, training.metric)


def calibration_of(state: Mapping[str, Any], card: TableCard) -> Calibration | None:
    """Return what `calibrate` has chosen for the card's vectors, by what is remembered beside the table.

    None when it has not, or for other vectors.
    """
    fields = state.get(CALIBRATION)
    if fields is None:
        return None
    found = record_of(lambda **kept: Calibration.from_fields(kept), fields, CALIBRATION)
    return found if found.column == card.column else None


def _encoded(
    questions: Sequence[str], card: TableCard, mode: Mode, encode: Encode, watch: Stopwatch
) -> tuple[Vector | None, str | None]:
    """Return the questions' vectors, or None and why there are none; raise in dense mode instead."""
    if mode == "bm25":
        return None, None
    with watch.stage("encode"):
        try:
            return encode(questions, card), None
        except (EncoderError, MissingExtraError) as error:
            if mode == "dense":
                raise
            return None, str(error)


def _dense_in_memory(
    snapshot: Snapshot, resident: Resident, vectors: Vector, n: int, where: Filter, pool: Executor
) -> list[Leg]:
    """Return, for each question vector, the n passages with the largest inner product."""
    among = None
    if where is not None:
        matching = snapshot.reads.query().where(where).with_row_id().select(["_rowid"])
        places = resident.places(row_ids_of(snapshot.ask(matching.to_arrow()).result()))
        among = places[places >= 0]
    return [Leg(rows, scores) for rows, scores in resident.nearest(vectors, n, among, pool)]


async def _dense(
    snapshot: Snapshot, vectors: Vector, n: int, where: Filter, effort: Effort
) -> tuple[list[Leg], Effort]:
    """Return, for each question vector, the n passages with the largest inner product, and the effort it took.

    One call for all questions. Exact while the table has no vector index; with one, hits are re-scored on the stored
    vectors, and all partitions are probed for a question that has found fewer than n passages that match the filter.
    """
    if effort.partitions is None or effort.probes is None:
        return await _nearest(snapshot, vectors, n, where, effort), effort
    taken, matching = effort, n
    if where is not None:
        rows, matching = await snapshot.reads.count_rows(), await _matching(snapshot, where)
        # The n best of what matches are among the n·rows/matching best of all.
        probes = min(effort.partitions, math.ceil(effort.probes * rows / max(1, matching)))
        taken = replace(effort, probes=probes)
    legs = await _nearest(snapshot, vectors, n, where, taken)
    few = [number for number, leg in enumerate(legs) if len(leg) < min(n, matching)]
    if few and await snapshot.may_list_gone_rows():
        there = await _nearest(snapshot, vectors[few], n, existing(where), taken)
        if any(len(leg) > len(legs[number]) for number, leg in zip(few, there, strict=True)):
            raise snapshot.gone_rows()
    if few and taken.probes != effort.partitions:
        taken = replace(effort, probes=effort.partitions)
        for number, leg in zip(few, await _nearest(snapshot, vectors[few], n, where, taken), strict=True):
            legs[number] = leg
    return legs, taken


async def _matching(snapshot: Snapshot, where: Expr | str) -> int:
    """Return how many rows match; LanceDB counts by SQL alone."""
    if isinstance(where, str):
        return int(await snapshot.reads.count_rows(where))
    found = await snapshot.reads.query().where(where).with_row_id().select(["_rowid"]).to_arrow()
    return int(found.num_rows)


async def _nearest(snapshot: Snapshot, vectors: Vector, n: int, where: Filter, effort: Effort) -> list[Leg]:
    search = snapshot.reads.query().nearest_to(vectors).column(snapshot.card.column).distance_type(effort.metric)
    # Without refinement an index's distances are approximate, whoever built it; exact search ignores all three.
    search = search.refine_factor(effort.refine_factor or POLICY.refine_pq)
    probes = effort.probes or 0
    if 0 < probes < (effort.partitions or 0):
        # With any higher maximum LanceDB scans all partitions up to it, however many rows it has found.
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


def _without_cut_ties(leg: Leg, n: int) -> Leg:
    """Return the first n of a leg, without those among them that are as good as what follows.

    Which of such ties LanceDB lists is chance. They stay where they are half of the leg.
    """
    if len(leg) <= n:
        return leg
    kept = int((leg.scores[:n] > leg.scores[n]).sum())
    kept = kept if 2 * kept >= n else n
    vectors = None if leg.vectors is None else leg.vectors.slice(0, kept)
    return replace(leg, row_ids=leg.row_ids[:kept], scores=leg.scores[:kept], vectors=vectors)


async def unite(snapshot: Snapshot, resident: Resident | None, ask: Ask, wanted: Wanted | None) -> Candidates:
    """Return the union of the legs that were searched, every candidate with each leg's exact score.

    But for those that cannot be among the hits that are `wanted`: their BM25 score may be left at 0.
    """
    legs = [leg for leg in (ask.dense, ask.bm25) if leg is not None]
    row_ids = np.array(list(dict.fromkeys(row for leg in legs for row in leg.row_ids.tolist())), dtype=np.int64)
    at = {row: index for index, row in enumerate(row_ids.tolist())}
    dense = np.full(len(row_ids), np.nan)
    bm25 = np.full(len(row_ids), np.nan if ask.bm25 is None else 0.0)
    within = [at[row] for row in ask.bm25.row_ids.tolist()] if ask.bm25 is not None else []
    if ask.bm25 is not None:
        bm25[within] = ask.bm25.scores
        if ask.dense is not None and ask.vector is not None and within:
            dense[within] = await _inner_products(snapshot, resident, ask.bm25, ask.vector)
    if ask.dense is not None:
        dense[[at[row] for row in ask.dense.row_ids.tolist()]] = ask.dense.scores
    united = Candidates(row_ids, dense, bm25)
    if ask.dense is not None and ask.bm25 is not None and within and not ask.bm25.complete:
        unscored = np.ones(len(row_ids), dtype=np.bool_)
        unscored[within] = False
        if wanted is not None:
            unscored &= _in_reach(united, float(ask.bm25.scores.min()), wanted)
        if unscored.any():
            missing = row_ids[unscored].tolist()
            scored = await bm25_leg(snapshot, ask.question, len(missing), among("_rowid", missing))
            bm25[[at[row] for row in scored.row_ids.tolist()]] = scored.scores
    return united


def _in_reach(united: Candidates, most: float, wanted: Wanted) -> NDArray[np.bool_]:
    """Return which candidates can be among the hits, where a BM25 score of 0 may turn out to be up to `most`.

    The bound of Fagin's threshold algorithm: the k-th best of what all have for certain.
    """
    certain = fused_scores(united.dense, united.bm25, wanted.weight)
    if len(certain) <= wanted.k:
        return np.ones(len(certain), dtype=np.bool_)
    least = np.partition(certain, -wanted.k)[-wanted.k]
    return np.asarray(certain + most >= least)


async def bm25_leg(snapshot: Snapshot, question: str, n: int, where: Filter, column: str | None = None) -> Leg:
    """Return up to n passages with a word of the question; with the vectors where their column is named.

    The index may list passages that are gone: they are left out where vectors are read along, else they are in the leg.
    """
    match = MatchQuery(" ".join(normal_form(word.text) for word in distinct_words(question)), CONTENT)
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
