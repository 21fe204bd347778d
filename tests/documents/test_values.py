"""Metadata: what is read back equals what was given, or the document is refused before anything is written."""

import datetime
import subprocess
import sys
import uuid
from decimal import Decimal
from zoneinfo import ZoneInfo

import lancedb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dpr_lance
from dpr_lance import HashEncoder, InvalidInputError

UTC = datetime.UTC


@pytest.fixture
def retriever():
    with dpr_lance.connect("memory://", encoder=HashEncoder(dimension=8)) as opened:
        yield opened


def add(retriever, *values, field="m"):
    """Add one value after the other, each in a call of its own, to documents "0", "1", ..."""
    for value in values:
        retriever.add([{"id": len(retriever), "text": "some text", field: value}])


def stored(retriever, field="m"):
    passages = sorted(retriever.passages(), key=lambda passage: int(passage.document_id))
    return [passage.metadata.get(field) for passage in passages]


def alike(value):
    """A value with its types, so that 1, 1.0 and True differ, and an instant's zone counts."""
    if isinstance(value, dict):
        return {key: alike(item) for key, item in value.items()}
    if isinstance(value, list):
        return [alike(item) for item in value]
    zone = value.utcoffset() if isinstance(value, datetime.datetime) else None
    return type(value), value, zone


def still_works(retriever):
    """Every later operation, as a table must survive whatever was accepted."""
    retriever.add([{"id": 10_000, "text": "another text"}])
    retriever.delete(["10000"])
    retriever.optimize()
    for mode in ("hybrid", "dense", "bm25"):
        retriever.search("some text", mode=mode)


VALUES = {
    "string": "naïve 🙂\0",
    "empty string": "",
    "integer": 2**63 - 1,
    "unsigned": 2**64 - 1,
    "float": 0.1,
    "infinity": float("inf"),
    "boolean": True,
    "bytes": b"\xff\0",
    "decimal": Decimal("12.50"),
    "long decimal": Decimal("1234567890123456789012345678901234567890.5"),
    "date": datetime.date(1, 1, 1),
    "datetime": datetime.datetime(2024, 2, 29, 12, 30, 1, 5),
    "datetime of a zone": datetime.datetime(2024, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin")),
    "the second of two equal hours": datetime.datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
    "datetime of UTC": datetime.datetime(2024, 7, 1, 12, tzinfo=UTC),
    "datetime of an offset": datetime.datetime(
        2024, 7, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=5, minutes=30))
    ),
    "time": datetime.time(23, 59, 59, 999999),
    "timedelta": datetime.timedelta(days=-3, microseconds=7),
    "uuid": uuid.UUID(int=7),
    "list": [1, 2, 3],
    "empty list": [],
    "list of nothing": [None],
    "list of lists": [[1], [], None],
    "list of texts": ["a", None, "ü"],
    "mapping": {"a": 1, "b": "x", "c": {"d": [1.5]}},
    "mapping of nothing": {"a": None},
    "empty mapping": {},
    "mapping of an empty mapping": {"a": {}},
    "list of empty mappings": [{}, {}],
    "list of mappings": [{"a": 1}, {"a": 2}],
    "deep list": [[[[[[[["x"]]]]]]]],
    "odd names within": {"a.b": 1, "": 2, "a`b": 3, '"': 4, "हिन्दी": 5},
}


@pytest.mark.parametrize("name", VALUES)
def test_a_value_comes_back_as_it_went_in(retriever, name):
    add(retriever, VALUES[name], None)
    still_works(retriever)
    assert alike(stored(retriever)) == alike([VALUES[name], None])
    hit = next(hit for hit in retriever.search("some text") if hit.document_id == "0")
    assert alike(hit.metadata["m"]) == alike(VALUES[name])
    assert retriever.add([{"id": 0, "text": "some text", "m": VALUES[name]}]).documents_unchanged == 1


