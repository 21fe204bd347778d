"""The two legs of a search and their union: inner products and BM25 from LanceDB, every candidate with both scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from lancedb.expr import Expr
from lancedb.query import MatchQuery
from lancedb.table import Table

from dpr_lance.errors import EncoderError, MissingExtraError
from dpr_lance.fusion import Candidates
from dpr_lance.indexes import POLICY, training_of
from dpr_lance.records import Calibration, Effort, Mode
from dpr_lance.schema import CONTENT, ID, TableCard, Vector
from dpr_lance.store import Store, among
from dpr_lance.words import distinct_words

QUESTIONS_AT_ONCE = 64
"""Questions of a batch that are searched together; bounds what a long list of them holds in memory."""

Filter: TypeAlias = Expr | str | None
Encode: TypeAlias = Callable[[Sequence[str]], Vector]

CALIBRATION = "calibration"
"""Key of the `Calibration` beside the table."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One question with what its legs found; a leg that is not searched is None, and so is the vector without it."""

    question: str
    vector: Vector | None
    dense: pa.Table | None
    """Row id, id and `_distance`, which is 1 - inner product."""
    bm25: pa.Table | None
    """Row id, id, vector and `_score`."""


@dataclass(slots=True)
class Stopwatch:
    """Wall seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the enclosed block to `name`."""
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


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
    pending = (
        []
        if mode == "dense"
        else [pool.submit(bm25_leg, store, question, n, where, card.column) for question in questions]
    )
    vectors, fallback = _encoded(questions, mode, encode, watch)
    dense: list[pa.Table] | None = None
    effort = None
    if vectors is not None:
        effort = effort_of(store, card)
        with watch.stage("dense"):
            dense = _dense(store, card, vectors, n, where, effort)
        if not any(leg.num_rows for leg in dense) and not store.count(card.embedded):
            fallback = "no passage has a vector yet: call embed()"
            if mode == "dense" and store.count():
                raise EncoderError(f"{store.place}: {fallback}")
            dense = effort = None
    if mode == "hybrid" and dense is None:
        mode = "bm25"
    with watch.stage("bm25"):
        bm25 = [leg.result() for leg in pending]
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
        united = list(pool.map(partial(unite, store, card), asks))
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
    return Effort(training.partitions, probes, POLICY.refine_factor, training.metric)


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


def _dense(store: Store, card: TableCard, vectors: Vector, n: int, where: Filter, effort: Effort) -> list[pa.Table]:
    """Return, for each question vector, row id, id and `_distance` of the n passages with the largest inner product.

    One call for all questions. Exact while the table has no vector index; with one, hits are re-scored on the stored
    vectors, and probing goes on until n passages that match the filter are found.
    """
    found = store.steadily(lambda table: _nearest(table, card.column, vectors, n, where, effort))
    if "query_index" not in found.schema.names:
        return [found]
    index = found["query_index"].to_numpy()
    return [found.take(np.flatnonzero(index == number)) for number in range(len(vectors))]


def _nearest(table: Table, column: str, vectors: Vector, n: int, where: Filter, effort: Effort) -> pa.Table:
    search = table.search(vectors, vector_column_name=column).distance_type(effort.metric)
    # Without refinement an index's distances are approximate, whoever built it; exact search ignores both.
    search = search.refine_factor(effort.refine_factor or POLICY.refine_factor).maximum_nprobes(0)
    if effort.probes is not None:
        search = search.minimum_nprobes(effort.probes)
    if where is not None:
        search = search.where(where)
    return search.with_row_id(True).select([ID, "_distance"]).limit(n).to_arrow()


def unite(store: Store, card: TableCard, ask: Ask) -> Candidates:
    """Return the union of the legs that were searched, every candidate with each leg's exact score."""
    dense, bm25 = ask.dense, ask.bm25
    found: dict[int, str] = {}
    dense_of: dict[int, float] = {}
    bm25_of: dict[int, float] = {}
    if dense is not None:
        rows = dense["_rowid"].to_pylist()
        found.update(zip(rows, dense[ID].to_pylist(), strict=True))
        # LanceDB's dot distance is 1 - inner product, in float32, and so is its cosine distance of unit vectors.
        dense_of.update(zip(rows, (1.0 - dense["_distance"].to_numpy().astype(np.float64)).tolist(), strict=True))
    if bm25 is not None:
        rows = bm25["_rowid"].to_pylist()
        found.update(zip(rows, bm25[ID].to_pylist(), strict=True))
        bm25_of.update(zip(rows, bm25["_score"].to_pylist(), strict=True))
    if dense is not None and bm25 is not None and ask.vector is not None:
        dense_of = _inner_products(bm25, card.column, ask.vector) | dense_of
        missing = [row for row in found if row not in bm25_of]
        if missing and bm25.num_rows:
            scored = bm25_leg(store, ask.question, len(missing), among("_rowid", missing))
            bm25_of.update(zip(scored["_rowid"].to_pylist(), scored["_score"].to_pylist(), strict=True))
    row_ids = list(found)
    absent = 0.0 if bm25 is not None else np.nan
    return Candidates(
        row_ids=np.array(row_ids, dtype=np.int64),
        ids=list(found.values()),
        dense=np.array([dense_of.get(row, np.nan) for row in row_ids], dtype=np.float64),
        bm25=np.array([bm25_of.get(row, absent) for row in row_ids], dtype=np.float64),
    )


def bm25_leg(store: Store, question: str, n: int, where: Filter, column: str | None = None) -> pa.Table:
    """Return row id, id, score, and vector where a column is named, of up to n passages with a word of the question."""
    match = MatchQuery(" ".join(word.text for word in distinct_words(question)), CONTENT)
    columns = [ID, "_score"] if column is None else [ID, column, "_score"]

    def read(table: Table) -> pa.Table:
        search = table.search(match, query_type="fts").with_row_id(True).select(columns)
        return (search if where is None else search.where(where)).limit(n).to_arrow()

    return store.steadily(read)


def _inner_products(rows: pa.Table, column: str, vector: Vector) -> dict[int, float]:
    embedded = rows.filter(rows[column].is_valid())
    if not embedded.num_rows:
        return {}
    vectors = embedded[column].combine_chunks().flatten().to_numpy().reshape(embedded.num_rows, -1)  # [n, d]
    return dict(zip(embedded["_rowid"].to_pylist(), (vectors @ vector).astype(np.float64).tolist(), strict=True))
