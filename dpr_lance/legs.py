"""The two legs of a search and their union: inner products and BM25 from LanceDB, every candidate with both scores."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from lancedb.expr import Expr
from lancedb.query import MatchQuery
from lancedb.table import Table

from dpr_lance.errors import EncoderError, MissingExtraError
from dpr_lance.filters import Filter, among, sql_of
from dpr_lance.fusion import Candidates, Scores
from dpr_lance.index_policy import POLICY, training_of
from dpr_lance.records import Calibration, Effort, Mode
from dpr_lance.resident import Resident, ResidentVectors, RowIds, row_ids_of
from dpr_lance.schema import CONTENT, TableCard, Vector, vectors_of
from dpr_lance.store import Store
from dpr_lance.words import distinct_words

QUESTIONS_AT_ONCE = 64
"""Questions of a batch that are searched together; bounds what a long list of them holds in memory."""

Encode: TypeAlias = Callable[[Sequence[str]], Vector]

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


@dataclass(slots=True)
class Stopwatch:
    """Wall seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the enclosed block to `name`."""
        started = time.perf_counter()
        yield
        self.add(name, time.perf_counter() - started)

    def add(self, name: str, seconds: float) -> None:
        """Add to the time of `name`."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds


@dataclass(frozen=True, slots=True)
class Found:
    """What the legs found for some questions, in their order; `mode` is what was really used."""

    asks: list[Ask]
    united: list[Candidates]
    mode: Mode
    fallback: str | None
    effort: Effort | None


def gather(  # noqa: PLR0913 - keywords
    store: Store,
    memory: ResidentVectors,
    card: TableCard,
    questions: Sequence[str],
    n: int,
    *,
    mode: Mode,
    where: Filter,
    encode: Encode,
    pool: Executor,
    watch: Stopwatch,
) -> Found:
    """Return up to `n` candidates of each leg that `mode` uses, united, for each question.

    `encode` gives float32[questions, d], or raises what a fallback tells.
    """
    # BM25 runs in its threads while the questions are encoded in this one.
    held = memory.held(card) if mode != "bm25" else None
    column = card.column if mode == "hybrid" and held is None else None
    spans: list[tuple[float, float]] = []
    # One more tells whether the last one ties with it.
    asked = n + 1 if mode == "hybrid" else n

    def bm25_timed(question: str) -> Leg:
        began = time.perf_counter()
        leg = bm25_leg(store, question, asked, where, column)
        spans.append((began, time.perf_counter()))
        return leg

    pending = [] if mode == "dense" else [pool.submit(bm25_timed, question) for question in questions]
    vectors, fallback = _encoded(questions, mode, encode, watch)
    dense: list[Leg] | None = None
    effort = resident = None
    if vectors is not None:
        with watch.stage("dense"):
            resident = held or memory.asked(card, len(questions))
            effort = Effort() if resident is not None and where is None else effort_of(store, card)
            # To tell which of the vectors in memory match a filter takes longer than an index takes to search them.
            if resident is not None and effort.partitions is None:
                dense = _dense_in_memory(store, resident, vectors, asked, where, pool)
            else:
                dense, effort = _dense(store, card, vectors, asked, where, effort)
        if not any(map(len, dense)) and not store.count(card.embedded):
            fallback = "no passage has a vector yet: call embed()"
            if mode == "dense" and store.count():
                raise EncoderError(f"{store.place}: {fallback}")
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
        work = partial(unite, store, resident, card)
        united = list(pool.map(work, asks) if len(asks) > 1 else map(work, asks))
    return Found(asks, united, mode, fallback, effort)


def effort_of(store: Store, card: TableCard) -> Effort:
    """Return with what effort the table's vectors are searched."""
    training = training_of(store, card)
    if training is None:
        return Effort()
    calibration = calibration_of(store, card)
    if calibration is None or calibration.probed_share is None:
        probes = training.probes or training.partitions
    else:
        probes = max(1, round(calibration.probed_share * training.partitions))
    return Effort(training.partitions, probes, POLICY.refine_factor(training.kind), training.metric)


def calibration_of(store: Store, card: TableCard) -> Calibration | None:
    """Return what `calibrate` has chosen for the card's vectors; None when it has not, or for other vectors."""
    fields = store.state().get(CALIBRATION)
    return Calibration.from_fields(fields) if fields is not None and fields["column"] == card.column else None


def _encoded(
    questions: Sequence[str], mode: Mode, encode: Callable[[Sequence[str]], Vector], watch: Stopwatch
) -> tuple[Vector | None, str | None]:
    """Return the questions' vectors, or None and why there are none; raise in dense mode instead."""
    if mode == "bm25":
        return None, None
    with watch.stage("encode"):
        try:
            return encode(questions), None
        except (EncoderError, MissingExtraError) as error:
            if mode == "dense":
                raise
            return None, str(error)


def _dense_in_memory(
    store: Store, resident: Resident, vectors: Vector, n: int, where: Filter, pool: Executor
) -> list[Leg]:
    """Return, for each question vector, the n passages with the largest inner product."""
    among = None
    if where is not None:
        rows = store.steadily(lambda table: _matching(table, where))
        places = resident.places(row_ids_of(rows))
        among = places[places >= 0]
    return [Leg(rows, scores) for rows, scores in resident.nearest(vectors, n, among, pool)]


