"""A table that plain LanceDB has made becomes one of this library: checked, and given the columns that it lacks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from lancedb.db import DBConnection
from lancedb.table import Table

from dpr_lance.checks import shown
from dpr_lance.encoders.card import EncoderCard
from dpr_lance.errors import InvalidInputError, TableError
from dpr_lance.table.completion import SOURCES_KEY
from dpr_lance.table.engine_errors import errors_named, is_no_table
from dpr_lance.table.files import TableFiles
from dpr_lance.table.identity import identity_of, new_identity
from dpr_lance.table.lancedb_internals import FUNCTIONS_KEY
from dpr_lance.table.remembered import Remembered
from dpr_lance.table.schema import CONTENT, DOCUMENT_ID, ID, METADATA_KEY, OWN_COLUMNS, VECTOR, TableCard
from dpr_lance.table.store import WRITE_TIMEOUT, Store

NAMED = 5
"""Values that a refusal names."""


@dataclass(frozen=True, slots=True)
class Named:
    """The user's columns with ids, titles and texts; None where the table says it, or has none."""

    id: str | None = None
    title: str | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Sources:
    """SQL expressions of the columns that are made of the user's; a column that is there already is not among them."""

    columns: Mapping[str, str]

    def missing(self, table: Table, place: str) -> dict[str, str]:
        """Return those whose columns are not there yet; raise for a column of such a name with other values."""
        for name, expression in self.columns.items():
            differs = f"(`{name}` IS NULL AND {expression} IS NOT NULL) OR `{name}` != {expression}"
            if name in table.schema.names and table.count_rows(differs):
                raise InvalidInputError(
                    f"{place} has a column {name!r} that is not the one to use ({expression}): rename it, "
                    f"table.alter_columns({{'path': {name!r}, 'rename': 'other'}}), and call adopt again"
                )
        return {name: sql for name, sql in self.columns.items() if name not in table.schema.names}


def opened(database: DBConnection, name: str, files: TableFiles) -> Table:
    """Return the LanceDB table to adopt; raise `TableError` where there is none."""
    with errors_named(files):
        try:
            return database.open_table(name)
        except ValueError as error:
            if not is_no_table(error):
                raise
            raise TableError(f"{files.place} does not exist: give the table's name, adopt(uri, table=...)") from error


def is_ours(table: Table) -> bool:
    """Tell whether a table was made or adopted by this library."""
    return METADATA_KEY in (table.schema.metadata or {})


def function_of(table: Table, place: str) -> dict[str, Any]:
    """Return the entry of the embedding function `dpr` in the table's schema; empty where it has none."""
    stored = json.loads((table.schema.metadata or {}).get(FUNCTIONS_KEY, b"[]"))
    found = [entry for entry in stored if entry.get("name") == "dpr"]
    if len(found) > 1:
        columns = ", ".join(entry["vector_column"] for entry in found)
        raise InvalidInputError(f"{place} has several vector columns of 'dpr' ({columns}): drop all but {VECTOR!r}")
    return found[0] if found else {}


def adopt_table(store: Store, database: DBConnection, named: Named, card: TableCard) -> None:
    """Give the table the columns and the metadata that it lacks; `table.completion` fills them.

    Raises `InvalidInputError` for a table that cannot be adopted, before anything is changed.
    """
    place = store.place
    table = opened(database, store.name, store.files)
    _check_vectors(table, card.encoder, place)
    sources = _sources(table, named, function_of(table, place), place)
    _check_own_columns(table, place)
    missing = sources.missing(table, place)
    with store.lock(timeout=WRITE_TIMEOUT, purpose="write"), errors_named(store.files):
        if missing:
            table.add_columns(missing)
        later = {ID: "uuid()"} | dict(sources.columns)  # of rows that plain LanceDB adds, perhaps without an id
        about = {METADATA_KEY: card.to_json(), SOURCES_KEY: json.dumps(later).encode()} | new_identity()
        new = [field for field in OWN_COLUMNS if field.name not in table.schema.names]
        plain = [pa.field(field.name, field.type) for field in new]  # a new column is null at first
        # The small table first: whenever a process dies, it is there if the table is ours.
        Remembered(database, store.name, store.folder, place).create(identity_of(pa.schema([], metadata=about)))
        table.add_columns(pa.schema(plain, metadata=about))
        if not is_ours(table):
            raise TableError(f"{place}: this LanceDB does not store metadata with new columns; use another version")


