"""Adding and dropping columns of a LanceDB table, repeatable after a conflict with another writer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
from lancedb.table import Table


def add_missing(table: Table, fields: Sequence[pa.Field], metadata: Mapping[bytes, bytes] | None) -> None:
    """Add the columns that the table does not have yet, with null in all rows.

    With them come the keys of `metadata` that the schema metadata does not have yet; LanceDB keeps those that it has.
    """
    new = [field for field in fields if field.name not in table.schema.names]
    if new:
        table.add_columns(pa.schema(new, metadata=metadata))


def drop_present(table: Table, names: Sequence[str]) -> None:
    """Drop those of these columns that exist, and their indexes."""
    present = [name for name in names if name in table.schema.names]
    if present:
        table.drop_columns(present)
