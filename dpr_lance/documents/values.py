"""Python values to columns and back: what is read back equals what was given, or it is refused.

docs/types.md has the rules, and a test holds them.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import types as kinds

from dpr_lance.documents.field_types import (
    EMPTY_FIELD,
    MAX_DEPTH,
    UnstorableError,
    check_field_name,
    is_list,
    plain_type,
    stored_type,
    widened,
)

UNSTORABLE = (
    pa.ArrowInvalid,
    pa.ArrowTypeError,
    pa.ArrowNotImplementedError,
    OverflowError,
    UnicodeEncodeError,
    ValueError,
    TypeError,
)
"""What Arrow raises for a value that a type cannot hold."""

_INT64_END, _UINT64_END = 2**63, 2**64

PLAIN: Mapping[type, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
}
"""Arrow types of plain values; only text that is not UTF-8 and integers of more than 64 bits need another look."""


def known(value: object, depth: int = 0) -> tuple[Any, pa.DataType]:
    """Return a value as it is stored, and its declared type; raise `UnstorableError` if no column can hold it."""
    if (plain := PLAIN.get(type(value))) is not None:
        if type(value) is str and not value.isascii():
            _check_utf8(value)
        return value, _integer_type(value) if type(value) is int else plain
    if value is None or _is_missing(value):
        return None, pa.null()
    if depth >= MAX_DEPTH and isinstance(value, (Mapping, set, frozenset, list, tuple, np.ndarray)):
        raise UnstorableError(f"it is nested more than {MAX_DEPTH} deep")
    if isinstance(value, Mapping):
        return _known_mapping(value, depth)
    if isinstance(value, (set, frozenset)):
        try:
            value = sorted(value)
        except TypeError as error:
            raise UnstorableError(f"a set of values that have no order ({error})") from error
    if isinstance(value, (list, tuple)) and not isinstance(value, pa.MonthDayNano):
        return _known_list(value, depth)
    for kind, look in _LOOKS:
        if isinstance(value, kind):
            return look(value, depth)
    raise UnstorableError("make it a string, number, boolean, date, list or mapping")


def encoded(values: Sequence[Any], kind: pa.DataType) -> pa.Array | None:
    """Return values as an array of a declared type in its stored form; None when some do not come back unchanged.

    The type must take the values' own types (see `field_types.takes`).
    """
    try:
        array = arrow_array(values, stored_type(kind))
        back = python_values(array)
    except UNSTORABLE:
        return None
    return array if all(map(same, values, back)) else None


def arrow_array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Return values as an array of a stored type; raise one of `UNSTORABLE` for a value of another type."""
    if kinds.is_timestamp(kind) and kind.unit == "ns" and kind.tz is not None:
        # Arrow takes NumPy's times, which have no zone, only as numbers here.
        values = [pa.scalar(int(value), kind) if isinstance(value, np.datetime64) else value for value in values]
    return pa.array(values, type=kind)


def same(given: object, back: object) -> bool:
    """Tell whether a value that was read equals the given one; missing fields of a mapping count as None."""
    if isinstance(given, Mapping):
        return isinstance(back, Mapping) and all(same(given.get(key), back.get(key)) for key in {*given, *back})
    if isinstance(given, (list, tuple)):
        return isinstance(back, list) and len(given) == len(back) and all(map(same, given, back))
    if isinstance(given, datetime.datetime) and isinstance(back, datetime.datetime):
        return bool(given == back) and given.utcoffset() == back.utcoffset()
    if isinstance(given, bool) or isinstance(back, bool):
        return given is back
    return bool(given == back) or (given != given and back != back)  # noqa: PLR0124 - NaN


def python_values(column: pa.Array | pa.ChunkedArray, *, strict: bool = False) -> list[Any]:
    """Return the values of a column as Python values, also where Arrow would need pandas.

    A value that no Python type holds (a date in the year 287,000, a string that is not UTF-8) is returned as a NumPy
    value or as bytes; with `strict` it raises `UnstorableError`.
    """
    if not _needs_care(column.type):
        try:
            plain: list[Any] = column.to_pylist()
        except (ValueError, OverflowError, pa.ArrowException):
            pass
        else:
            return plain
    return [_python_value(scalar, strict) for scalar in column]


