"""Every Arrow type by every source: what goes in, what comes out, and the page that says so.

python -m tests.documents.type_table    writes docs/types.md
"""

import datetime
import json
import tempfile
import uuid
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

import dpr_lance
from dpr_lance import HashEncoder
from dpr_lance.inputs.files import FileDocuments

PAGE = Path(__file__).parents[2] / "docs" / "types.md"

UTC = datetime.UTC
_DAY = datetime.date(2024, 2, 29)
_MOMENT = datetime.datetime(2024, 2, 29, 12, 30, 15)
_FINE = _MOMENT.replace(microsecond=123456)
_NANO = pd.Timestamp(1_709_209_815_123_456_789)
_STRUCT = pa.struct([("a", pa.int8()), ("b", pa.list_(pa.string()))])

TYPES = {
    "null": (pa.null(), [None]),
    "bool": (pa.bool_(), [True, False]),
    "int8": (pa.int8(), [-128, 127]),
    "int16": (pa.int16(), [-(2**15), 2**15 - 1]),
    "int32": (pa.int32(), [-(2**31), 2**31 - 1]),
    "int64": (pa.int64(), [-(2**63), 2**63 - 1]),
    "uint8": (pa.uint8(), [0, 255]),
    "uint16": (pa.uint16(), [2**16 - 1]),
    "uint32": (pa.uint32(), [2**32 - 1]),
    "uint64": (pa.uint64(), [0, 2**63 + 1]),
    "float16": (pa.float16(), [0.5]),
    "float32": (pa.float32(), [0.5, float("inf")]),
    "float64": (pa.float64(), [0.1, -0.0]),
    "decimal32": (pa.decimal32(5, 2), [Decimal("1.25")]),
    "decimal64": (pa.decimal64(12, 2), [Decimal("1.25")]),
    "decimal128": (pa.decimal128(12, 2), [Decimal("1234567890.25")]),
    "decimal256": (pa.decimal256(50, 2), [Decimal("123456789012345678901234567890123456789012.25")]),
    "string": (pa.string(), ["", "ü\0"]),
    "large_string": (pa.large_string(), ["a"]),
    "string_view": (pa.string_view(), ["a string that is too long to be inline"]),
    "binary": (pa.binary(), [b"", b"\xff"]),
    "large_binary": (pa.large_binary(), [b"\xff"]),
    "binary_view": (pa.binary_view(), [b"\xff"]),
    "fixed_size_binary": (pa.binary(2), [b"\xff\0"]),
    "date32": (pa.date32(), [_DAY, datetime.date(9999, 12, 31)]),
    "date64": (pa.date64(), [_DAY]),
    "date32, year 287,000": (pa.date32(), [np.datetime64("287000-01-01", "D")]),
    "timestamp[s]": (pa.timestamp("s"), [_MOMENT]),
    "timestamp[ms]": (pa.timestamp("ms"), [_MOMENT]),
    "timestamp[us]": (pa.timestamp("us"), [_FINE]),
    "timestamp[ns]": (pa.timestamp("ns"), [_FINE]),
    "timestamp[ns] with nanoseconds": (pa.timestamp("ns"), [_NANO]),
    "timestamp[us, UTC]": (pa.timestamp("us", "UTC"), [_FINE.replace(tzinfo=UTC)]),
    "timestamp[us, Europe/Berlin]": (
        pa.timestamp("us", "Europe/Berlin"),
        [_FINE.replace(tzinfo=ZoneInfo("Europe/Berlin"))],
    ),
    "timestamp[us, +05:30]": (
        pa.timestamp("us", "+05:30"),
        [_FINE.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=5.5)))],
    ),
    "timestamp[ns, Europe/Berlin] with nanoseconds": (
        pa.timestamp("ns", "Europe/Berlin"),
        [_NANO.tz_localize("Europe/Berlin")],
    ),
    "time32[s]": (pa.time32("s"), [datetime.time(1, 2, 3)]),
    "time32[ms]": (pa.time32("ms"), [datetime.time(1, 2, 3, 4000)]),
    "time64[us]": (pa.time64("us"), [datetime.time(1, 2, 3, 4)]),
    "time64[ns]": (pa.time64("ns"), [datetime.time(1, 2, 3, 4)]),
    "time64[ns] with nanoseconds": (pa.time64("ns"), [np.timedelta64(1_001, "ns")]),
    "duration[s]": (pa.duration("s"), [datetime.timedelta(days=-3)]),
    "duration[ms]": (pa.duration("ms"), [datetime.timedelta(milliseconds=5)]),
    "duration[us]": (pa.duration("us"), [datetime.timedelta(microseconds=5)]),
    "duration[ns]": (pa.duration("ns"), [datetime.timedelta(microseconds=5)]),
    "duration[ns] with nanoseconds": (pa.duration("ns"), [pd.Timedelta(5_001)]),
    "interval": (pa.month_day_nano_interval(), [pa.MonthDayNano([1, 2, 3])]),
    "list": (pa.list_(pa.int8()), [[1, None], []]),
    "large_list": (pa.large_list(pa.string()), [["a"], []]),
    "list_view": (pa.list_view(pa.int64()), [[1]]),
    "fixed_size_list of numbers": (pa.list_(pa.float32(), 2), [[0.5, 1.0]]),
    "fixed_size_list of strings": (pa.list_(pa.string(), 2), [["a", "b"]]),
    "list of null": (pa.list_(pa.null()), [[], [None]]),
    "list of lists": (pa.list_(pa.list_(pa.int64())), [[[1], []]]),
    "list of structs": (pa.list_(_STRUCT), [[{"a": 1, "b": ["x"]}], []]),
    "list of timestamp[ns]": (pa.list_(pa.timestamp("ns")), [[_NANO, None]]),
    "struct": (_STRUCT, [{"a": 1, "b": ["x"]}, {"a": None, "b": []}]),
    "struct of structs": (pa.struct([("s", _STRUCT)]), [{"s": {"a": 1, "b": None}}, {"s": None}]),
    "struct of null": (pa.struct([("a", pa.null())]), [{"a": None}]),
    "struct of nothing": (pa.struct([]), [{}]),
    "map": (pa.map_(pa.string(), pa.int64()), [[("a", 1)]]),
    "dictionary": (pa.dictionary(pa.int8(), pa.string()), ["a", "b"]),
    "run_end_encoded": (pa.run_end_encoded(pa.int32(), pa.int64()), [1, 1]),
    "union": (None, [1, "a"]),
    "extension: uuid": (pa.uuid(), [uuid.UUID(int=7)]),
    "extension: json": (pa.json_(), ['{"a": 1}']),
    "extension: bool8": (pa.bool8(), [True]),
    "extension: fixed_shape_tensor": (pa.fixed_shape_tensor(pa.int32(), [2]), [[1, 2]]),
    "string, not UTF-8": (pa.string(), [b"\xff"]),
}
"""Arrow types, and values as Python has them; each column has a null, too."""

