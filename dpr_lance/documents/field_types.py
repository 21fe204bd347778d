"""The types of metadata: which types a column can hold, and which types can hold another type's values.

A type has two forms. The declared form is that of the source or of the Python values: `None` is `null`, `{}` a struct
without fields. The stored form is what LanceDB's file format can hold: see `stored_type` and `declared_type`.
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
from pyarrow import types as kinds

MAX_DEPTH = 32
"""Nested lists and structs. The engine fails at 63."""

EMPTY_FIELD = "dpr_lance_empty"
"""The only field, always null, of a stored struct without known fields: LanceDB stores no empty struct."""

_EMPTY = pa.struct([pa.field(EMPTY_FIELD, pa.bool_())])
_SIGNED = {8: pa.int8(), 16: pa.int16(), 32: pa.int32(), 64: pa.int64()}
_FLOATS = {16: pa.float16(), 32: pa.float32(), 64: pa.float64()}
_DIGITS = {8: 3, 16: 5, 32: 10, 64: 20}
"""Decimal digits of an integer, by its bits."""
_UNITS = ("s", "ms", "us", "ns")
_PLAIN_FORMS: dict[pa.DataType, pa.DataType] = {
    pa.string_view(): pa.string(),
    pa.binary_view(): pa.binary(),
    pa.json_(): pa.string(),
    pa.bool8(): pa.bool_(),
}
"""Types that LanceDB changes or cannot read, with a type of the same values that it keeps."""


class UnstorableError(ValueError):
    """A type or a value that no column can hold, and why; the caller names document and field."""


def is_list(kind: pa.DataType) -> bool:
    """Tell whether a type is a list of any kind."""
    return bool(
        kinds.is_list(kind)
        or kinds.is_large_list(kind)
        or kinds.is_fixed_size_list(kind)
        or kinds.is_list_view(kind)
        or kinds.is_large_list_view(kind)
    )


def is_text(kind: pa.DataType) -> bool:
    """Tell whether a type is a string of any kind."""
    return bool(kinds.is_string(kind) or kinds.is_large_string(kind))


def plain_type(kind: pa.DataType, depth: int = 0) -> pa.DataType:
    """Return a type for the same values that LanceDB can hold; raise `UnstorableError` where there is none.

    Dictionaries and run-end encoded columns are decoded, views and small decimals become the common forms, and lists of
    a fixed size become common lists unless they hold numbers.
    """
    if depth >= MAX_DEPTH and (is_list(kind) or kinds.is_struct(kind)):
        raise UnstorableError(f"it is nested more than {MAX_DEPTH} deep")
    if kinds.is_dictionary(kind) or kinds.is_run_end_encoded(kind):
        return plain_type(kind.value_type, depth)
    if kinds.is_decimal32(kind) or kinds.is_decimal64(kind):
        return pa.decimal128(kind.precision, kind.scale)
    if is_list(kind):
        return _plain_list(kind, plain_type(kind.value_type, depth + 1))
    if kinds.is_struct(kind):
        names = [field.name for field in kind]
        if len(set(names)) < len(names):
            raise UnstorableError("two of its fields have the same name")
        for name in names:
            check_field_name(name)
        return pa.struct([pa.field(field.name, plain_type(field.type, depth + 1)) for field in kind])
    kind = _PLAIN_FORMS.get(kind, kind)
    extended = isinstance(kind, pa.BaseExtensionType) and (kind != pa.uuid() or depth)
    if kinds.is_nested(kind) or kinds.is_interval(kind) or extended:
        raise UnstorableError(f"LanceDB cannot hold the type {kind}{' within another' if kind == pa.uuid() else ''}")
    return kind


def _plain_list(kind: pa.DataType, item: pa.DataType) -> pa.DataType:
    if kinds.is_fixed_size_list(kind) and (kinds.is_integer(item) or kinds.is_floating(item)):
        return pa.list_(item, kind.list_size)
    return pa.large_list(item) if kinds.is_large_list(kind) or kinds.is_large_list_view(kind) else pa.list_(item)


def check_field_name(name: str) -> None:
    """Raise `UnstorableError` when a struct's field cannot have this name."""
    if "\0" in name or name == EMPTY_FIELD:
        raise UnstorableError(f"a field within it cannot be called {name!r}")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise UnstorableError(f"a field within it has a name that is not text: {name!r}") from error


def stored_type(kind: pa.DataType) -> pa.DataType:
    """Return the stored form of a declared type: a struct without fields, or a null within a struct, gets a field."""
    if is_list(kind):
        return _list_of(kind, stored_type(kind.value_type))
    if not kinds.is_struct(kind):
        return kind
    if not kind.num_fields:
        return _EMPTY
    return pa.struct([(field.name, _EMPTY if kinds.is_null(field.type) else stored_type(field.type)) for field in kind])


def declared_type(kind: pa.DataType) -> pa.DataType:
    """Return the declared form of a stored type."""
    if is_list(kind):
        return _list_of(kind, declared_type(kind.value_type))
    if not kinds.is_struct(kind):
        return kind
    return pa.struct([(field.name, declared_type(field.type)) for field in kind if field.name != EMPTY_FIELD])


def takes(column: pa.DataType, kind: pa.DataType) -> bool:
    """Tell whether a column could hold values of `kind` that fit its range and precision."""
    if kinds.is_null(kind) or column == kind:
        return True
    if kinds.is_struct(kind):
        return kinds.is_struct(column) and all(
            (at := column.get_field_index(field.name)) >= 0 and takes(column.field(at).type, field.type)
            for field in kind
        )
    if is_list(kind):
        return is_list(column) and takes(column.value_type, kind.value_type)
    if kinds.is_integer(kind) and (kinds.is_floating(column) or kinds.is_decimal(column)):
        return True
    return any(family(kind) and family(column) for family in _FAMILIES) and _zone(kind) == _zone(column)


