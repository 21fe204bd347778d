"""Rows of one id that stand in the table more than once, as a plain LanceDB `add` leaves them."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
from lancedb.table import Table

from dpr_lance.table.filters import among
from dpr_lance.table.schema import DOCUMENT_ID, EMBEDDED, ID

_AT_ONCE = 1_000


def stored_ids(table: Table, document_ids: Sequence[str]) -> pa.ChunkedArray:
    """Return the ids of all passages that the table holds of these documents, after doubled rows have been dropped."""
    search = table.search().with_row_id(True).where(among(DOCUMENT_ID, document_ids)).select([ID])
    rows = search.limit(None).to_arrow()
    drop_doubled(table, rows)
    return rows[ID]


def doubled_rows(table: Table, embedded: str) -> pa.Table:
    """Return `_rowid` and id of all rows, those with a vector first; `embedded` is the filter that tells them."""
    search = table.search().with_row_id(True).select({ID: ID, EMBEDDED: embedded})
    return search.limit(None).to_arrow().sort_by([(EMBEDDED, "descending"), ("_rowid", "ascending")])


def drop_doubled(table: Table, rows: pa.Table) -> int:
    """Delete each row whose id an earlier one of `rows` (`_rowid`, id) has too; return how many went."""
    if pc.count_distinct(rows[ID]).as_py() == rows.num_rows:
        return 0
    seen: set[str] = set()
    extra = []
    for row, name in zip(rows["_rowid"].to_pylist(), rows[ID].to_pylist(), strict=True):
        if name in seen:
            extra.append(row)
        seen.add(name)
    for start in range(0, len(extra), _AT_ONCE):
        table.delete(f"_rowid IN ({', '.join(map(str, extra[start : start + _AT_ONCE]))})")
    return len(extra)
