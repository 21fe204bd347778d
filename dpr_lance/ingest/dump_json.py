"""Rows of a dump as lines of JSON that give back every value and every bit of a vector."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import types as kinds

from dpr_lance.documents.field_types import is_list, is_text
from dpr_lance.documents.values import UNSTORABLE, arrow_array, python_values
from dpr_lance.errors import InvalidInputError

METADATA = "metadata"
"""The field of a line with the user's fields."""


def json_lines_of(rows: pa.Table, metadata: Sequence[str]) -> Iterator[str]:
    """Yield a line of JSON for each row; the columns `metadata` are in a field of their own.

    Raises `InvalidInputError` naming a column with a value that would not come back.
    """
    own = {name: rows[name].to_pylist() for name in rows.column_names if name not in metadata}
    theirs = {name: _written(rows[name], name) for name in metadata}
    for at in range(rows.num_rows):
        fields = {name: values[at] for name, values in own.items()}
        given = {name: values[at] for name, values in theirs.items() if values[at] is not None}
        yield json.dumps(fields | {METADATA: given}, ensure_ascii=False, allow_nan=False)


def rows_of_json(lines: Sequence[Mapping[str, Any]], schema: pa.Schema, metadata: Sequence[str]) -> pa.Table:
    """Return lines as rows of the schema; raise one of `UNSTORABLE` where a value has another type."""
    arrays = []
    for field in schema:
        if field.name in metadata:
            values = [line[METADATA].get(field.name) for line in lines]
            arrays.append(arrow_array([_read(value, field.type) for value in values], field.type))
        elif is_list(field.type):
            vectors = [line[field.name] for line in lines]
            arrays.append(pa.array([v if v is None else np.array(v, np.float32) for v in vectors], field.type))
        else:
            arrays.append(pa.array([line[field.name] for line in lines], field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def _written(column: pa.ChunkedArray, name: str) -> list[Any]:
    kind = column.type
    try:
        values = [_json(value, kind) for value in python_values(column)]
        again = arrow_array([_read(value, kind) for value in values], kind)
    except UNSTORABLE as error:
        raise _inexact(name, kind, str(error)) from error
    if not _same(again, column.combine_chunks()):
        raise _inexact(name, kind, "a value does not come back")
    return values


def _inexact(name: str, kind: pa.DataType, why: str) -> InvalidInputError:
    return InvalidInputError(
        f"the metadata field {name!r} ({kind}) cannot be written to JSON as it is ({why}): write a .parquet file"
    )


def _same(again: pa.Array, column: pa.Array) -> bool:
    # NaN does not equal itself.
    return bool(again.equals(column)) or str(again.to_pylist()) == str(column.to_pylist())


def _is_span(kind: pa.DataType) -> bool:
    """Tell whether values are written as a number of their units, as Arrow reads no text of them."""
    return bool(kinds.is_duration(kind) or kinds.is_time32(kind) or kinds.is_time64(kind) or kinds.is_date64(kind))


def _json(value: Any, kind: pa.DataType) -> Any:  # noqa: ANN401, PLR0911 - a case for each family of types
    """Return a stored value in JSON's types: dates and decimals as text, bytes in base64."""
    if value is None:
        return None
    if kinds.is_struct(kind):
        return {field.name: _json(value[field.name], field.type) for field in kind if field.name in value}
    if is_list(kind):
        return [_json(item, kind.value_type) for item in value]
    if kinds.is_boolean(kind) or kinds.is_integer(kind) or is_text(kind):
        return value
    if kinds.is_floating(kind):
        return value if math.isfinite(value) else str(value)
    if kinds.is_binary(kind) or kinds.is_large_binary(kind) or kinds.is_fixed_size_binary(kind):
        return base64.b64encode(value).decode()
    if _is_span(kind):
        return pa.scalar(value, kind).value
    return pa.scalar(value, kind).cast(pa.string()).as_py()


def _read(value: Any, kind: pa.DataType) -> Any:  # noqa: ANN401, PLR0911 - as above
    if value is None:
        return None
    if kinds.is_struct(kind):
        return {field.name: _read(value[field.name], field.type) for field in kind if field.name in value}
    if is_list(kind):
        return [_read(item, kind.value_type) for item in value]
    if kinds.is_boolean(kind) or kinds.is_integer(kind) or is_text(kind):
        return value
    if kinds.is_floating(kind):
        return float(value)
    if kinds.is_binary(kind) or kinds.is_large_binary(kind) or kinds.is_fixed_size_binary(kind):
        return base64.b64decode(value)
    if _is_span(kind):
        return pa.scalar(value, pa.int32() if kinds.is_time32(kind) else pa.int64()).cast(kind)
    return pa.scalar(value, pa.string()).cast(kind)
