"""Indexes for filters on metadata columns."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from lancedb.index import BTree, LabelList
from lancedb.table import Table

from dpr_lance.errors import InvalidInputError
from dpr_lance.table.consistency import indexed_columns
from dpr_lance.table.schema import metadata_fields
from dpr_lance.table.store import Store

_LISTED_TYPES = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_string, pa.types.is_large_string)
"""Elements of the lists that LanceDB can index."""
_INDEXED_TYPES = (
    *_LISTED_TYPES,
    pa.types.is_floating,
    pa.types.is_fixed_size_binary,
    pa.types.is_date,
    pa.types.is_timestamp,
    pa.types.is_time,
)


def check_filter_columns(store: Store, columns: Sequence[str]) -> None:
    """Raise `InvalidInputError` that names the first of these which is not a metadata column that can be indexed."""
    fields = {field.name: field.type for field in metadata_fields(store.schema())}
    for column in columns:
        if column not in fields:
            known = ", ".join(fields) or "none"
            raise InvalidInputError(
                f"filter_columns: {column!r} is not a metadata column of {store.place}; it has {known}"
            )
        kind = fields[column]
        element, families = (kind.value_type, _LISTED_TYPES) if _is_list(kind) else (kind, _INDEXED_TYPES)
        if not any(family(element) for family in families):
            raise InvalidInputError(f"filter_columns: {column!r} is {kind}, which cannot have an index")


def build_filter_indexes(table: Table, columns: Sequence[str]) -> list[str]:
    """Create an index for filters on each of these columns that has none; return those columns."""
    present = indexed_columns(table)
    new = [column for column in dict.fromkeys(columns) if column not in present]
    for column in new:
        kind = table.schema.field(column).type
        if pa.types.is_large_string(kind):  # of pandas and polars: the same values, which LanceDB cannot index
            table.alter_columns({"path": column, "data_type": pa.string()})
        table.create_index(column, config=LabelList() if _is_list(kind) else BTree())
    return new


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))
