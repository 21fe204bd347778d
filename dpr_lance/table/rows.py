"""Documents as rows of the table, and rows as passages again."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from dpr_lance.documents.document import Document
from dpr_lance.documents.values import python_records
from dpr_lance.encoders.vectors import Vector, vector_array
from dpr_lance.records.hits import place_in_document
from dpr_lance.records.passage import Passage
from dpr_lance.table.contention import SchemaChangedError
from dpr_lance.table.schema import (
    CONTENT,
    DOCUMENT_ID,
    EMBEDDED,
    ID,
    PASSAGE_COLUMNS,
    is_vector_column,
    language_of,
    metadata_of,
)
from dpr_lance.text.normal_form import content_of
from dpr_lance.text.splitter import Splitter, spans_of, splitter_name


def hash_of(*parts: str) -> str:
    """Return 128 bits of BLAKE2b over the parts, each preceded by its length, in hexadecimal."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()


UPDATED_HASH = "updated"
"""Document hash of a passage whose metadata was set by `update`: no document has it, so `add` replaces the passage."""


_ROW_COLUMNS = ("content_hash", "document_hash")
"""The columns that are attributes of a `Row`."""


@dataclass(frozen=True, slots=True)
class Row:
    """A passage on its way into the table, before it has a vector."""

    passage: Passage
    content_hash: str
    """Of title and text: passages with the same one have the same vector."""
    document_hash: str
    """See `stored_hash`: where it is equal on all passages, nothing needs to be written."""


def document_id_of(document: Document) -> str:
    """Return the document's id, or a hash of its content when it has none."""
    return document.id if document.id is not None else hash_of(document.title, document.text)


def document_hash_of(document: Document, splitter: Splitter | None) -> str:
    """Return the hash that changes with anything in a document or its splitter."""
    metadata = json.dumps(_present(document.metadata), sort_keys=True, default=_written)
    return hash_of(document.title, document.text, metadata, splitter_name(splitter))


def _present(value: Any) -> Any:  # noqa: ANN401 - any value
    """Return a value without the fields that are None, which sources with columns have and mappings may not."""
    if isinstance(value, Mapping):
        return {name: _present(item) for name, item in value.items() if item is not None}
    if isinstance(value, list) and {dict, list}.intersection(map(type, value)):
        return [_present(item) for item in value]
    return value


def _written(value: object) -> str:
    """Return a text for a value that JSON cannot hold: the same in every process and for all forms of an equal value.

    Such forms are those of a time zone, or nanoseconds without pandas.
    """
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return f"{value.view(np.int64)} {np.datetime_data(value)[0]}"
    if getattr(value, "nanosecond", 0) or getattr(value, "nanoseconds", 0):
        return f"{value.value} ns"  # type: ignore[attr-defined]  # pandas'
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        return f"{(value - _EPOCH) // datetime.timedelta(microseconds=1)} {value.utcoffset()}"
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    return repr(value)


_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def stored_hash(document_hash: str, passages: int) -> str:
    """Return what each passage of a document stores: its hash and the number of its passages.

    The number shows that passages were deleted, without splitting the document again.
    """
    return f"{document_hash}:{passages}"


def rows_of(document: Document, document_hash: str, splitter: Splitter | None) -> list[Row]:
    """Return the document's passages as rows, in order; ids are the document's id, '#' and the position."""
    document_id = document_id_of(document)
    spans = spans_of(document.text, splitter)
    kept_hash = stored_hash(document_hash, len(spans))
    rows = []
    for position, span in enumerate(spans):
        title, text = span.titled(document.title), document.text[span.start : span.end]
        passage = Passage(
            id=f"{document_id}#{position}",
            document_id=document_id,
            position=position,
            title=title,
            text=text,
            start=span.start,
            end=span.end,
            embedded=False,
            metadata=document.metadata,
        )
        rows.append(Row(passage, hash_of(title, text), kept_hash))
    return rows


def arrow_rows(
    rows: Sequence[Row],
    vectors: Mapping[str, Vector],
    schema: pa.Schema,
    column: str,
    metadata: Mapping[str, pa.Array],
) -> pa.Table:
    """Return the rows as an Arrow table of the stored schema.

    `vectors` maps passage ids to the float32[d] that go into `column`; a passage without one gets null. `metadata` has
    one value per row for the columns that are not null throughout.
    """
    arrays, language = [], language_of(schema)
    for field in schema:
        if field.name == CONTENT:
            contents = [content_of(row.passage.title, row.passage.text, language) for row in rows]
            arrays.append(pa.array(contents, type=field.type))
        elif field.name == column:
            arrays.append(vector_array([vectors.get(row.passage.id) for row in rows], field.type.list_size))
        elif field.name in PASSAGE_COLUMNS:
            arrays.append(pa.array([getattr(row.passage, field.name) for row in rows], type=field.type))
        elif field.name in _ROW_COLUMNS:
            arrays.append(pa.array([getattr(row, field.name) for row in rows], type=field.type))
        else:
            arrays.append(metadata.get(field.name, pa.nulls(len(rows), field.type)))
    # With the types of the values: the store compares them with the table's when they are written.
    fields = [field.with_type(array.type) for field, array in zip(schema, arrays, strict=True)]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=schema.metadata))


def fitted_rows(rows: pa.Table, schema: pa.Schema, column: str) -> pa.Table:
    """Return the rows without vector columns that a re-embedding has dropped, and with null in newer columns.

    An update would keep the old passage's values there. `column` is that of the rows' own vectors. Raises
    `SchemaChangedError` when a column is gone or now has another type.
    """
    types = {field.name: field.type for field in schema}
    dropped = {name for name in rows.schema.names if is_vector_column(name)} - types.keys() - {column}
    rows = rows.drop_columns(sorted(dropped))
    if changed := [field.name for field in rows.schema if types.get(field.name) != field.type]:
        raise SchemaChangedError(
            f"other programs keep changing the column {changed[0]!r}: try again when they are done"
        )
    for field in schema:
        if field.name not in rows.schema.names:
            rows = rows.append_column(field, pa.nulls(len(rows), field.type))
    return rows


def passages_of(batch: pa.Table) -> list[Passage]:
    """Return the passages of rows read from the table with `_embedded` in place of the vector."""
    return [
        Passage(**{name: row[name] for name in PASSAGE_COLUMNS}, embedded=row[EMBEDDED], metadata=metadata_of(row))
        for row in map(completed, python_records(batch))
    ]


def completed(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row, read with its id, with values in place of the nulls of one that plain LanceDB has added in part.

    The id names document and position, as in "alps#2"; else it is that of a document of one passage.
    """
    if not any(row.get(name, "") is None for name in PASSAGE_COLUMNS):
        return row
    name = row[ID] or ""  # null in an adopted table, until it is completed
    document, position = place_in_document(name) or (name, 0)
    if row.get(DOCUMENT_ID) not in (None, document):
        position = 0
    start = row.get("start") or 0
    usual = {ID: name, DOCUMENT_ID: document, "position": position, "title": "", "text": "", "start": start}
    usual["end"] = start + len(row.get("text") or "")
    return {name: usual.get(name) if value is None else value for name, value in row.items()}
