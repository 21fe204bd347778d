"""Types of metadata, by every source: the page in docs/ says what becomes of them; and sources that cannot be read."""

import datetime
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dpr_lance
from dpr_lance import HashEncoder, InvalidInputError
from dpr_lance.inputs.files import FileDocuments
from tests.documents.type_table import PAGE, page


@pytest.fixture
def retriever():
    with dpr_lance.connect("memory://", encoder=HashEncoder(dimension=8)) as opened:
        yield opened


def test_every_type_from_every_source_is_on_the_page():
    assert PAGE.read_text() == page(), "write it: python -m tests.documents.type_table"


def source(kind, columns, folder):
    table = pa.table({"id": ["0", "1"], "text": ["x", "y"], **columns})
    if kind == "Arrow":
        return table
    if kind == "reader":
        return table.to_reader()
    pq.write_table(table, folder / "t.parquet")
    return FileDocuments([folder / "t.parquet"], on_error="skip")


@pytest.mark.parametrize("kind", ["Arrow", "reader", "Parquet"])
@pytest.mark.parametrize(
    "declared",
    [
        pa.array([None, 5], pa.decimal128(12, 2)),
        pa.array([None, 5], pa.int8()),
        pa.array([1, 2**64 - 1], pa.uint64()),
        pa.array([0, 1_709_209_815_123_456_789], pa.timestamp("ns", "UTC")),
        pa.array([["a"], []], pa.list_(pa.large_string())),
        pa.array([None, {"a": 1, "b": None}], pa.struct([("a", pa.int16()), ("b", pa.float32())])),
    ],
    ids=lambda array: str(array.type),
)
def test_declared_types_are_kept_from_the_reader_to_the_column(retriever, tmp_path, kind, declared):
    retriever.add(source(kind, {"m": declared}, tmp_path))
    assert retriever.info().metadata == {"m": str(declared.type)}
    assert [passage.metadata["m"] for passage in retriever.get(["0", "1"])] == declared.to_pylist()
    assert retriever.add(source(kind, {"m": declared}, tmp_path)).documents_unchanged == 2


