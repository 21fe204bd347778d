"""Metadata values as users have them: ordinary ones of each field, odd ones, and when two of them are the same."""

import datetime as dt
import decimal
import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

UTC = dt.UTC
KATHMANDU = dt.timezone(dt.timedelta(hours=5, minutes=45))
BASE = dt.datetime(2020, 1, 1, 12)


class Opaque:
    """A value that no column can hold."""

    def __repr__(self):
        return "Opaque()"


@dataclass(frozen=True)
class Series:
    """Stands for a long array of which Python prints the ends; `changed` is in its middle."""

    changed: int

    def array(self):
        values = np.arange(1100)
        values[500] = self.changed
        return values


def made(document):
    """Return a document with arrays in place of their descriptions."""
    return {name: value.array() if isinstance(value, Series) else value for name, value in document.items()}


def nested(depth, inner):
    """Return a list in a list in a list ..."""
    value = inner
    for _ in range(depth):
        value = [value]
    return value


def nested_mapping(depth):
    """Return a mapping in a mapping in a mapping ..."""
    value = {"a": 1}
    for _ in range(depth):
        value = {"a": value}
    return value


FIELDS = {
    "year": lambda choose: choose.randint(1, 4),
    "kind": lambda choose: choose.choice(["x", "y", "it's", ""]),
    "ratio": lambda choose: choose.choice([1, 2, 0.5, 1.25, -3]),
    "flag": lambda choose: choose.random() < 0.5,
    "day": lambda choose: dt.date(2020, 1, choose.randint(1, 5)),
    "at": lambda choose: BASE + dt.timedelta(seconds=choose.randint(0, 3), microseconds=choose.choice([0, 1])),
    "seen": lambda choose: (BASE + dt.timedelta(hours=choose.randint(0, 3))).replace(tzinfo=UTC),
    "tags": lambda choose: choose.sample(["a", "b", "c"], choose.randint(0, 3)),
    "sizes": lambda choose: [choose.choice([1, 2, 3, 0.5]) for _ in range(choose.randint(1, 3))],
    "meta": lambda choose: {
        name: choose.randint(1, 2) for name in choose.sample(["a", "b", "c"], choose.randint(1, 3))
    },
    "series": lambda choose: Series(choose.randint(0, 2)),
    "blob": lambda choose: bytes([choose.randint(0, 2)] * 3),
    "price": lambda choose: decimal.Decimal(choose.randint(100, 103)) / 4,
    "two words": lambda choose: choose.choice(["x", "y"]),
    "वर्ष": lambda choose: choose.randint(1, 3),
    "cost $?": lambda choose: choose.randint(1, 3),
}
"""Fields and what ordinary values they have. Every one of them has to be accepted while its column is of its type."""


ODD_NAMES = (
    "_rowoffset",
    "_rowid",
    "_score",
    "vector_7",
    "query_index",
    "a.b",
    "x`y",
    "id#",
    "_distance",
    " ",
    "é",
    "é",
)

ODD_VALUES = (
    *(None, True, 0, -1, 1.5, 1e300, 2**53 + 1, 2**63, 2**64, 2**70, math.nan, math.inf, "text", "1", "\ud800", ""),
    *(b"bytes", [], [None], [1, None], [1.5], [1, "a"], ["a"], [[]], [[1], [2.5]], (1, 2), {1, 2}, frozenset("ab")),
    *(
        {},
        {"a": {}},
        [{}],
        {"a": None},
        {"a": 1.5},
        {"a": "x"},
        {"d": [1]},
        {"": 1},
        {"a.b": 1},
        {1: 2},
        [{"a": 1}, {"b": 2}],
    ),
    *(nested(62, 1), nested(63, []), nested(200, 1), nested_mapping(20), nested_mapping(100)),
    *(
        dt.date(2020, 1, 1),
        BASE,
        BASE.replace(tzinfo=UTC),
        BASE.replace(tzinfo=KATHMANDU),
        dt.time(1, 2),
        dt.timedelta(1),
    ),
    *(
        dt.date.max,
        dt.datetime.max,
        dt.datetime.min,
        decimal.Decimal("1.10"),
        decimal.Decimal("1e30"),
        decimal.Decimal("NaN"),
    ),
    *(np.int8(3), np.uint64(2**63 + 1), np.float32(0.1), np.bool_(1), np.str_("s"), np.array([1, 2]), np.zeros((2, 2))),
    *(np.datetime64("2020-01-01"), np.datetime64("2020-01-01T00:00:00.123456789"), np.datetime64("287000-01-01", "s")),
    *(pd.NaT, pd.NA, pd.Timestamp(BASE), uuid.UUID(int=1), 1j, Opaque(), memoryview(b"m"), range(3)),
)