def widened(column: pa.DataType, kind: pa.DataType) -> pa.DataType | None:
    """Return the type that holds the values of both, some of them only where `is_conditional`; None without one."""
    if column == kind or kinds.is_null(kind):
        return column
    if kinds.is_null(column) or column == pa.struct([]):
        return kind
    if kinds.is_struct(column) and kinds.is_struct(kind):
        return _widened_struct(column, kind)
    if is_list(column) and is_list(kind):
        item = widened(column.value_type, kind.value_type)
        return None if item is None else _common_list(column, kind, item)
    for family, widen in _WIDENINGS:
        if family(column) and family(kind):
            return widen(column, kind)
    return None


def is_conditional(column: pa.DataType, kind: pa.DataType) -> bool:
    """Tell whether widening a column's type to `kind` keeps only some values unchanged."""
    if column == kind or kinds.is_null(column):
        return False
    if column == pa.struct([]):
        return not kinds.is_struct(kind)
    if kinds.is_struct(column) and kinds.is_struct(kind):
        return any(is_conditional(field.type, kind.field(field.name).type) for field in column)
    if is_list(column) and is_list(kind):
        return is_conditional(column.value_type, kind.value_type)
    wide = kinds.is_integer(column) and (kinds.is_floating(kind) or kinds.is_uint64(column) or kinds.is_uint64(kind))
    return bool(wide or kinds.is_timestamp(column) or kinds.is_duration(column))


def _zone(kind: pa.DataType) -> str | None:
    return kind.tz if kinds.is_timestamp(kind) else None


def _list_of(like: pa.DataType, item: pa.DataType) -> pa.DataType:
    if kinds.is_fixed_size_list(like):
        return pa.list_(item, like.list_size)
    return pa.large_list(item) if kinds.is_large_list(like) else pa.list_(item)


def _common_list(first: pa.DataType, second: pa.DataType, item: pa.DataType) -> pa.DataType:
    if kinds.is_fixed_size_list(first) and kinds.is_fixed_size_list(second) and first.list_size == second.list_size:
        return pa.list_(item, first.list_size)
    large = kinds.is_large_list(first) or kinds.is_large_list(second)
    return pa.large_list(item) if large else pa.list_(item)


def _widened_struct(first: pa.DataType, second: pa.DataType) -> pa.DataType | None:
    fields = {field.name: field.type for field in first}
    for field in second:
        kind = widened(fields.get(field.name, pa.null()), field.type)
        if kind is None:
            return None
        fields[field.name] = kind
    return pa.struct(list(fields.items()))


def _widened_integer(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    if kinds.is_signed_integer(first) == kinds.is_signed_integer(second):
        return first if first.bit_width >= second.bit_width else second
    signed, unsigned = (first, second) if kinds.is_signed_integer(first) else (second, first)
    # No type holds all values of int64 and uint64; the second one may hold the present ones.
    return second if kinds.is_uint64(unsigned) else _SIGNED[max(signed.bit_width, 2 * unsigned.bit_width)]


def _widened_number(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    if kinds.is_integer(first) and kinds.is_integer(second):
        return _widened_integer(first, second)
    if kinds.is_floating(first) and kinds.is_floating(second):
        return _FLOATS[max(first.bit_width, second.bit_width)]
    return pa.float64()


def _widened_decimal(first: pa.DataType, second: pa.DataType) -> pa.DataType | None:
    (whole, scale), (other_whole, other_scale) = _digits(first), _digits(second)
    scale = max(scale, other_scale)
    precision = max(whole, other_whole) + scale
    if kinds.is_decimal256(first) or kinds.is_decimal256(second) or precision > 38:
        return pa.decimal256(precision, scale) if precision <= 76 else None
    return pa.decimal128(precision, scale)


def _digits(kind: pa.DataType) -> tuple[int, int]:
    return (_DIGITS[kind.bit_width], 0) if kinds.is_integer(kind) else (kind.precision - kind.scale, kind.scale)


def _finer(first: pa.DataType, second: pa.DataType) -> str:
    return str(max(first.unit, second.unit, key=_UNITS.index))


def _widened_time(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    unit = _finer(first, second)
    return pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit)


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(kinds.is_binary(kind) or kinds.is_large_binary(kind) or kinds.is_fixed_size_binary(kind))


_FAMILIES: tuple[Callable[[pa.DataType], bool], ...] = (
    kinds.is_integer,
    kinds.is_floating,
    kinds.is_decimal,
    is_text,
    _is_bytes,
    kinds.is_date,
    kinds.is_timestamp,
    kinds.is_time,
    kinds.is_duration,
)
"""Types of one family differ in range and precision only."""

_WIDENINGS: tuple[
    tuple[Callable[[pa.DataType], bool], Callable[[pa.DataType, pa.DataType], pa.DataType | None]], ...
] = (
    (lambda kind: kinds.is_integer(kind) or kinds.is_floating(kind), _widened_number),
    (lambda kind: kinds.is_integer(kind) or kinds.is_decimal(kind), _widened_decimal),
    (is_text, lambda *both: pa.large_string() if pa.large_string() in both else pa.string()),
    (_is_bytes, lambda *both: pa.large_binary() if pa.large_binary() in both else pa.binary()),
    (kinds.is_date, lambda *_: pa.date64()),
    (kinds.is_timestamp, lambda *both: pa.timestamp(_finer(*both), both[0].tz) if both[0].tz == both[1].tz else None),
    (kinds.is_time, _widened_time),
    (kinds.is_duration, lambda *both: pa.duration(_finer(*both))),
)
"""The common type of two types of one family; other pairs, except lists and structs, have none."""