@pytest.mark.parametrize("kind", ["Arrow", "reader", "Parquet"])
@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([b"ok", b"\xff"]).view(pa.string()), "the field 'm' cannot be read: string"),
        (pa.array([["ok"], ["x"]]).cast(pa.list_(pa.binary())), None),
        (pa.array([0, 2**30], pa.int32()).view(pa.date32()), "the field 'm' cannot be read: date32"),
        (pa.array([0, 2**50]).view(pa.timestamp("s")), "the field 'm' cannot be read: timestamp"),
        (pa.array([None, [("a", 1)]], pa.map_(pa.string(), pa.int64())), "the field 'm' cannot be stored: map<string"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_or_skipped(retriever, tmp_path, kind, column, message):
    given = source(kind, {"m": column}, tmp_path)
    report = retriever.add(given, on_error="skip")
    assert report.documents_skipped == (message is not None)
    assert report.documents_added + report.documents_skipped == 2
    if message is not None:
        assert message in report.skipped[0].reason
        with pytest.raises(InvalidInputError, match=message):
            retriever.add(source("Arrow", {"m": column}, tmp_path))


def test_text_that_is_not_utf8_in_a_nested_column_or_in_an_own_one(retriever):
    bad = pa.array([b"ok", b"\xff"]).view(pa.string())
    nested = pa.StructArray.from_arrays([bad], names=["a"])
    assert retriever.add(pa.table({"text": ["x", "y"], "m": nested}), on_error="skip").documents_skipped == 1
    report = retriever.add(pa.table({"text": bad}), on_error="skip")
    assert (report.documents_added, report.documents_skipped) == (1, 1)


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_two_columns_of_one_name(retriever, tmp_path, on_error):
    table = pa.Table.from_arrays([pa.array(["x"])] * 3, names=["text", "m", "m"])
    with pytest.raises(InvalidInputError, match="two columns are called 'm'"):
        retriever.add(table, on_error=on_error)
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(InvalidInputError, match=r"t\.parquet: two columns are called 'm'"):
        retriever.add(FileDocuments([tmp_path / "t.parquet"]))


def test_an_engine_name_in_a_frame(retriever):
    frame = pd.DataFrame({"text": ["x"], "_rowoffset": [1]})
    assert retriever.add(frame, on_error="skip").skipped[0].reason.endswith("a column of LanceDB; rename it")


def test_frames_whose_values_need_other_columns(retriever):
    """int8 into int64, pandas' floats for integers of which one is missing, strings of three kinds, missing times."""
    retriever.add([{"id": "0", "text": "x", "n": 5, "name": "a"}])
    retriever.add(pl.DataFrame({"id": ["1"], "text": ["x"], "n": pl.Series([6], dtype=pl.Int8), "name": ["b"]}))
    frame = pd.DataFrame({"id": ["2", "3"], "text": ["x", "x"], "n": [7, None], "at": [pd.NaT, pd.Timestamp("2024")]})
    retriever.add(frame)
    assert retriever.info().metadata == {"n": "double", "name": "string", "at": "timestamp[us]"} | (
        {"at": "timestamp[ns]"} if str(frame["at"].dtype) == "datetime64[ns]" else {}
    )
    back = {passage.id: passage.metadata for passage in retriever.passages()}
    assert [metadata["n"] for metadata in back.values()] == [5, 6, 7, None]
    assert back["3#0"]["at"] == datetime.datetime(2024, 1, 1)
    retriever.add([{"id": "4", "text": "x", "n": 2.5}])
    assert retriever.get("4")[0].metadata["n"] == 2.5


def test_a_filter_index_on_the_strings_of_frames(retriever):
    frame = pl.DataFrame({"id": ["0", "1"], "text": ["x", "y"], "kind": ["a", "b"], "tags": [["a"], ["b"]]})
    retriever.add(frame)
    assert retriever.optimize(filter_columns=["kind"]).built == ("kind",)
    retriever.add([{"id": "2", "text": "z", "kind": "a"}])
    retriever.optimize()
    found = retriever.search("x y z", where="kind = 'a'", mode="bm25")
    assert sorted(hit.document_id for hit in found) == ["0", "2"]


@pytest.mark.parametrize("value", [datetime.timedelta(1), b"x", {"a": 1}, [[1]], [0.5], [datetime.date(2020, 1, 1)]])
def test_a_column_that_cannot_have_an_index_is_refused(retriever, value):
    retriever.add([{"id": "0", "text": "x", "m": value}])
    with pytest.raises(InvalidInputError, match=r"'m' is .*, which cannot have an index"):
        retriever.optimize(filter_columns=["m"])


@pytest.mark.parametrize("value", [True, 1, 0.5, "x", datetime.date(2020, 1, 1), datetime.time(1), [True], [1], ["x"]])
def test_a_column_that_can_have_an_index(retriever, value):
    retriever.add([{"id": "0", "text": "x", "m": value}])
    assert retriever.optimize(filter_columns=["m"]).built == ("m",)


def test_nanoseconds_without_pandas(tmp_path):
    """A base install has no pandas: nanoseconds go in, are found, and come out as NumPy's."""
    code = """
import sys

class NoPandas:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "pandas":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NoPandas())
import datetime, numpy as np, pyarrow as pa, dpr_lance
kinds = {"at": pa.timestamp("ns"), "zoned": pa.timestamp("ns", "Europe/Berlin"), "took": pa.duration("ns")}
columns = {name: pa.array([1_000_000_001, 1_000_000_000, None], pa.int64()).view(kind) for name, kind in kinds.items()}
table = pa.table({"id": ["0", "1", "2"], "text": ["x"] * 3, **columns})
retriever = dpr_lance.connect(sys.argv[1], encoder=dpr_lance.HashEncoder(dimension=8))
retriever.add(table)
assert retriever.add(table).documents_unchanged == 3
hits = {hit.document_id: hit.metadata for hit in retriever.search("x")}
assert hits == {passage.document_id: passage.metadata for passage in retriever.passages()}
assert hits["0"]["at"] == hits["0"]["zoned"] == np.datetime64(1_000_000_001, "ns")
assert hits["0"]["took"] == np.timedelta64(1_000_000_001, "ns")
assert hits["1"]["at"] == datetime.datetime(1970, 1, 1, 0, 0, 1)
assert hits["1"]["zoned"].isoformat() == "1970-01-01T01:00:01+01:00"
assert hits["1"]["took"] == datetime.timedelta(seconds=1)
assert set(hits["2"].values()) == {None}
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "t")], check=True, env=os.environ)


def test_what_another_program_wrote_can_be_read(tmp_path):
    """A date that Python does not have, and a time of nanoseconds: search and passages go on."""
    import lancedb

    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(dimension=8)) as retriever:
        retriever.add([{"id": "0", "text": "x", "day": datetime.date(2020, 1, 1), "at": datetime.time(1)}])
        table = lancedb.connect(tmp_path / "t").open_table("passages")
        table.update(values_sql={"day": "arrow_cast(1073741824, 'Date32')"})
        assert retriever.search("x")[0].metadata["day"] == np.datetime64(2**30, "D")
        assert next(retriever.passages()).metadata["day"] == np.datetime64(2**30, "D")