SOURCES = ("mapping", "Arrow", "pandas", "polars", "Parquet", "JSONL")

EQUAL, REFUSED, NOT_HELD = "equal", "refused", ""
"""What becomes of a type; `NOT_HELD`: the source has no such values."""


def array(name):
    """The values of a type and a null, as Arrow has them."""
    kind, values = TYPES[name]
    if name == "union":
        return pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 0]), pa.array(["", "a"])])
    if name == "string, not UTF-8":
        return pa.array([*values, None], pa.binary()).view(pa.string())
    if name in ("extension: fixed_shape_tensor", "extension: bool8"):
        plain = [int(value) if isinstance(value, bool) else value for value in values]
        return pa.ExtensionArray.from_storage(kind, pa.array([*plain, None], kind.storage_type))
    if isinstance(values[0], np.timedelta64):
        return pa.array([1_001, None], pa.int64()).cast(kind)
    return pa.array([*values, None], type=kind)


def table(names):
    """One table with a column for each of these types; a row has a value in one of them."""
    arrays, ids, total = {}, [], sum(len(array(name)) for name in names)
    before = 0
    for name in names:
        values = array(name)
        nulls = lambda count, kind=values.type: pa.nulls(count, kind)  # noqa: E731
        after = total - before - len(values)
        arrays[name] = pa.chunked_array([nulls(before), values, nulls(after)], type=values.type).combine_chunks()
        ids += [f"{name}/{number}" for number in range(len(values))]
        before += len(values)
    return pa.table({"id": ids, "text": ["some text"] * total, **arrays})


def field(name):
    """A field name for a type; a dot cannot be in one."""
    return name.replace(".", " ")


def held(convert, names):
    """The types that a source can have, by trying: it hands out what it was given."""
    found = []
    for name in names:
        given = table([name])
        try:
            same = values_of(pa.table(convert(given))[name]) == values_of(given[name])
        except Exception:  # noqa: BLE001 - each source has errors of its own
            continue
        except BaseException as error:
            if type(error).__name__ != "PanicException":
                raise
            continue
        if same:
            found.append(name)
    return found


def values_of(column):
    """What a column holds, also where Python has no such values."""
    try:
        return repr(column.to_pylist())
    except (ValueError, OverflowError):
        kind = pa.binary() if pa.types.is_string(column.type) else pa.int32()
        return repr(pa.concat_arrays(pa.chunked_array(column).chunks).view(kind).to_pylist())


def as_parquet(arrow, path):
    pq.write_table(arrow, path)
    return pq.read_table(path)


def as_pandas(arrow):
    return pd.DataFrame(
        {name: pd.Series(pd.arrays.ArrowExtensionArray(arrow[name])) for name in arrow.column_names}, copy=False
    )