def _matching(table: Table, where: Expr | str) -> pa.Table:
    return table.search().where(where).with_row_id(True).select(["_rowid"]).limit(None).to_arrow()


def _dense(
    store: Store, card: TableCard, vectors: Vector, n: int, where: Filter, effort: Effort
) -> tuple[list[Leg], Effort]:
    """Return, for each question vector, the n passages with the largest inner product, and the effort it took.

    One call for all questions. Exact while the table has no vector index; with one, hits are re-scored on the stored
    vectors, and all partitions are probed for a question that has found fewer than n passages that match the filter.
    """

    def read(table: Table) -> tuple[list[Leg], Effort]:
        if effort.partitions is None or effort.probes is None:
            return _nearest(table, card.column, vectors, n, where, effort), effort
        rows = table.count_rows()
        matching = rows if where is None else table.count_rows(sql_of(where))
        # The n best of what matches are among the n·rows/matching best of all.
        probes = min(effort.partitions, math.ceil(effort.probes * rows / max(1, matching)))
        taken = replace(effort, probes=probes)
        legs = _nearest(table, card.column, vectors, n, where, taken)
        few = [number for number, leg in enumerate(legs) if len(leg) < min(n, matching)]
        if few and probes < effort.partitions:
            taken = replace(effort, probes=effort.partitions)
            for number, leg in zip(few, _nearest(table, card.column, vectors[few], n, where, taken), strict=True):
                legs[number] = leg
        return legs, taken

    return store.steadily(read)


def _nearest(table: Table, column: str, vectors: Vector, n: int, where: Filter, effort: Effort) -> list[Leg]:
    search = table.search(vectors, vector_column_name=column).distance_type(effort.metric)
    # Without refinement an index's distances are approximate, whoever built it; exact search ignores all three.
    search = search.refine_factor(effort.refine_factor or POLICY.refine_pq)
    probes = effort.probes or 0
    if 0 < probes < (effort.partitions or 0):
        # With any higher maximum LanceDB scans all partitions up to it, however many rows it has found.
        search = search.minimum_nprobes(probes).maximum_nprobes(probes)
    else:
        search = search.maximum_nprobes(0)
        if probes:
            search = search.minimum_nprobes(probes)
    if where is not None:
        search = search.where(where)
    found = search.with_row_id(True).select(["_distance"]).limit(n).to_arrow()
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


def unite(store: Store, resident: Resident | None, card: TableCard, ask: Ask) -> Candidates:
    """Return the union of the legs that were searched, every candidate with each leg's exact score."""
    legs = [leg for leg in (ask.dense, ask.bm25) if leg is not None]
    row_ids = np.array(list(dict.fromkeys(row for leg in legs for row in leg.row_ids.tolist())), dtype=np.int64)
    at = {row: index for index, row in enumerate(row_ids.tolist())}
    dense = np.full(len(row_ids), np.nan)
    bm25 = np.full(len(row_ids), np.nan if ask.bm25 is None else 0.0)
    if ask.bm25 is not None:
        within = [at[row] for row in ask.bm25.row_ids.tolist()]
        bm25[within] = ask.bm25.scores
        if ask.dense is not None and ask.vector is not None and within:
            dense[within] = _inner_products(store, resident, card.column, ask.bm25, ask.vector)
            missing = sorted(set(ask.dense.row_ids.tolist()) - set(ask.bm25.row_ids.tolist()))
            if missing and not ask.bm25.complete:
                scored = bm25_leg(store, ask.question, len(missing), among("_rowid", missing))
                bm25[[at[row] for row in scored.row_ids.tolist()]] = scored.scores
    if ask.dense is not None:
        dense[[at[row] for row in ask.dense.row_ids.tolist()]] = ask.dense.scores
    return Candidates(row_ids, dense, bm25)


def bm25_leg(store: Store, question: str, n: int, where: Filter, column: str | None = None) -> Leg:
    """Return up to n passages with a word of the question; with the vectors where their column is named."""
    match = MatchQuery(" ".join(word.text for word in distinct_words(question)), CONTENT)
    columns = ["_score"] if column is None else [column, "_score"]

    def read(table: Table) -> pa.Table:
        search = table.search(match, query_type="fts").with_row_id(True).select(columns)
        return (search if where is None else search.where(where)).limit(n).to_arrow()

    found = store.steadily(read)
    vectors = None if column is None else found[column]
    scores = found["_score"].to_numpy().astype(np.float64)
    return Leg(row_ids_of(found), scores, vectors, complete=found.num_rows < n)


def _inner_products(store: Store, resident: Resident | None, column: str, leg: Leg, vector: Vector) -> Scores:
    """Return float64[rows of the leg]: inner products with the stored vectors, NaN where there is none."""
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
        read = store.take(row_ids[unknown].tolist(), [column])
        at = {row: index for index, row in enumerate(row_ids.tolist())}
        unknown = np.array([at[row] for row in read["_rowid"].to_pylist()], dtype=np.int64)
        vectors = read[column]
    else:
        vectors = vectors.take(pa.array(unknown))
    embedded = vectors.is_valid().to_numpy()
    products[unknown[embedded]] = np.multiply(vectors_of(vectors), vector, dtype=np.float64).sum(axis=1)
    return products