@pytest.mark.parametrize(
    ("given", "back"),
    [
        ((1, 2), [1, 2]),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset("ba"), ["a", "b"]),
        (np.arange(3), [0, 1, 2]),
        (np.ones((2, 2), "f4"), [[1.0, 1.0], [1.0, 1.0]]),
        (np.float32(0.5), 0.5),
        (np.int8(5), 5),
        (np.bool_(True), True),
        (np.array(["a", "b"]), ["a", "b"]),
        (pd.NaT, None),
        (pd.NA, None),
        (np.datetime64("NaT"), None),
        ([pd.NaT, datetime.date(2020, 1, 1)], [None, datetime.date(2020, 1, 1)]),
        (pd.Timestamp("2024-01-01 10:00", tz="UTC"), datetime.datetime(2024, 1, 1, 10, tzinfo=UTC)),
        (np.datetime64("2024-01-01T10:00:00.5"), datetime.datetime(2024, 1, 1, 10, 0, 0, 500000)),
        ([1, 1.5], [1.0, 1.5]),
        ([{"a": 1}, {"b": None}], [{"a": 1, "b": None}, {"a": None, "b": None}]),
    ],
)
def test_other_kinds_of_values_are_stored_as_their_nearest(retriever, given, back):
    add(retriever, given)
    still_works(retriever)
    assert alike(stored(retriever)) == alike([back])


def nested(value, depth, wrap):
    for _ in range(depth):
        value = wrap(value)
    return value