def documents(source, folder):
    """What `add` is given of a source, and the types that the source can have."""
    if source == "mapping":
        names = [name for name in TYPES if name not in ("union", "string, not UTF-8")]
        rows = [
            {"id": f"{name}/{number}", "text": "some text", name: value}
            for name in names
            for number, value in enumerate([*TYPES[name][1], None])
        ]
        return rows, names
    if source == "Arrow":
        return table([name for name in TYPES if name != "union"]), list(TYPES)
    if source == "pandas":
        names = held(as_pandas, [name for name in TYPES if name != "union"])
        return as_pandas(table(names)), names
    if source == "polars":
        names = [name for name in held(pl.from_arrow, TYPES) if name != "union"]
        return pl.from_arrow(table(names)), names
    if source == "Parquet":
        path = folder / "types.parquet"
        names = held(lambda arrow: as_parquet(arrow, folder / "one.parquet"), TYPES)
        pq.write_table(table(names), path)
        return FileDocuments([path], on_error="skip"), names
    names = []
    with (folder / "types.jsonl").open("w") as lines:
        for name, (kind, values) in TYPES.items():
            if kind is None:
                continue
            try:
                rows = [
                    json.dumps({"id": f"{name}/{number}", "text": "some text", name: value}, allow_nan=False)
                    for number, value in enumerate([*values, None])
                ]
            except (TypeError, ValueError):
                continue
            if repr([json.loads(row)[name] for row in rows]) != repr([*values, None]):
                continue
            names.append(name)
            lines.write("\n".join(rows) + "\n")
    return FileDocuments([folder / "types.jsonl"], on_error="skip"), names


def outcomes(source):
    """What becomes of each type that comes from a source: `EQUAL`, or `REFUSED` with the reason; wrong is raised."""
    found = dict.fromkeys(TYPES, NOT_HELD)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        given, names = documents(source, folder)
        with dpr_lance.connect(folder / "table", encoder=HashEncoder(dimension=8)) as retriever:
            report = retriever.add(given, on_error="skip")
            if source == "Arrow":
                union = retriever.add(table(["union"]), on_error="skip")
                assert union.documents_skipped == 2
            retriever.delete(["null/0"])
            retriever.optimize()
            retriever.search("some text", 1_000)
        with dpr_lance.connect(folder / "table", encoder=HashEncoder(dimension=8)) as retriever:
            retriever.add([{"id": "later", "text": "another text"}])
            retriever.optimize()
            back = {passage.document_id: passage.metadata for passage in retriever.passages()}
            hits = {hit.document_id: hit.metadata for hit in retriever.search("some text", 1_000)}
        assert all(repr(hits[name]) == repr(back[name]) for name in back if name != "later")
        reasons = [skipped.reason for skipped in report.skipped]
        for name in names:
            values = TYPES[name][1]
            if f"{name}/0" not in back and name != "null":
                found[name] = REFUSED
                assert any(repr(name) in reason for reason in reasons) or name == "union", (name, reasons)
                continue
            got = [back[f"{name}/{number}"].get(name) for number in range(len(values)) if name != "null"]
            wrong = [(value, other) for value, other in zip(values, got, strict=False) if not equal(value, other)]
            assert not wrong, f"{source}: {name}: {wrong}"
            found[name] = EQUAL
    return found


def equal(given, back):
    if isinstance(given, datetime.datetime) and given.tzinfo is not None:
        return given == back and given.utcoffset() == back.utcoffset()
    return given == back and isinstance(given, bool) == isinstance(back, bool)


def page():
    """The page that says what becomes of each type."""
    results = {source: outcomes(source) for source in SOURCES}
    rows = [f"| {name} | " + " | ".join(results[source][name] for source in SOURCES) + " |" for name in TYPES]
    return "\n".join([_HEAD, f"| Arrow type | {' | '.join(SOURCES)} |", f"|---|{'---|' * len(SOURCES)}", *rows, ""])


_HEAD = """# Types of metadata

What is read back equals what was given, or the document is refused, with the field and the reason, before anything is
written. This page is made from the test that holds it: `python -m tests.documents.type_table` writes it.

## From Python to a column and back

| given | stored as | read back as |
|---|---|---|
| `str`, `int`, `float`, `bool`, `bytes` | the same | the same |
| `Decimal`, `date`, `time`, `timedelta`, `UUID` | the same | the same |
| `datetime` | a timestamp in microseconds, of its zone | `datetime`, of the same zone |
| list, tuple, NumPy array | a list | list |
| set | a list | list, sorted |
| mapping | a struct | `dict`; a field of the column that it did not have is `None` |
| `None`, `pandas.NaT`, `pandas.NA` | null | `None` |

Nanoseconds that `datetime` cannot hold are read as `pandas.Timestamp` where pandas is installed, and else as
`numpy.datetime64` in UTC. Lists and mappings can be nested 32 deep.

## When a value does not fit its column

An Arrow or Parquet source declares the types of its columns; for mappings, the first values do. A column becomes wider
where all values, stored and new, stay what they are:

- null to any type, an empty list to any list, an empty mapping to any mapping
- integers to wider ones, and to floats or decimals that hold each of them exactly
- floats, decimals, times and durations to more precise ones
- a mapping to one with more fields, each field and each list item by the same rules

Anything else is refused: a number where there are booleans, a time of another zone or of none, a date-time where there
are dates, text where there are numbers.

## What comes from where

`equal` comes back as it went in. `refused` is named, and left out with `on_error="skip"`. Empty: the source has no such
values.
"""


if __name__ == "__main__":
    PAGE.write_text(page())
