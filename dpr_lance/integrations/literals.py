"""Values of filters as SQL literals of a column's type. Nothing else of this library writes values into SQL."""

from __future__ import annotations

import datetime
import math
from decimal import Decimal
from zoneinfo import ZoneInfo

import pyarrow as pa
from pyarrow import types as kinds

from dpr_lance.errors import InvalidInputError


def is_text(kind: pa.DataType) -> bool:
    """Tell whether a column holds text."""
    return bool(kinds.is_string(kind) or kinds.is_large_string(kind))


def is_list(kind: pa.DataType) -> bool:
    """Tell whether a column holds lists."""
    return bool(kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind))


def text_literal(value: str) -> str:
    """Return a text in single quotes, with a quote within it doubled: the parser knows no other escape."""
    return "'" + value.replace("'", "''") + "'"


def literal(value: object, kind: pa.DataType, *, field: str) -> str:
    """Return a value as SQL that can be compared with a column of this type.

    Raises `InvalidInputError` naming `field` for a value of another type. A string stands for a date or a time, in the
    form of ISO 8601. Whole numbers beyond the type and fractions among whole numbers are refused too: see
    `filters.Fields`, which compares them.
    """
    made: str | None = None
    if is_text(kind):
        made = text_literal(value) if isinstance(value, str) else None
    elif kinds.is_boolean(kind):
        # 0 and 1 too: they are equal to False and True in Python and in JSON-minded frameworks.
        made = str(bool(value)).lower() if isinstance(value, int) and value in (0, 1) else None
    elif is_number(value):
        made = _number(value, kind)
    elif kinds.is_binary(kind) or kinds.is_large_binary(kind):
        made = f"X'{value.hex()}'" if isinstance(value, bytes) else None
    elif kinds.is_date32(kind):
        made = _day(value, field)
    elif kinds.is_timestamp(kind):
        made = _instant(value, kind, field)
    if made is None:
        raise InvalidInputError(
            f"filter on {field!r}: the table holds {kind} there, which cannot be compared with {value!r:.60} "
            f"({type(value).__name__})"
        )
    return made


def is_number(value: object) -> bool:
    """Tell whether a value is a number; True and False are not."""
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)


def _number(value: object, kind: pa.DataType) -> str | None:
    if kinds.is_integer(kind):
        return str(int(value)) if value == int(value) else None  # type: ignore[call-overload]
    if kinds.is_floating(kind):
        number = float(value)  # type: ignore[arg-type]
        return repr(number) if math.isfinite(number) else f"CAST('{number}' AS double)"
    if kinds.is_decimal(kind):
        return f"CAST('{Decimal(str(value)):f}' AS decimal({kind.precision}, {kind.scale}))"
    return None


def _day(value: object, field: str) -> str | None:
    if isinstance(value, str):
        value = _parsed(value, datetime.date.fromisoformat, field)
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return f"date '{value.isoformat()}'"
    return None


def _instant(value: object, kind: pa.TimestampType, field: str) -> str | None:
    if isinstance(value, str):
        value = _parsed(value, datetime.datetime.fromisoformat, field)
    if not isinstance(value, datetime.datetime):
        return None
    if (value.tzinfo is None) != (kind.tz is None):
        has, wanted = ("no", "one") if value.tzinfo is None else ("a", "none")
        raise InvalidInputError(
            f"filter on {field!r}: {value.isoformat()} has {has} time zone, the table holds {kind} there: give a time "
            f"with {wanted}"
        )
    if kind.tz is not None:
        # The engine reads a literal as the wall time of the column's zone.
        value = value.astimezone(_zone(kind.tz)).replace(tzinfo=None)
    return f"timestamp '{value.isoformat(sep=' ')}'"


def _zone(name: str) -> datetime.tzinfo:
    if name[0] in "+-":
        moment = datetime.datetime.fromisoformat(f"2000-01-01T00:00:00{name}")
        return moment.tzinfo or datetime.UTC
    return ZoneInfo(name)


def _parsed(text: str, parse: object, field: str) -> object:
    try:
        return parse(text)  # type: ignore[operator]
    except ValueError as error:
        raise InvalidInputError(
            f"filter on {field!r}: {text[:60]!r} is not a date or time in the form of ISO 8601, as '2024-12-31'"
        ) from error
