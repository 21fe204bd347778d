"""A table's vectors in memory, as the searched version has them: exact search by matrix products."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dpr_lance.encoders.onnx_encoder import available_threads
from dpr_lance.encoders.vectors import Vector, largest, nearest, vectors_of
from dpr_lance.search.fusion import RowIds, Scores
from dpr_lance.table.identity import Revision
from dpr_lance.table.memory import trim_heap
from dpr_lance.table.snapshot import Snapshot, parts_of

RESIDENT_BYTES = 160 << 20
"""Default limit: 54,000 vectors of 768 dimensions, or 109,000 of 384. It covers the tables that have no index yet."""
# LanceDB's exact search takes 10 to 15 times as long as a matrix product. In larger tables an index is faster for one
# question (171,348 x 384, hybrid: 12.8 ms at a recall of 0.98 instead of 16.3 ms), but not for a batch.

BYTES_PER_QUESTION = 16 << 20
"""Vectors are loaded once they are at most this many bytes for each question so far: reading them takes about as long
as LanceDB's own search for that many questions."""

_BLOCK = 8_192
"""Rows of a block, which bounds the memory of a search."""
_TAKEN = 4_096
_MOST_DEAD = 0.2
"""Load again when this share of the places belongs to vectors that were replaced or deleted."""
_PROBES = 8
"""Unchanged rows whose vectors are read again; see `_refreshed`."""
_UPDATED = "_row_last_updated_at_version"
"""LanceDB's column of the version that last changed a row."""
_NEVER = np.uint64(0)

Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Resident:
    """All vectors of one column at one version of the table. A place is a row's position in the blocks."""

    revision: Revision
    column: str
    dimension: int
    blocks: tuple[Vector, ...]
    """float32[_BLOCK, d] each; the last one may be filled in part."""
    row_ids: RowIds
    """int64[places]: LanceDB's stable row ids."""
    updated: NDArray[np.uint64]
    """uint64[places]: the version that last changed the row; `_NEVER` where the place is no longer a row's."""
    hidden: NDArray[np.bool_]
    """bool[places]: no vector, or no longer a row's."""
    ordered: RowIds
    """int64[rows]: each row id once, ascending."""
    order: Places
    """int64[rows]: the last place of each of these."""

    def places(self, row_ids: RowIds) -> Places:
        """Return the place of each row, int64[rows]; -1 where the table has no such row with a vector."""
        found = self.known(row_ids)
        return np.where((found >= 0) & ~self.hidden[found], found, -1) if len(self.order) else found

    def known(self, row_ids: RowIds) -> Places:
        """Return the last place of each row, int64[rows], even without a vector; -1 where it has none."""
        if not len(self.order):
            return np.full(len(row_ids), -1)
        at = np.minimum(np.searchsorted(self.ordered, row_ids), len(self.order) - 1)
        return np.where(self.ordered[at] == row_ids, self.order[at], -1)

    def inner_products(self, places: Places, question: Vector) -> Scores:
        """Return float64[places]; equal vectors get equal products, wherever they stand."""
        rows = np.empty((len(places), len(question)), dtype=np.float32)
        for number, place in enumerate(places.tolist()):
            rows[number] = self.blocks[place // _BLOCK][place % _BLOCK]
        products: Scores = np.multiply(rows, question, dtype=np.float64).sum(axis=1)
        return products

    def nearest(
        self, questions: Vector, n: int, among: Places | None = None, pool: Executor | None = None
    ) -> list[tuple[RowIds, Scores]]:
        """Return the row ids and inner products of each question's n nearest vectors, nearest first.

        `among` are the only places that count; `pool` shares the work of a single question.
        """
        hidden = self.hidden
        if among is not None:
            if len(among) <= n:
                return [self._exact(question, among) for question in questions]
            hidden = np.ones_like(self.hidden)
            hidden[among] = False
        if len(questions) > 1:
            found = [places for places, _ in nearest(questions, self._parts(hidden), n)]
        else:
            found = [self._scanned(questions[0], n, hidden, pool)]
        return [self._exact(question, places) for question, places in zip(questions, found, strict=True)]

    def _parts(self, hidden: NDArray[np.bool_]) -> Iterator[tuple[Vector, Places]]:
        places = np.where(hidden, -1, np.arange(len(hidden)))
        for start in range(0, len(hidden), _BLOCK):
            numbers = places[start : start + _BLOCK]
            yield self.blocks[start // _BLOCK][: len(numbers)], numbers

    def _scanned(self, question: Vector, n: int, hidden: NDArray[np.bool_], pool: Executor | None) -> Places:
        """Return the places of the n largest inner products."""
        # Not by BLAS, whose threads on a busy machine wait for each other far longer than the work takes (100,000 x 768
        # on busy cores: 104 ms of CPU instead of 10).
        products = np.empty(len(hidden), dtype=np.float32)

        def scan(blocks: range) -> None:
            for number in blocks:
                part = products[number * _BLOCK : (number + 1) * _BLOCK]
                np.einsum("rd,d->r", self.blocks[number][: len(part)], question, out=part)

        used = -(-len(hidden) // _BLOCK)
        shares = max(1, min(available_threads(), used)) if pool is not None else 1
        edges = [used * share // shares for share in range(shares + 1)]
        others = [] if pool is None else [pool.submit(scan, range(*ends)) for ends in itertools.pairwise(edges[1:])]
        scan(range(edges[1]))
        for other in others:
            other.result()
        products[hidden] = -np.inf
        places: Places = largest(products[None], n)[0]
        return np.compress(products[places] > -np.inf, places)

    def _exact(self, question: Vector, places: Places) -> tuple[RowIds, Scores]:
        products = self.inner_products(places, question)
        order = np.argsort(-products, kind="stable")
        return self.row_ids[places[order]], products[order]


class ResidentVectors:
    """Keeps the vectors of a table in memory and up to date, while they fit a limit; shared by threads."""

    def __init__(self, most_bytes: int = RESIDENT_BYTES) -> None:
        self._most_bytes = most_bytes
        self._loading = threading.Lock()
        self._questions = 0
        self._held: Resident | None = None
        self._counted: tuple[Revision | None, int] = (None, 0)

    @property
    def bytes_held(self) -> int:
        """How much memory the vectors take now."""
        held = self._held
        return 0 if held is None else sum(block.nbytes for block in held.blocks)

    def held(self, snapshot: Snapshot) -> Resident | None:
        """Return the vectors if they are in memory already, as the snapshot has them."""
        held = self._held
        fits = held is not None and (held.revision, held.column) == (snapshot.revision, snapshot.card.column)
        return held if fits else None

    def request(self, snapshot: Snapshot, questions: int) -> Resident | None:
        """Return the vectors as the snapshot has them, to answer this many questions.

        None when they exceed the limit, when too few questions were asked so far to make loading pay, and while another
        thread loads them or has those of a later version.
        """
        if not self._most_bytes:
            return None
        if (held := self.held(snapshot)) is not None:
            return held
        self._questions += questions
        wanted = self._wanted(snapshot)
        if wanted > self._most_bytes:
            self._held = None
            return None
        if self._held is None and self._questions * BYTES_PER_QUESTION < wanted:
            return None
        return self.load(snapshot)

    def _wanted(self, snapshot: Snapshot) -> int:
        """Return how many bytes the vectors take."""
        if self._counted[0] != snapshot.revision:
            self._counted = snapshot.revision, snapshot.table.count_rows()
        return self._counted[1] * snapshot.card.encoder.dimension * 4

    def load(self, snapshot: Snapshot) -> Resident | None:
        """Return the vectors as the snapshot has them, loaded now; None as for `request`."""
        if not self._loading.acquire(blocking=False):
            return None
        try:
            return None if self._wanted(snapshot) > self._most_bytes else self._loaded(snapshot)
        finally:
            self._loading.release()

    def _loaded(self, snapshot: Snapshot) -> Resident | None:
        held = self._held
        if held is not None and not _precedes(held, snapshot):
            if held.revision.table == snapshot.revision.table and held.revision.version > snapshot.version:
                return None
            self._held = held = None  # another table, or other vectors
        if held is not None and (held.updated == _NEVER).sum() > _MOST_DEAD * len(held.updated):
            self._held = held = None
        refreshed = _refreshed(snapshot, held) if held is not None else None
        if refreshed is None:
            self._held = held = None
            refreshed = _read(snapshot)
            trim_heap()  # of what LanceDB has read
        self._held = refreshed
        return refreshed


def _precedes(held: Resident, snapshot: Snapshot) -> bool:
    """Tell whether what is held may be brought up to date."""
    card = snapshot.card
    same = (held.revision.table, held.column) == (snapshot.revision.table, card.column)
    return same and held.revision.version <= snapshot.version and held.dimension == card.encoder.dimension


def _read(snapshot: Snapshot) -> Resident:
    column, dimension = snapshot.card.column, snapshot.card.encoder.dimension
    empty = np.empty(0, dtype=np.int64)
    dates, hidden = empty.astype(np.uint64), empty.astype(np.bool_)
    none = Resident(snapshot.revision, column, dimension, (), empty, dates, hidden, empty, empty)
    return _with(none, parts_of(snapshot.table, [_UPDATED, column]))


def _refreshed(snapshot: Snapshot, held: Resident) -> Resident | None:
    """Return the vectors, reading only those that have changed since `held`.

    A few others are read to see whether the column was replaced without its rows being marked as changed, as when it is
    dropped and added with plain LanceDB: None is returned then.
    """
    listing = snapshot.table.search().with_row_id(True).select([_UPDATED]).limit(None).to_arrow()
    row_ids, updated = row_ids_of(listing), listing[_UPDATED].to_numpy()
    known = held.known(row_ids)
    unchanged = (known >= 0) & (held.updated[known] == updated) if len(held.row_ids) else known >= 0
    gone = np.ones(len(held.row_ids), dtype=np.bool_)
    gone[known[unchanged]] = False
    dates = np.where(gone, _NEVER, held.updated)
    held = replace(held, revision=snapshot.revision, updated=dates, hidden=held.hidden | gone)
    probes = row_ids[unchanged]
    probes = probes[np.linspace(0, len(probes) - 1, min(len(probes), _PROBES), dtype=np.int64)]
    new = row_ids[~unchanged]
    wanted = [_UPDATED, held.column]

    def taken(rows: RowIds) -> pa.Table:
        return snapshot.table.take_row_ids(np.sort(rows).tolist()).with_row_id().select(wanted).to_arrow()

    first = taken(np.append(probes, new[:_TAKEN]))
    probing = np.isin(row_ids_of(first), probes)
    if not _agrees(held, first.filter(pa.array(probing))):
        return None
    if not len(new):
        return held
    rest = (taken(new[start : start + _TAKEN]) for start in range(_TAKEN, len(new), _TAKEN))
    return _with(held, itertools.chain([first.filter(pa.array(~probing))], rest))


def _agrees(held: Resident, rows: pa.Table) -> bool:
    """Tell whether the vectors of these rows are those held."""
    there, vectors = _vectors(rows[held.column].combine_chunks(), held.dimension)
    places = held.known(row_ids_of(rows))
    if not np.array_equal(there, ~held.hidden[places]):
        return False
    return all(
        np.array_equal(held.blocks[place // _BLOCK][place % _BLOCK], vector)
        for place, vector in zip(places[there].tolist(), vectors[there], strict=True)
    )


def row_ids_of(rows: pa.Table) -> RowIds:
    """Return the row ids of rows that were read with them."""
    row_ids: RowIds = rows["_rowid"].to_numpy().astype(np.int64)
    return row_ids


def _with(held: Resident, parts: Iterator[pa.Table]) -> Resident:
    """Return `held` with further rows, which replace those of the same row ids. Both share their blocks."""
    blocks, filled, dimension = list(held.blocks), len(held.row_ids), held.dimension
    row_ids, updated, hidden = [held.row_ids], [held.updated], [held.hidden]
    for part in parts:
        there, rows = _vectors(part[held.column].combine_chunks(), dimension)
        row_ids.append(row_ids_of(part))
        updated.append(part[_UPDATED].to_numpy())
        hidden.append(~there)
        while len(rows):
            if filled == len(blocks) * _BLOCK:
                blocks.append(np.empty((_BLOCK, dimension), dtype=np.float32))
            start = filled % _BLOCK
            some, rows = rows[: _BLOCK - start], rows[_BLOCK - start :]
            blocks[-1][start : start + len(some)] = some
            filled += len(some)
    every, dates, covered = np.concatenate(row_ids), np.concatenate(updated), np.concatenate(hidden)
    order = np.argsort(every, kind="stable")
    ordered = every[order]
    last = np.ones(len(order), dtype=np.bool_)
    last[:-1] = ordered[1:] != ordered[:-1]
    earlier = order[~last]
    dates[earlier], covered[earlier] = _NEVER, True
    return replace(
        held,
        blocks=tuple(blocks),
        row_ids=every,
        updated=dates,
        hidden=covered,
        ordered=ordered[last],
        order=order[last],
    )


def _vectors(column: pa.Array, dimension: int) -> tuple[NDArray[np.bool_], Vector]:
    """Return which rows have a vector, bool[n], and float32[n, d] with zeros in the others."""
    there, values = column.is_valid().to_numpy(zero_copy_only=False), vectors_of(column)
    if there.all():
        return there, values
    rows = np.zeros((len(column), dimension), dtype=np.float32)
    rows[there] = values
    return there, rows