REFUSED = {
    "an object": object(),
    "a long integer": 2**64,
    "mixed list": [1, "a"],
    "mixed mappings": [{"a": 1}, {"a": "x"}],
    "a boolean among numbers": [1, True],
    "a list that floats cannot hold": [2**53 + 1, 0.5],
    "a surrogate": "\ud800",
    "a surrogate in a list": ["\ud800"],
    "a surrogate in a name": {"\ud800": 1},
    "a number as a name": {1: "a"},
    "63 lists deep": nested(1, 63, lambda value: [value]),
    "100 mappings deep": nested(1, 100, lambda value: {"a": value}),
    "a time with a zone": datetime.time(1, tzinfo=UTC),
    "a zone of seconds": datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(seconds=17))),
    "an endless decimal": Decimal("Infinity"),
    "too many digits": Decimal("1." + "1" * 80),
    "a set without an order": {1, "a"},
    "a complex number": 1j,
    "an array of objects": np.array([object()]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_value_that_cannot_be_stored_is_refused_before_anything_is_written(retriever, name):
    add(retriever, 1, field="other")
    with pytest.raises(InvalidInputError, match=r"documents\[1\].*the field 'm' cannot be stored"):
        retriever.add([{"id": "good", "text": "x"}, {"id": "bad", "text": "x", "m": REFUSED[name]}])
    report = retriever.add([{"id": 1, "text": "x"}, {"id": "bad", "text": "x", "m": REFUSED[name]}], on_error="skip")
    assert (report.documents_added, report.documents_skipped) == (1, 1)
    assert retriever.info().metadata == {"other": "int64"}
    still_works(retriever)


@pytest.mark.parametrize("wrap", [lambda value: [value], lambda value: {"a": value}])
def test_the_deepest_values_survive_all_that_follows(retriever, wrap):
    add(retriever, nested(1, 32, wrap), nested(0.5, 32, wrap))
    still_works(retriever)
    assert stored(retriever) == [nested(1.0, 32, wrap), nested(0.5, 32, wrap)]
    with pytest.raises(InvalidInputError, match="nested more than 32 deep"):
        add(retriever, nested(1, 33, wrap))


WIDER = [
    ([1, 2.5], [1.0, 2.5], "double"),
    ([2.5, 1], [2.5, 1.0], "double"),
    ([1, 2**64 - 1], [1, 2**64 - 1], "uint64"),
    ([[1, 2], [1.5]], [[1.0, 2.0], [1.5]], "list<item: double>"),
    ([[], ["a"]], [[], ["a"]], "list<item: string>"),
    ([[None], [{"a": 1}]], [[None], [{"a": 1}]], None),
    ([[[]], [[1]]], [[[]], [[1]]], "list<item: list<item: int64>>"),
    ([{"a": 1}, {"a": 1, "b": 2}], [{"a": 1, "b": None}, {"a": 1, "b": 2}], "struct<a: int64, b: int64>"),
    ([{"a": 1}, {"b": "x"}], [{"a": 1, "b": None}, {"a": None, "b": "x"}], None),
    ([{"a": 1}, {"a": 1.5}], [{"a": 1.0}, {"a": 1.5}], "struct<a: double>"),
    ([{"a": None}, {"a": 1}], [{"a": None}, {"a": 1}], "struct<a: int64>"),
    ([{"a": None, "b": 1}, {"a": {"c": "x"}, "b": 1}], [{"a": None, "b": 1}, {"a": {"c": "x"}, "b": 1}], None),
    ([{"a": None}, {"a": [1]}], [{"a": None}, {"a": [1]}], None),
    ([{"a": {"b": None}}, {"a": {"b": {"c": 1}}}], [{"a": {"b": None}}, {"a": {"b": {"c": 1}}}], None),
    ([{}, {"a": 1}], [{"a": None}, {"a": 1}], "struct<a: int64>"),
    ([{"a": {}}, {"a": {"b": 1}}], [{"a": {"b": None}}, {"a": {"b": 1}}], None),
    ([[{}], [{"a": 1}]], [[{"a": None}], [{"a": 1}]], None),
    ([[{"a": 1}], [{"a": 1.5, "b": []}]], [[{"a": 1.0, "b": None}], [{"a": 1.5, "b": []}]], None),
    ([Decimal("1.5"), Decimal("12.25")], [Decimal("1.50"), Decimal("12.25")], "decimal128(4, 2)"),
    ([Decimal("1.5"), 100], [Decimal("1.5"), Decimal(100)], None),
    ([b"a", b"bc"], [b"a", b"bc"], "binary"),
]


@pytest.mark.parametrize(("given", "back", "kind"), WIDER)
@pytest.mark.parametrize("calls", ["one", "two"])
def test_a_column_becomes_wider_for_values_that_it_did_not_hold(retriever, given, back, kind, calls):
    """Also with what another batch has stored, with nulls, and with an index in use."""
    documents = [{"id": number, "text": "some text", "m": value} for number, value in enumerate([*given, None])]
    for part in [documents] if calls == "one" else [[document] for document in documents]:
        assert retriever.add(part).documents_added == len(part)
    assert alike(stored(retriever)) == alike([*back, None])
    assert kind is None or retriever.info().metadata == {"m": kind}
    still_works(retriever)
    assert retriever.add(documents).documents_unchanged == 3


KEPT = [
    (1, 2**53 + 1, 0.5),
    (2**53 + 1, 0.5),
    ({"a": 2**53 + 1}, {"a": 0.5}),
    ([2**53 + 1], [0.5]),
    (1, "x"),
    ("x", 1),
    (1, True),
    (True, 1),
    (1.5, False),
    (datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1, 12)),
    (datetime.datetime(2020, 1, 1), datetime.date(2020, 1, 1)),
    (datetime.datetime(2020, 1, 1), 5),
    (datetime.date(2020, 1, 1), 5),
    (datetime.time(1), 5),
    (datetime.timedelta(1), 5),
    (datetime.datetime(2020, 1, 1), datetime.datetime(2020, 1, 1, tzinfo=UTC)),
    (datetime.datetime(2020, 1, 1, tzinfo=UTC), datetime.datetime(2020, 1, 1)),
    (datetime.datetime(2020, 1, 1, tzinfo=UTC), datetime.datetime(2020, 1, 1, tzinfo=ZoneInfo("Asia/Tokyo"))),
    ("x", b"x"),
    (b"x", "x"),
    ("x", ["x"]),
    ([1], 1),
    ([1], ["x"]),
    ([True], [1]),
    ([datetime.date(2020, 1, 1)], [datetime.datetime(2020, 1, 1)]),
    ({"a": 1}, {"a": "x"}),
    ({"a": 1}, [{"a": 1}]),
    ({"a": 1}, "x"),
    ({}, 1),
    ({"a": {}}, {"a": 1}),
    (Decimal("1.5"), 0.5),
    (-1, 2**64 - 1),
    (2**64 - 1, -1),
    (uuid.UUID(int=1), "x"),
    ({'"': 1}, {'"': 1.5}),
]


