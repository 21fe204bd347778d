"""Rows that plain LanceDB has added in part, with an id and a text: found, and given what every passage has.

Until then searches read them as if they were complete. BM25 does not find them yet.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import pyarrow as pa
from lancedb.table import Table

from dpr_lance.table.filters import among
from dpr_lance.table.rows import UPDATED_HASH, completed, hash_of
from dpr_lance.table.schema import CONTENT, ID, OWN_COLUMNS, VECTOR
from dpr_lance.table.store import Store
from dpr_lance.text.normal_form import content_of

AT_ONCE = 1_000
"""Rows of one commit."""

_READ = tuple(field.name for field in OWN_COLUMNS if field.name != VECTOR)
_MADE = tuple(name for name in _READ if name not in (ID, "title", "text"))
"""The columns that are completed. A title may be null: it is the same as none."""
_TESTED = tuple(name for name in _MADE if name != CONTENT)
"""Columns in which a null shows that a row is incomplete; to test the content takes 20 times as long."""


def incomplete(schema: pa.Schema) -> str | None:
    """Return the filter that a row lacks what every passage has; None for a table in which none can."""
    names = [name for name in _TESTED if name in schema.names and schema.field(name).nullable]
    return " OR ".join(f"`{name}` IS NULL" for name in names) or None


def count_incomplete(store: Store) -> int:
    """Return how many rows lack what every passage has."""
    where = incomplete(store.schema())
    return 0 if where is None else store.count(where)


def complete_rows(store: Store) -> int:
    """Give incomplete rows their document, position, title, content and hashes, 1,000 per commit; return how many.

    What a row has is kept, its vector too.
    """
    where, done = incomplete(store.schema()), 0
    if where is None:
        return done
    rows = store.row_ids(where).tolist()
    for start in range(0, len(rows), AT_ONCE):
        found = store.take(rows[start : start + AT_ONCE], _READ)
        stored = Counter(store.select([ID], among(ID, found[ID].to_pylist()))[ID].to_pylist())
        unique = found.filter(pa.array([stored[name] == 1 for name in found[ID].to_pylist()], pa.bool_()))
        if unique.num_rows:
            store.commit(partial(_merge, rows=[_whole(row) for row in unique.to_pylist()]))
        for row in found.to_pylist():
            if stored[row[ID]] > 1:  # a merge would give each row of this id the same values
                store.commit(partial(_update, row_id=row["_rowid"], values=_whole(row)))
        done += found.num_rows
    return done


def _whole(row: dict[str, Any]) -> dict[str, Any]:
    row = completed({name: row[name] for name in _READ})
    made = {
        CONTENT: content_of(row["title"], row["text"]),
        "content_hash": hash_of(row["title"], row["text"]),
        "document_hash": UPDATED_HASH,
    }
    return {name: made[name] if row[name] is None else row[name] for name in (ID, *_MADE)}


def _merge(table: Table, rows: list[dict[str, Any]]) -> None:
    source = pa.Table.from_pylist(rows, schema=pa.schema([table.schema.field(name) for name in (ID, *_MADE)]))
    table.merge_insert(ID).when_matched_update_all().execute(source)


def _update(table: Table, row_id: int, values: dict[str, Any]) -> None:
    table.update(where=f"_rowid = {row_id}", values={name: values[name] for name in _MADE})