def python_records(table: pa.Table | pa.RecordBatch, *, strict: bool = False) -> list[dict[str, Any]]:
    """Return the rows of a table as mappings; see `python_values`."""
    names = table.schema.names
    columns = [python_values(column, strict=strict) for column in table.columns]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _needs_care(kind: pa.DataType) -> bool:
    """Tell whether Arrow's own conversion would need pandas, or show the field of an empty mapping."""
    if kinds.is_struct(kind):
        return any(field.name == EMPTY_FIELD or _needs_care(field.type) for field in kind)
    if is_list(kind):
        return _needs_care(kind.value_type)
    return getattr(kind, "unit", None) == "ns"


def _python_value(scalar: pa.Scalar, strict: bool) -> object:
    kind = scalar.type
    if not scalar.is_valid:
        return None
    if kinds.is_struct(kind):
        items = scalar.items()
        return {name: _python_value(value, strict) for name, value in items if name != EMPTY_FIELD}
    if is_list(kind):
        return [_python_value(value, strict) for value in scalar.values]
    try:
        if kinds.is_time64(kind) and kind.unit == "ns" and scalar.value % 1000:
            raise UnstorableError("a time of day with parts of a microsecond")
        return _without_pandas(scalar) if _needs_care(kind) else scalar.as_py()
    except (ValueError, OverflowError, pa.ArrowException) as error:
        if strict:
            raise UnstorableError(f"no Python value of {kind} ({error})") from error
        return _raw_value(scalar)


def _without_pandas(scalar: pa.Scalar) -> object:
    """Return a nanosecond value: Python's type where it is exact, else pandas' if installed, else NumPy's."""
    kind, value = scalar.type, scalar.value
    whole, rest = divmod(value, 1000)
    if not rest:
        coarse = {
            "timestamp": lambda: pa.timestamp("us", kind.tz),
            "duration": lambda: pa.duration("us"),
            "time64": lambda: pa.time64("us"),
        }[str(kind).partition("[")[0]]()
        return pa.scalar(whole, type=coarse).as_py()
    try:
        return scalar.as_py()
    except (ImportError, ValueError):
        return np.datetime64(value, "ns") if kinds.is_timestamp(kind) else np.timedelta64(value, "ns")


def _raw_value(scalar: pa.Scalar) -> object:
    kind = scalar.type
    if kinds.is_date32(kind):
        return np.datetime64(scalar.value, "D")
    if kinds.is_date64(kind):
        return np.datetime64(scalar.value, "ms")
    if kinds.is_timestamp(kind):
        return np.datetime64(scalar.value, kind.unit)
    if kinds.is_duration(kind) or kinds.is_time(kind):
        return np.timedelta64(scalar.value, kind.unit)
    return scalar.as_buffer().to_pybytes()


def _integer_type(value: int) -> pa.DataType:
    if -_INT64_END <= value < _INT64_END:
        return PLAIN[int]
    if 0 <= value < _UINT64_END:
        return pa.uint64()
    raise UnstorableError("an integer of more than 64 bits; make it a string or a Decimal")