@pytest.mark.parametrize("given", KEPT)
def test_what_a_column_cannot_hold_is_refused_with_field_value_and_type(retriever, given):
    *first, last = given
    add(retriever, *first)
    kind = retriever.info().metadata["m"]
    with pytest.raises(InvalidInputError, match=r"document 'bad': the metadata field 'm' is .*, the table holds ") as e:
        retriever.add([{"id": "good", "text": "x"}, {"id": "bad", "text": "x", "m": last}])
    assert kind in str(e.value)
    assert len(retriever) == len(first)
    report = retriever.add([{"id": "bad", "text": "x", "m": last}, {"id": 50, "text": "y"}], on_error="skip")
    assert (report.documents_added, report.documents_skipped) == (1, 1)
    assert alike(stored(retriever)[:-1]) == alike(first)
    assert retriever.info().metadata["m"] == kind


@pytest.mark.parametrize("given", [case for case in KEPT[:-1] if len(case) == 2])
def test_the_earlier_of_two_that_do_not_go_together_is_stored(retriever, given):
    documents = [{"id": number, "text": "x", "m": value} for number, value in enumerate(given)]
    with pytest.raises(InvalidInputError, match="document '1': the metadata field 'm'"):
        retriever.add(documents)
    assert len(retriever) == 0
    assert retriever.add(documents, on_error="skip").documents_skipped == 1
    assert alike(stored(retriever)) == alike([given[0]])


def test_types_are_not_fixed_by_the_first_thousand_rows(retriever):
    values = [*range(1100), 0.5]
    documents = [
        {"id": number, "text": "x", "n": value, "m": {"a": None}, "day": None} for number, value in enumerate(values)
    ]
    documents[-1] |= {"m": {"a": "now known"}, "day": datetime.date(2020, 1, 1)}
    assert retriever.add(documents, embed=False).documents_added == 1101
    assert stored(retriever, "n") == values
    assert stored(retriever)[-2:] == [{"a": None}, {"a": "now known"}]
    assert retriever.search("x", where="n < 1", mode="bm25", k=5)[0].metadata["n"] < 1


def test_many_mappings_of_different_fields_become_one_column(retriever):
    values = [{f"f{number}": number} for number in range(40)]
    retriever.add([{"id": number, "text": "x", "m": value} for number, value in enumerate(values)])
    back = stored(retriever)
    assert [value[f"f{number}"] for number, value in enumerate(back)] == list(range(40))
    assert {len(value) for value in back} == {40}


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), st.text(max_size=3),
    st.binary(max_size=3), st.dates(), st.datetimes(), st.datetimes(timezones=st.just(UTC)), st.times(),
    st.timedeltas(), st.decimals(allow_nan=False, places=2),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)


def comes_back(given, back):
    if isinstance(given, dict):
        return all(comes_back(given.get(key), back.get(key)) for key in {*given, *back})
    if isinstance(given, list):
        return len(given) == len(back) and all(map(comes_back, given, back))
    same = type(given) is type(back) or {type(given), type(back)} in ({int, float}, {int, Decimal})
    return same and given == back


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(values, min_size=1, max_size=5))
def test_any_values_one_after_the_other_come_back_or_are_refused(given):
    with dpr_lance.connect("memory://", encoder=HashEncoder(dimension=8)) as retriever:
        kept = {}
        for number, value in enumerate(given):
            report = retriever.add([{"id": number, "text": "x", "m": value}], on_error="skip", embed=False)
            if report.documents_added:
                kept[str(number)] = value
        if kept:
            retriever.optimize()
        back = {passage.document_id: passage.metadata.get("m") for passage in retriever.passages()}
        assert back.keys() == kept.keys()
        assert [(kept[name], back[name]) for name in kept if not comes_back(kept[name], back[name])] == []