def loosen(store: Store) -> None:
    """Let the columns of a table of an earlier version be null, so that plain LanceDB can add rows without them."""
    allowed = {field.name for field in OWN_COLUMNS if field.nullable}
    strict = [field.name for field in store.schema() if field.name in allowed and not field.nullable]
    if strict:
        store.commit(lambda table: table.alter_columns(*({"path": name, "nullable": True} for name in strict)))


def _check_vectors(table: Table, encoder: EncoderCard, place: str) -> None:
    kind = table.schema.field(VECTOR).type if VECTOR in table.schema.names else None
    if kind != pa.list_(pa.float32(), encoder.dimension):
        raise InvalidInputError(
            f"{place}: the column {VECTOR!r} must have the vectors of {encoder.name!r}, {encoder.dimension} float32 "
            f"numbers each; it is {'missing' if kind is None else kind}"
        )


def _check_own_columns(table: Table, place: str) -> None:
    for field in OWN_COLUMNS:
        if field.name in (VECTOR, ID, "title", "text") or field.name not in table.schema.names:
            continue
        kind = table.schema.field(field.name).type
        if kind != field.type and not (field.name == CONTENT and kind == pa.string()):
            raise InvalidInputError(
                f"{place} has a column {field.name!r} of {kind}, and this library needs the name for {field.type}: "
                f"rename it, table.alter_columns({{'path': {field.name!r}, 'rename': 'other'}})"
            )


def _sources(table: Table, named: Named, function: Mapping[str, Any], place: str) -> Sources:
    column = named.text or function.get("source_column") or "text"
    kind = _kind(table, column, "text", place)
    path = f"`{column}`"
    first_line = function.get("model", {}).get("title_line", False) and named.text in (None, column)
    if pa.types.is_struct(kind):
        text, title = f"{path}.`text`", f"{path}.`title`" if kind.get_field_index("title") >= 0 else None
    elif first_line:
        # LanceDB's SQL has no CASE. The text is what follows the first line; without a newline all is text.
        text = f"regexp_replace({path}, '^[^\n]*\n', '')"
        title = f"regexp_replace({path}, '(?s)(\n.*$)|(^[^\n]*$)', '')"
    elif _is_text(kind):
        text, title = path, None
    else:
        raise InvalidInputError(f"{place}: the column {column!r} is {kind}, not text: name another one with text=...")
    if blank := table.count_rows(f"{text} IS NULL OR btrim({text}) = ''"):
        raise InvalidInputError(
            f"{place}: {blank:,} rows have no text in {column!r}: delete them, or give them one, and call adopt again"
        )
    if named.title is not None:
        if not _is_text(_kind(table, named.title, "title", place)):
            raise InvalidInputError(f"{place}: the column {named.title!r} is not text: name another one with title=...")
        title = f"`{named.title}`"
    columns = _ids(table, named.id, place) | {"text": text} | ({} if title is None else {"title": title})
    return Sources({name: sql for name, sql in columns.items() if sql != f"`{name}`"})


def _ids(table: Table, name: str | None, place: str) -> dict[str, str]:
    if name is None and ID not in table.schema.names:
        return {ID: "uuid()"}
    column = name or ID
    kind = _kind(table, column, "id", place)
    whole = pa.types.is_integer(kind)
    if not (_is_text(kind) or whole) or (column == ID and kind != pa.string()):
        raise InvalidInputError(
            f"{place}: the column {column!r} is {kind}, and ids are strings: name another column with id=..., or "
            f"rename it, table.alter_columns({{'path': {column!r}, 'rename': 'key'}}), and call adopt(..., id='key')"
        )
    values = table.search().select([column]).limit(None).to_arrow()[column]
    if values.null_count:
        raise InvalidInputError(f"{place}: {values.null_count:,} rows have no id in {column!r}: give them one")
    counts = pc.value_counts(values)
    doubled = counts.field("values").filter(pc.greater(counts.field("counts"), 1)).to_pylist()
    if doubled:
        some = ", ".join(map(shown, doubled[:NAMED]))
        raise InvalidInputError(
            f"{place}: {len(doubled):,} ids in {column!r} are stored more than once ({some}): delete the extra rows, "
            f"or name another column with id=..."
        )
    if column == ID:
        return {}
    text = f"CAST(`{column}` AS STRING)"
    return {ID: f"concat({text}, '#0')", DOCUMENT_ID: text}


def _kind(table: Table, name: str, argument: str, place: str) -> pa.DataType:
    if name not in table.schema.names:
        raise InvalidInputError(
            f"{argument}={name!r}: {place} has no such column; it has {', '.join(table.schema.names)}"
        )
    if "`" in name:
        raise InvalidInputError(f"{argument}={name!r}: {place} has a backtick in the name of this column: rename it")
    return table.schema.field(name).type


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