def _check_utf8(value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UnstorableError(f"it is not text: {error}") from error


def _is_missing(value: object) -> bool:
    """Tell whether a value is pandas' or NumPy's missing value; NaN is a number."""
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return bool(np.isnat(value))
    kind = type(value)
    return kind.__module__.startswith("pandas.") and kind.__name__ in ("NaTType", "NAType")


def _known_mapping(value: Mapping[Any, Any], depth: int) -> tuple[Any, pa.DataType]:
    found, fields = {}, []
    for name, item in value.items():
        if not isinstance(name, str):
            raise UnstorableError(f"the names of its fields must be strings, {name!r:.60} is not")
        check_field_name(name)
        found[name], kind = known(item, depth + 1)
        fields.append((str(name), kind))
    return found, pa.struct(fields)


def _known_list(value: Sequence[Any], depth: int) -> tuple[Any, pa.DataType]:
    seen = set(map(type, value))
    if len(seen) == 1 and seen <= {float, bool}:
        return list(value), pa.list_(PLAIN[seen.pop()])
    items: list[Any] = []
    kind, mixed = pa.null(), False
    for item in value:
        found, one = known(item, depth + 1)
        items.append(found)
        if one != kind and not kinds.is_null(one):
            wide = widened(kind, one)
            if wide is None:
                raise UnstorableError(f"a list of {kind} and {one}: make its items of one type")
            mixed, kind = mixed or not kinds.is_null(kind), wide
    if mixed and encoded([items], pa.list_(kind)) is None:
        raise UnstorableError(f"a list of numbers that {kind} cannot hold exactly")
    return items, pa.list_(kind)


def _known_array(value: np.ndarray[Any, Any], depth: int) -> tuple[Any, pa.DataType]:
    if value.ndim == 0:
        return known(value[()], depth)
    if value.ndim > 1:
        kind = pa.null()
        rows = []
        for row in value:
            found, kind = _known_array(row, depth + 1)
            rows.append(found)
        return rows, pa.list_(kind)
    if value.dtype.kind in "OUV":
        return _known_list(value.tolist(), depth)
    try:
        array = pa.array(value)
        return python_values(array, strict=True), pa.list_(plain_type(array.type))
    except UNSTORABLE as error:
        raise UnstorableError(f"a NumPy array of {value.dtype} ({error})") from error


def _known_scalar(value: np.generic, depth: int) -> tuple[Any, pa.DataType]:
    found, kind = _known_array(np.array([value]), depth)
    return found[0], kind.value_type


def _known_datetime(value: datetime.datetime, _depth: int) -> tuple[Any, pa.DataType]:
    # pandas' own, which may have nanoseconds.
    kind = pa.timestamp("ns" if getattr(value, "nanosecond", 0) else "us")
    if value.tzinfo is not None:
        try:
            zone = pa.lib.tzinfo_to_string(value.tzinfo)
        except UNSTORABLE as error:
            raise UnstorableError(f"its time zone {value.tzinfo!r} has no name that can be stored") from error
        kind = pa.timestamp(kind.unit, zone)
    if type(value) is not datetime.datetime and kind.unit == "us":
        value = datetime.datetime.fromisoformat(value.isoformat()).replace(tzinfo=value.tzinfo, fold=value.fold)
    if kind != pa.timestamp("us"):  # which holds every datetime without a zone
        _check_exact(value, kind)
    return value, kind


def _known_timedelta(value: datetime.timedelta, _depth: int) -> tuple[Any, pa.DataType]:
    kind = pa.duration("ns" if getattr(value, "nanoseconds", 0) else "us")
    _check_exact(value, kind)
    return value, kind


def _known_time(value: datetime.time, _depth: int) -> tuple[Any, pa.DataType]:
    if value.tzinfo is not None:
        raise UnstorableError("a time of day with a time zone, which would be lost; make it a datetime or a string")
    return value, pa.time64("us")


def _known_decimal(value: Decimal, _depth: int) -> tuple[Any, pa.DataType]:
    if not value.is_finite():
        raise UnstorableError(f"the decimal {value} is not a number")
    _, digits, exponent = value.as_tuple()
    scale = max(0, -int(exponent))
    precision = max(len(digits) + max(0, int(exponent)), scale, 1)
    if precision > 76:
        raise UnstorableError(f"a decimal of {precision} digits, of which 76 can be stored")
    return value, (pa.decimal128 if precision <= 38 else pa.decimal256)(precision, scale)


def _check_exact(value: object, kind: pa.DataType) -> None:
    if encoded([value], kind) is None:
        raise UnstorableError(f"{kind} cannot hold it exactly")


_Look = Callable[[Any, int], tuple[Any, pa.DataType]]

_LOOKS: tuple[tuple[type | tuple[type, ...], _Look], ...] = (
    (np.ndarray, _known_array),
    (str, lambda value, depth: known(str.__str__(value), depth)),
    (int, lambda value, depth: known(int(value), depth)),
    (np.generic, _known_scalar),
    (float, lambda value, depth: known(float(value), depth)),
    ((bytes, bytearray, memoryview), lambda value, _: (bytes(value), pa.binary())),
    (datetime.datetime, _known_datetime),
    (datetime.date, lambda value, _: (value, pa.date32())),
    (datetime.time, _known_time),
    (datetime.timedelta, _known_timedelta),
    (Decimal, _known_decimal),
    (uuid.UUID, lambda value, depth: (value, plain_type(pa.uuid(), depth))),
)
"""What each kind of value is stored as, the narrower kinds first."""
