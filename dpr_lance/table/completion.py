"""Rows that plain LanceDB has added in part, with an id and a text: found, and given what every passage has.

Until then searches read them as if they were complete. BM25 does not find them yet.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from typing import Any

import pyarrow as pa
from lancedb.table import Table

from dpr_lance.table.filters import among
from dpr_lance.table.rows import UPDATED_HASH, completed, hash_of
from dpr_lance.table.schema import CONTENT, ID, OWN_COLUMNS, VECTOR, language_of
from dpr_lance.table.store import Store
from dpr_lance.text.language import Language
from dpr_lance.text.normal_form import content_of

AT_ONCE = 8_192
"""Rows of one commit."""

SOURCES_KEY = b"dpr_lance_sources"
"""Key in the schema metadata of an adopted table: the SQL expressions, as JSON, of the columns made of the user's."""

_READ = tuple(field.name for field in OWN_COLUMNS if field.name != VECTOR)
_MADE = tuple(name for name in _READ if name not in (ID, "title", "text"))
"""The columns that are completed. A title may be null: it is the same as none."""
_TESTED = tuple(name for name in _MADE if name != CONTENT)
"""Columns in which a null shows that a row is incomplete; to test the content takes 20 times as long."""


def incomplete(schema: pa.Schema) -> str | None:
    """Return the filter that a row lacks what every passage has; None for a table in which none can."""
    stored = (schema.metadata or {}).get(SOURCES_KEY, b"{}")
    tested = (*_TESTED, *(name for name in (ID, "text") if name in json.loads(stored)))
    names = [name for name in tested if name in schema.names and schema.field(name).nullable]
    return " OR ".join(f"`{name}` IS NULL" for name in names) or None


def count_incomplete(store: Store) -> int:
    """Return how many rows lack what every passage has."""
    where = incomplete(store.schema())
    return 0 if where is None else store.count(where)


def complete_rows(store: Store) -> int:
    """Give incomplete rows their document, position, content and hashes; return how many.

    What a row has is kept, its vector too.
    """
    schema, done = store.schema(), 0
    _copy_sources(store, schema)
    where = incomplete(schema)
    if where is None:
        return done
    rows, language = store.row_ids(where).tolist(), language_of(schema)
    for start in range(0, len(rows), AT_ONCE):
        found = store.take(rows[start : start + AT_ONCE], _READ)
        stored = Counter(store.select([ID], among(ID, found[ID].to_pylist()))[ID].to_pylist())
        unique = found.filter(pa.array([stored[name] == 1 for name in found[ID].to_pylist()], pa.bool_()))
        if unique.num_rows:
            store.commit(partial(_merge, rows=[_whole(row, language) for row in unique.to_pylist()]))
        for row in found.to_pylist():
            if stored[row[ID]] > 1:  # a merge would give each row of this id the same values
                store.commit(partial(_update, row_id=row["_rowid"], values=_whole(row, language)))
        done += found.num_rows
    return done


def _copy_sources(store: Store, schema: pa.Schema) -> None:
    """Copy ids, titles and texts of rows that plain LanceDB has added to an adopted table."""
    stored = (schema.metadata or {}).get(SOURCES_KEY)
    sources: dict[str, str] = {} if stored is None else json.loads(stored)
    tests = [f"`{name}` IS NULL" for name in (ID, "text") if name in sources]
    if tests and store.count(where := " OR ".join(tests)):
        values = {name: f"coalesce(`{name}`, {expression})" for name, expression in sources.items()}
        store.commit(lambda table: table.update(where=where, values_sql=values))


def _whole(row: dict[str, Any], language: Language) -> dict[str, Any]:
    row = completed({name: row[name] for name in _READ})
    made = {
        CONTENT: content_of(row["title"], row["text"], language),
        "content_hash": hash_of(row["title"], row["text"]),
        "document_hash": UPDATED_HASH,
    }
    return {name: made[name] if row[name] is None else row[name] for name in (ID, *_MADE)}


def _merge(table: Table, rows: list[dict[str, Any]]) -> None:
    source = pa.Table.from_pylist(rows, schema=pa.schema([table.schema.field(name) for name in (ID, *_MADE)]))
    table.merge_insert(ID).when_matched_update_all().execute(source)


def _update(table: Table, row_id: int, values: dict[str, Any]) -> None:
    table.update(where=f"_rowid = {row_id}", values={name: values[name] for name in _MADE})