# What has changed


def test_an_element_in_the_middle_of_a_long_array_is_a_change(retriever):
    first, second = np.zeros(5_000), np.zeros(5_000)
    second[2_500] = 1
    add(retriever, first)
    assert retriever.add([{"id": 0, "text": "some text", "m": first.copy()}]).documents_unchanged == 1
    assert retriever.add([{"id": 0, "text": "some text", "m": second}]).documents_replaced == 1
    assert stored(retriever)[0][2_500] == 1


def test_an_equal_set_is_no_change_in_any_process(folder):
    code = (
        f"import dpr_lance; r = dpr_lance.connect({str(folder)!r}, encoder=dpr_lance.HashEncoder(dimension=8)); "
        "print(r.add([dict(id='a', text='x', tags={'red', 'green', 'blue', 'x', 'y', 'z'})]).documents_unchanged)"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, check=True, capture_output=True, text=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs == ["0\n", "1\n"]


def test_a_column_that_plain_lancedb_dropped_is_filled_again(folder):
    documents = [{"id": str(number), "text": f"text {number}", "year": number, "kind": "x"} for number in range(25)]
    with dpr_lance.connect(folder, encoder=HashEncoder(dimension=8)) as retriever:
        retriever.add(documents)
        lancedb.connect(folder).open_table("passages").drop_columns(["year"])
        # Over several batches, of which only the first one finds that the column is missing.
        reports = [retriever.add(documents[start : start + 10]) for start in range(0, 25, 10)]
        assert [report.documents_replaced for report in reports] == [10, 10, 5]
        assert sorted(passage.metadata["year"] for passage in retriever.passages()) == list(range(25))
        assert retriever.add(documents).documents_unchanged == 25


def test_the_same_document_in_another_form_is_unchanged(retriever):
    moment = datetime.datetime(2024, 1, 1, 12, tzinfo=UTC)
    document = {"id": "a", "text": "x", "at": moment, "price": Decimal(25), "v": np.arange(3), "m": {"a": 1}}
    retriever.add([document, {"id": "b", "text": "y", "m": {"b": 2}, "price": Decimal("25.25")}])
    again = document | {"at": moment.replace(tzinfo=ZoneInfo("UTC")), "price": Decimal("25.00"), "v": [0, 1, 2]}
    assert retriever.add([again | {"m": {"a": 1, "b": None}}]).documents_unchanged == 1
    columns = {"id": ["a"], "text": ["x"], "v": [[0, 1, 2]], "m": [{"a": 1, "b": None}]}
    table = pa.table(columns | {"at": pa.array([moment]), "price": pa.array([Decimal("25.00")])})
    assert retriever.add(table).documents_unchanged == 1


def test_a_column_that_another_program_made_not_null(folder):
    with dpr_lance.connect(folder, encoder=HashEncoder(dimension=8)) as retriever:
        retriever.add([{"id": 0, "text": "x"}])
        lancedb.connect(folder).open_table("passages").add_columns({"extra": "cast(3 as bigint)"})
        assert retriever.add([{"id": 1, "text": "y"}]).documents_added == 1
        assert stored(retriever, "extra") == [3, None]


def test_an_index_for_filters_stays_when_its_column_becomes_wider(folder):
    with dpr_lance.connect(folder, encoder=HashEncoder(dimension=8)) as retriever:
        retriever.add([{"id": number, "text": "x", "year": number} for number in range(5)])
        retriever.optimize(filter_columns=["year"])
        retriever.add([{"id": 5, "text": "x", "year": 5.5}])
        assert "year" in {index.column for index in retriever.info().indexes}
        assert [hit.metadata["year"] for hit in retriever.search("x", where="year > 4.5", mode="bm25")] == [5.5]
        names = lancedb.connect(folder).open_table("passages").schema.names
        assert not [name for name in names if name.startswith("_dpr_lance")]


def test_a_process_that_died_while_it_widened_leaves_nothing_behind(folder):
    with dpr_lance.connect(folder, encoder=HashEncoder(dimension=8)) as retriever:
        retriever.add([{"id": 0, "text": "x", "m": 1}])
        table = lancedb.connect(folder).open_table("passages")
        table.add_columns({"_dpr_lance_new_0": "arrow_cast(m, 'Float64')"})
        retriever.add([{"id": 1, "text": "x", "m": 2}])
        assert [passage.metadata for passage in retriever.passages()] == [{"m": 1}, {"m": 2}]
        assert retriever.search("x")[0].metadata.keys() == {"m"}
        retriever.add([{"id": 2, "text": "x", "m": 0.5}])
        assert stored(retriever) == [1.0, 2.0, 0.5]
        table.checkout_latest()
        assert not [name for name in table.schema.names if name.startswith("_dpr_lance")]


def test_two_retrievers_that_widen_one_column(folder):
    with (
        dpr_lance.connect(folder, encoder=HashEncoder(dimension=8)) as first,
        dpr_lance.connect(folder, encoder=HashEncoder(dimension=8)) as second,
    ):
        first.add([{"id": 0, "text": "x", "m": 1}])
        second.add([{"id": 1, "text": "x", "m": 0.5}])
        first.add([{"id": 2, "text": "x", "m": 3}])
        second.add([{"id": 3, "text": "x", "n": {"a": 1}}])
        first.add([{"id": 4, "text": "x", "n": {"b": 2}}])
        assert stored(first) == stored(second) == [1.0, 0.5, 3.0, None, None]
        assert stored(second, "n")[-2:] == [{"a": 1, "b": None}, {"a": None, "b": 2}]


# Names


@pytest.mark.parametrize(
    "name",
    [
        "हिन्दी",
        "ภาษาไทย",
        "re\u0301sume\u0301",
        "a$b",
        "a?b",
        "a'b",
        'a"b',
        "a,b",
        "a;b",
        "[x]",
        "a\\b",
        " a ",
        "🙂",
        "a=b",
    ],
)
def test_any_name_that_the_engine_can_hold_and_filter(retriever, name):
    add(retriever, 1, 2.5, field=name)
    assert stored(retriever, name) == [1.0, 2.5]
    assert [hit.document_id for hit in retriever.search("some text", where=f"`{name}` = 2.5")] == ["1"]
    assert retriever.update(["0"], {name: 7}) == 1
    retriever.optimize(filter_columns=[name])
    assert [hit.document_id for hit in retriever.search("some text", where=f"`{name}` = 7")] == ["0"]


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "a.b",
            "a`b",
            "a\0b",
            "\ud800",
            "vector",
            "vector_2",
            "content",
            "position",
            "document_hash",
            "_embedded",
        ),
        *("_rowid", "_rowaddr", "_rowoffset", "_row_created_at_version", "_row_last_updated_at_version", "_distance"),
        *("_score", "_dpr_lance_new_0", "_dpr_lance_old_0"),
    ],
)
def test_names_that_no_field_can_have(retriever, name):
    with pytest.raises(InvalidInputError, match=r"documents\[0\].*the field"):
        retriever.add([{"id": "a", "text": "x", name: 1}])
    add(retriever, 1)
    with pytest.raises(InvalidInputError, match=r"update\(\): the field"):
        retriever.update(["0"], {name: 1})
    assert stored(retriever) == [1]