def same(given, stored):
    """Return whether a stored value equals the given one; null counts as missing, also in mappings."""
    return _same(plain(given), plain(stored))


def plain(value):
    """Return a value without the types that only differ in what they are made by."""
    if isinstance(value, np.datetime64):
        value = pd.Timestamp(value) if np.datetime_data(value)[0] == "ns" else value.item()
    if value is None or value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, (int, float, str)):
        return value.item() if isinstance(value, np.generic) else value  # NumPy's strings are strings of Python too
    if isinstance(value, pd.Timestamp):
        return value.value if value.nanosecond else value.to_pydatetime()
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {name: inner for name, each in value.items() if (inner := plain(each)) is not None}
    if isinstance(value, (set, frozenset)):
        return {plain(each) for each in value}
    if isinstance(value, (list, tuple, range)):
        if {*map(type, value)} <= {int, float, str}:
            return list(value)
        return [plain(each) for each in value]
    return bytes(value) if isinstance(value, memoryview) else value


def _same(given, stored):
    if isinstance(given, set):
        return isinstance(stored, list) and len(stored) == len(given) and {*map(repr, given)} == {*map(repr, stored)}
    if isinstance(given, list) and isinstance(stored, list):
        if {*map(type, given), *map(type, stored)} <= {int}:
            return given == stored
        return len(given) == len(stored) and all(map(_same, given, stored))
    if isinstance(given, dict) and isinstance(stored, dict):
        return given.keys() == stored.keys() and all(_same(given[name], stored[name]) for name in given)
    if _number(given) and _number(stored):
        return given == stored or (given != given and stored != stored)
    if isinstance(given, uuid.UUID):
        return stored in (str(given), given.bytes, given)
    return type(given) is type(stored) and given == stored


def _number(value):
    return isinstance(value, (int, float, decimal.Decimal)) and not isinstance(value, bool)


def same_metadata(given, stored):
    """Return whether a passage has the metadata of its document; null counts as missing."""
    given, stored = (
        {name: value for name, value in each.items() if plain(value) is not None} for each in (given, stored)
    )
    return given.keys() == stored.keys() and all(same(given[name], stored[name]) for name in given)


def must_fit(value, kind):
    """Return whether a column of this Arrow type (None: no column yet) must accept an ordinary value."""
    value = plain(value)
    if value is None or kind is None:
        return True
    if isinstance(value, bool) or pa.types.is_boolean(kind):
        return isinstance(value, bool) and pa.types.is_boolean(kind)
    if isinstance(value, int):
        return kind == pa.int64() or (kind == pa.float64() and abs(value) < 2**53)
    if isinstance(value, dict) and pa.types.is_struct(kind):
        fields = {field.name: field.type for field in kind}
        return all(must_fit(each, fields.get(name)) for name, each in value.items())
    if isinstance(value, list) and (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return all(must_fit(each, kind.value_type) for each in value)
    if isinstance(value, dt.datetime):
        return kind == pa.timestamp("us", None if value.tzinfo is None else "UTC")
    if isinstance(value, decimal.Decimal):
        return pa.types.is_decimal(kind)
    ordinary = {
        float: (pa.float64(), pa.int64()),
        str: (pa.string(), pa.large_string()),
        bytes: (pa.binary(), pa.large_binary()),
        dt.date: (pa.date32(),),
    }
    return kind in ordinary.get(type(value), ())
