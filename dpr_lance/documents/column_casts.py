"""The SQL expression with which LanceDB casts a stored column to a wider type."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import pyarrow as pa
from pyarrow import types as kinds

from dpr_lance.documents.field_types import EMPTY_FIELD, UnstorableError, is_list

_NAMES = {
    "bool": "Boolean",
    "halffloat": "Float16",
    "float": "Float32",
    "double": "Float64",
    "string": "Utf8",
    "large_string": "LargeUtf8",
    "binary": "Binary",
    "large_binary": "LargeBinary",
    "date32[day]": "Date32",
    "date64[ms]": "Date64",
    "null": "Null",
}
_UNITS = {"s": "Second", "ms": "Millisecond", "us": "Microsecond", "ns": "Nanosecond"}


def cast_expression(name: str, column: pa.DataType, kind: pa.DataType) -> str:
    """Return the SQL that casts the column `name` from one stored type to another.

    Raises `UnstorableError` where LanceDB's SQL cannot name the type.
    """
    if kinds.is_null(column) or (_is_empty(column) and not kinds.is_struct(kind)):
        return f"arrow_cast(NULL, {_quoted(kind)})"
    steps = [kind] if not _has_unknown(column, kind) else [_marked(column), _known(column, kind), _marked(kind), kind]
    return reduce(lambda value, step: f"arrow_cast({value}, {_quoted(step)})", steps, f"`{name}`")


def _quoted(kind: pa.DataType) -> str:
    return "'" + _sql_type(kind).replace("'", "''") + "'"


def _sql_type(kind: pa.DataType) -> str:
    if kinds.is_struct(kind):
        fields = ", ".join(f'"{_checked(field.name)}": {_sql_type(field.type)}' for field in kind)
        return f"Struct({fields})"
    if is_list(kind):
        item = _sql_type(kind.value_type)
        if kinds.is_fixed_size_list(kind):
            return f"FixedSizeList({kind.list_size}, {item})"
        return f"{'LargeList' if kinds.is_large_list(kind) else 'List'}({item})"
    for family, name in _PARAMETRISED:
        if family(kind):
            return name(kind)
    if str(kind) not in _NAMES:
        raise UnstorableError(f"LanceDB cannot cast to the type {kind}")
    return _NAMES[str(kind)]


_PARAMETRISED: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.DataType], str]], ...] = (
    (kinds.is_signed_integer, lambda kind: f"Int{kind.bit_width}"),
    (kinds.is_unsigned_integer, lambda kind: f"UInt{kind.bit_width}"),
    (kinds.is_decimal128, lambda kind: f"Decimal128({kind.precision}, {kind.scale})"),
    (kinds.is_decimal256, lambda kind: f"Decimal256({kind.precision}, {kind.scale})"),
    (kinds.is_fixed_size_binary, lambda kind: f"FixedSizeBinary({kind.byte_width})"),
    (kinds.is_time32, lambda kind: f"Time32({_UNITS[kind.unit]})"),
    (kinds.is_time64, lambda kind: f"Time64({_UNITS[kind.unit]})"),
    (kinds.is_duration, lambda kind: f"Duration({_UNITS[kind.unit]})"),
    (
        kinds.is_timestamp,
        lambda kind: "Timestamp({}, {})".format(_UNITS[kind.unit], "None" if kind.tz is None else f'Some("{kind.tz}")'),
    ),
)


def _checked(name: str) -> str:
    if not name or '"' in name or "\\" in name:
        raise UnstorableError(f"LanceDB cannot change the type of a mapping that has a field called {name!r}")
    return name


# A field without a known type is stored as a struct, which LanceDB casts to nothing else. So such fields are dropped
# and added again with their new type. A struct is cast by its fields' names, of which at least one must be in both, so
# each struct gets a field in between.


def _is_empty(kind: pa.DataType) -> bool:
    return bool(kinds.is_struct(kind)) and [field.name for field in kind] == [EMPTY_FIELD]


def _has_unknown(column: pa.DataType, kind: pa.DataType) -> bool:
    """Tell whether a type that was unknown in one is known in the other."""
    if _is_empty(column):
        return not _is_empty(kind)
    if kinds.is_struct(column):
        return any(_has_unknown(field.type, kind.field(field.name).type) for field in column)
    return is_list(column) and is_list(kind) and _has_unknown(column.value_type, kind.value_type)


def _marked(kind: pa.DataType) -> pa.DataType:
    if is_list(kind):
        return pa.list_(_marked(kind.value_type))
    if not kinds.is_struct(kind):
        return kind
    fields = [(field.name, _marked(field.type)) for field in kind if field.name != EMPTY_FIELD]
    return pa.struct([(EMPTY_FIELD, pa.bool_()), *fields])


def _known(column: pa.DataType, kind: pa.DataType) -> pa.DataType:
    """Return the marked type without the fields of unknown type."""
    if is_list(column) and is_list(kind):
        return pa.list_(_known(column.value_type, kind.value_type))
    if not kinds.is_struct(column) or not kinds.is_struct(kind):
        return column
    fields = [
        (field.name, _known(field.type, kind.field(field.name).type))
        for field in column
        if field.name != EMPTY_FIELD
        and not (_is_empty(field.type) and not kinds.is_struct(kind.field(field.name).type))
    ]
    return pa.struct([(EMPTY_FIELD, pa.bool_()), *fields])
