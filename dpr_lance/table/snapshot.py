"""One version of the table, which is what a search reads; several reads run at the same time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import pyarrow as pa
from lancedb.table import Table

from dpr_lance.errors import DamagedTableError
from dpr_lance.table.consistency import COVERAGE, coverage_in, existing
from dpr_lance.table.contention import SupersededError
from dpr_lance.table.filters import Filter
from dpr_lance.table.identity import Revision
from dpr_lance.table.lancedb_internals import start
from dpr_lance.table.opening import Opening
from dpr_lance.table.schema import TableCard, is_vector_column, metadata_fields

PART_ROWS = 8_192
"""Rows of a part: see `part_of`."""

T = TypeVar("T")


class GoneRowsError(DamagedTableError):
    """An index lists rows that the table no longer holds."""


class Snapshot:
    """One version of the table, and the values of the small table at that time; shared by threads.

    Later commits are not seen here. A clean-up may free the version: reads fail then, and `SupersededError` is raised
    where it has done so already.
    """

    def __init__(self, opening: Opening, revision: Revision, state: Mapping[str, Any]) -> None:
        table = opening.latest()
        self.place = opening.place
        """How error messages name the table."""
        try:
            table.checkout(revision.version)
        except ValueError as error:
            raise SupersededError(f"{self.place}: {error}") from error
        self.table = table
        """Checked out at the version."""
        self.reads = opening.asynchronous.of(table, revision.version)
        """The same, asynchronous; see `ask`."""
        self.revision = revision
        schema = table.schema
        self.names: list[str] = schema.names
        self.metadata_types = {field.name: field.type for field in metadata_fields(schema)}
        self.card: TableCard = opening.remembered.cards_in(state, schema)[0]
        self.state = state
        self._hides_gone_rows = False
        self._indexes_exact: bool | None = None

    @property
    def version(self) -> int:
        """The version's number."""
        return self.revision.version

    def ask(self, read: Coroutine[Any, Any, T]) -> Future[T]:
        """Start to read on LanceDB's event loop; return its future."""
        return start(read)

    async def may_list_gone_rows(self) -> bool:
        """Tell whether an index may list rows that are gone, and searches do not yet skip them."""
        if self._indexes_exact is None:
            self._indexes_exact = coverage_in(await self.reads.list_indices()) == self.state.get(COVERAGE)
        return not self._indexes_exact and not self._hides_gone_rows

    def gone_rows(self) -> GoneRowsError:
        """Return the error for a search to which an index gave rows that are gone."""
        return GoneRowsError(f"an index of {self.place} lists passages that are gone: call optimize()")

    def answer(self, call: Callable[[Snapshot], T]) -> T:
        """Return `call(self)`, called again where an index gives it rows that are gone."""
        try:
            return call(self)
        except GoneRowsError:
            self.hide_gone_rows()
            return call(self)

    def hide_gone_rows(self) -> None:
        """Let every search from now on skip rows that are gone, which takes longer."""
        self._hides_gone_rows = True

    def narrowed(self, where: Filter) -> Filter:
        """Return the filter with which an index is to be searched."""
        return existing(where) if self._hides_gone_rows else where


def lost_vectors(card: TableCard, names: Sequence[str], place: str) -> str | None:
    """Return what is wrong where the card's vectors are not among the columns; None where they are."""
    if card.column in names:
        return None
    others = ", ".join(name for name in names if is_vector_column(name)) or "none"
    return (
        f"{place} has lost its column {card.column!r} with the vectors of {card.encoder.name!r}, or the record of what "
        f"made those that are there ({others}): call reembed() with the encoder of your choice, or copy the table's "
        f"_dpr_lance.lance folder back from a backup"
    )


def part_of(table: Table, columns: Sequence[str], start: int) -> pa.Table:
    """Return `_rowid` and these columns of up to `PART_ROWS` rows from `start` on.

    A stream of batches would read far ahead, up to whole columns.
    """
    return table.search().with_row_id(True).select(list(columns)).offset(start).limit(PART_ROWS).to_arrow()


def parts_of(table: Table, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield `_rowid` and these columns of all rows, part by part; see `part_of`."""
    return (part_of(table, columns, start) for start in range(0, table.count_rows(), PART_ROWS))