# Updating


def test_update_sets_fields_and_keeps_the_rest(folder):
    class Counting(HashEncoder):
        encoded = 0

        def encode_passages(self, passages):
            Counting.encoded += len(passages)
            return super().encode_passages(passages)

    original = {"id": "a", "text": "one two three four", "year": 1, "kind": "x"}
    with dpr_lance.connect(folder, encoder=Counting(dimension=8)) as retriever:
        retriever.add([original, {"id": 2, "text": "five", "year": 2}], splitter=dpr_lance.WordSplitter(2))
        encoded = Counting.encoded
        assert retriever.update("a", {"year": 1.5, "seen": True, "kind": None}) == 2
        assert [passage.metadata for passage in retriever.get("a")] == [{"year": 1.5, "kind": None, "seen": True}] * 2
        assert [passage.text for passage in retriever.get("a")] == ["one two", "three four"]
        assert retriever.get(2)[0].metadata == {"year": 2.0, "kind": None, "seen": None}
        assert retriever.update("a#1", {"seen": False}) == retriever.update([2], {"m": {"b": [1]}}) == 1
        assert [passage.metadata["seen"] for passage in retriever.get("a")] == [True, False]
        assert retriever.update(metadata={"kind": "y"}, where="year > 1") == 3
        assert retriever.update(["nobody"], {"year": 3}) == 0
        for mode in ("hybrid", "dense", "bm25"):
            assert retriever.search("three four", mode=mode, where="kind = 'y'")[0].id == "a#1"
        assert Counting.encoded == encoded
        # The document as it was is another one than what is stored now.
        assert retriever.add([original]).documents_replaced == 1
        assert Counting.encoded == encoded
        assert retriever.get("a")[0].metadata == {"year": 1.0, "kind": "x", "seen": None, "m": None}
        assert retriever.add([original]).documents_unchanged == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ids": "0"}, "metadata=None is not a mapping"),
        ({"ids": "0", "metadata": {}}, "is not a mapping of fields"),
        ({"metadata": {"m": 1}}, "either ids or where"),
        ({"ids": "0", "where": "m = 1", "metadata": {"m": 1}}, "either ids or where"),
        (
            {"ids": "0", "metadata": {"m": "x"}},
            r"update\(\): the metadata field 'm' is 'x', the table holds int64 there",
        ),
        ({"ids": "0", "metadata": {"m": object()}}, r"update\(\): the field 'm' cannot be stored"),
        ({"ids": "0", "metadata": {"text": "other"}}, "the field 'text' has the name of a column"),
        ({"where": "nothing = 1", "metadata": {"m": 1}}, "nothing"),
    ],
)
def test_updates_that_cannot_be_made(retriever, arguments, message):
    add(retriever, 1)
    with pytest.raises(InvalidInputError, match=message):
        retriever.update(**arguments)
    assert stored(retriever) == [1]


