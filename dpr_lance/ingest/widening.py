"""Adding and widening metadata columns, so that new values fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
from lancedb.table import Table

from dpr_lance.documents.column_casts import cast_expression
from dpr_lance.indexes.filter_indexes import build_filter_indexes
from dpr_lance.table.consistency import indexed_columns
from dpr_lance.table.schema import REPLACED, REPLACEMENT, is_temporary
from dpr_lance.table.snapshot import PART_ROWS, part_of
from dpr_lance.table.store import Store


def prepare_columns(
    store: Store, present: Iterable[pa.Field], new: Sequence[pa.Field], wider: Sequence[pa.Field]
) -> bool:
    """Add the `new` columns, widen others to these types, and let the `present` ones take null; values stay.

    A column's index for filters is made again. Readers see the old column or the wider one; where a process dies, the
    next one continues. Returns whether anything changed.
    """
    store.add_columns(new)
    if strict := [field.name for field in present if not field.nullable]:
        # Another program made them so; documents may have no value there.
        store.commit(lambda table: table.alter_columns(*({"path": name, "nullable": True} for name in strict)))
    if wider:
        indexed: list[str] = []
        store.commit(lambda table: indexed.extend(_widen(table, wider)))
        if indexed:
            store.retry_on_conflict(lambda table: build_filter_indexes(table, indexed))
    return bool(new or strict or wider)


def stored_values(store: Store, name: str) -> Iterator[pa.ChunkedArray]:
    """Yield the values of a column, part by part."""
    start = 0
    while len(part := store.retry_on_conflict(lambda table, at=start: part_of(table, [name], at))):  # type: ignore[misc]
        yield part[name]
        start += PART_ROWS


def _widen(table: Table, fields: Sequence[pa.Field]) -> list[str]:
    _drop_temporary(table)
    casts = {
        field.name: cast_expression(field.name, table.schema.field(field.name).type, field.type)
        for field in fields
        if field.name in table.schema.names and table.schema.field(field.name).type != field.type
    }
    if not casts:
        return []
    indexed = [name for name in casts if name in indexed_columns(table)]
    table.add_columns({f"{REPLACEMENT}{number}": cast for number, cast in enumerate(casts.values())})
    swaps = []
    for number, name in enumerate(casts):
        swaps += [{"path": name, "rename": f"{REPLACED}{number}"}, {"path": f"{REPLACEMENT}{number}", "rename": name}]
    # One commit: a reader finds the old columns or the wider ones.
    table.alter_columns(*swaps)
    _drop_temporary(table)
    return indexed


def _drop_temporary(table: Table) -> None:
    if left := [name for name in table.schema.names if is_temporary(name)]:
        table.drop_columns(left)