def test_update_of_a_table_that_is_not_there(retriever):
    assert retriever.update(["a"], {"m": 1}) == 0
    assert retriever.update(metadata={"m": 1}, where="m = 1") == 0


def test_adding_a_document_without_a_field_makes_it_null(retriever):
    retriever.add([{"id": "a", "text": "x", "m": 1, "n": 2}])
    assert retriever.add([{"id": "a", "text": "x", "m": 1}]).documents_replaced == 1
    assert retriever.get("a")[0].metadata == {"m": 1, "n": None}


# Ids


def test_integer_ids_work_everywhere(retriever):
    retriever.add([{"id": number, "text": f"text {number}"} for number in range(6)])
    assert [passage.document_id for passage in retriever.get(5)] == ["5"]
    assert [passage.document_id for passage in retriever.get([np.int64(3), 1, "2"])] == ["3", "1", "2"]
    assert retriever.delete([1, 2]) == 2
    assert retriever.delete(np.array([3, 4])) == 2
    assert retriever.delete(5) == 1
    assert [passage.document_id for passage in retriever.passages()] == ["0"]


@pytest.mark.parametrize("ids", [1.5, True, [None], [1, 2.0], b"1", [b"1"], object()])
def test_ids_that_are_none(retriever, ids):
    add(retriever, 1)
    for call in (retriever.get, retriever.delete):
        with pytest.raises(InvalidInputError, match=r"ids\[\d\]: id must be a string|give an id, or a list of ids"):
            call(ids)


def test_none_as_text_is_named(retriever):
    with pytest.raises(InvalidInputError, match=r"documents\[0\] \(id 'a'\): 'text' is empty \(None\)"):
        retriever.add([{"id": "a", "text": None}])
