"""Filters of frameworks find what Python finds, on a real table."""

import datetime
import itertools
import zoneinfo
from decimal import Decimal

import lancedb
import pytest

import dpr_lance
from dpr_lance import HashEncoder, InvalidInputError
from dpr_lance.integrations.columns import column_of, key_of, read_metadata, stored_metadata
from dpr_lance.integrations.filters import ALWAYS, NEVER, Fields, all_of, any_of
from dpr_lance.table.filters import checked_filter

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
NOON = datetime.datetime(2020, 1, 1, 12, tzinfo=datetime.UTC)
ODD = "it's \\' '' -- ; OR 1=1\n\"`%_"
METADATA = {
    "a": {
        "year": 2000,
        "share": 1.5,
        "kind": "x",
        "tags": ["p", "q"],
        "new": True,
        "day": datetime.date(2020, 1, 1),
        "at": datetime.datetime(2020, 1, 1, 12),
        "zoned": NOON.astimezone(BERLIN),
        "place": {"country": "de", "town": {"name": "Ulm"}},
        "price": Decimal("1.25"),
        "raw": b"\x00'",
        "numbers": [1, 2],
        "id": "own",
        "a.b": "dotted",
    },
    "b": {"year": 2001, "share": 2.5, "kind": ODD, "tags": ["q", ODD], "new": False, "place": {"country": "fr"}},
    "c": {"kind": "", "tags": []},
    "d": {},
}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    with dpr_lance.connect(tmp_path_factory.mktemp("filters") / "t.lance", encoder=HashEncoder(16)) as retriever:
        retriever.add(
            [
                {"id": name, "text": f"a text {name}", **stored_metadata(metadata, place=name)}
                for name, metadata in METADATA.items()
            ],
            splitter=None,
        )
        yield retriever


@pytest.fixture(scope="module")
def plain(table):
    return lancedb.connect(table.info().uri).open_table("passages")


def matching(plain, sql):
    """The documents that match a filter, as searches check it, by plain LanceDB, which is faster."""
    rows = plain.search().where(checked_filter(sql)).select(["document_id"]).limit(None).to_arrow()
    return sorted(rows["document_id"].to_pylist())


def found(plain, condition):
    """The documents for which a condition holds; it fails for the others."""
    holds, fails = matching(plain, condition.holds), matching(plain, (~condition).holds)
    assert sorted([*holds, *fails]) == sorted(METADATA)
    return "".join(holds)


CASES = {
    "equal": (lambda f: f.equals("year", 2000), "a"),
    "equal to a whole float": (lambda f: f.equals("year", 2000.0), "a"),
    "equal to a fraction": (lambda f: f.equals("year", 2000.5), ""),
    "equal to a huge number": (lambda f: f.equals("year", 2**70), ""),
    "equal to infinity": (lambda f: f.equals("year", float("inf")), ""),
    "equal to nan": (lambda f: f.equals("share", float("nan")), ""),
    "equal to text of all signs": (lambda f: f.equals("kind", ODD), "b"),
    "equal to none": (lambda f: f.equals("year", None), "cd"),
    "equal flag": (lambda f: f.equals("new", False), "b"),
    "equal flag as a number": (lambda f: f.equals("new", 1), "a"),
    "missing title": (lambda f: ~Fields(f.types, {"title": "title"}).is_missing("title"), ""),
    "equal day": (lambda f: f.equals("day", datetime.date(2020, 1, 1)), "a"),
    "equal day as text": (lambda f: f.equals("day", "2020-01-01"), "a"),
    "equal time": (lambda f: f.equals("at", datetime.datetime(2020, 1, 1, 12)), "a"),
    "equal time of a zone": (lambda f: f.equals("zoned", NOON), "a"),
    "later than in a zone": (lambda f: f.compares("zoned", ">", "2020-01-01T12:00:00+01:00"), "a"),
    "equal decimal": (lambda f: f.equals("price", Decimal("1.25")), "a"),
    "equal bytes": (lambda f: f.equals("raw", b"\x00'"), "a"),
    "key of an own column": (lambda f: f.equals("id", "own"), "a"),
    "key with a dot": (lambda f: f.equals("a.b", "dotted"), "a"),
    "field of a mapping": (lambda f: f.equals("place.country", "fr"), "b"),
    "field of a mapping within one": (lambda f: f.equals("place.town.name", "Ulm"), "a"),
    "missing field of a mapping": (lambda f: f.is_missing("place.town.name"), "bcd"),
    "unknown field": (lambda f: f.equals("never", 1), ""),
    "unknown field of a mapping": (lambda f: f.equals("place.street", 1), ""),
    "unknown field is missing": (lambda f: f.is_missing("never"), "abcd"),
    "in": (lambda f: f.is_in("year", [2001, 1999, 2000.5]), "b"),
    "in nothing": (lambda f: f.is_in("year", []), ""),
    "in texts": (lambda f: f.is_in("kind", ["x", ODD]), "ab"),
    "in prices": (lambda f: f.is_in("price", [Decimal("1.25"), 2]), "a"),
    "greater": (lambda f: f.compares("year", ">", 2000), "b"),
    "greater than a fraction": (lambda f: f.compares("year", ">", 2000.5), "b"),
    "at least a fraction": (lambda f: f.compares("year", ">=", 2000.5), "b"),
    "less than a fraction": (lambda f: f.compares("year", "<", 2000.5), "a"),
    "at most a fraction": (lambda f: f.compares("year", "<=", 2000.5), "a"),
    "at most": (lambda f: f.compares("year", "<=", 2000), "a"),
    "less than infinity": (lambda f: f.compares("year", "<", float("inf")), "ab"),
    "greater than a huge number": (lambda f: f.compares("year", ">", 2**64), ""),
    "greater share": (lambda f: f.compares("share", ">", 1.5), "b"),
    "share less than infinity": (lambda f: f.compares("share", "<", float("inf")), "ab"),
    "less than nan": (lambda f: f.compares("share", "<", float("nan")), ""),
    "greater text": (lambda f: f.compares("kind", ">", "j"), "a"),
    "cheaper": (lambda f: f.compares("price", "<", 1.3), "a"),
    "earlier": (lambda f: f.compares("day", "<", "2020-01-02"), "a"),
    "empty text": (lambda f: f.is_empty("kind"), "cd"),
    "empty list": (lambda f: f.is_empty("tags"), "cd"),
    "has": (lambda f: f.has("tags", "p"), "a"),
    "has text of all signs": (lambda f: f.has("tags", ODD), "b"),
    "has number": (lambda f: f.has("numbers", 2.0), "a"),
    "has fraction": (lambda f: f.has("numbers", 2.5), ""),
    "includes": (lambda f: f.includes("kind", "' OR"), ""),
    "includes signs": (lambda f: f.includes("kind", '; OR 1=1\n"`%_'), "b"),
    "includes ignoring case": (lambda f: f.includes("kind", "IT'S", ignore_case=True), "b"),
    "all": (lambda f: all_of([f.has("tags", "q"), f.equals("new", True)]), "a"),
    "all of nothing": (lambda f: all_of([]), "abcd"),
    "any": (lambda f: any_of([f.equals("kind", "x"), f.is_missing("kind")]), "ad"),
    "any of nothing": (lambda f: any_of([]), ""),
    "neither": (lambda f: ~any_of([f.equals("kind", "x"), ~all_of([f.compares("year", ">", 1)])]), "b"),
    "always": (lambda f: ALWAYS, "abcd"),
    "never": (lambda f: NEVER, ""),
}


@pytest.mark.parametrize("case", CASES)
def test_a_condition_holds_or_fails_for_every_passage(table, plain, case):
    condition, expected = CASES[case]
    assert found(plain, condition(Fields.of(table))) == expected


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (lambda f: f.equals("year", "2000"), "filter on 'year': the table holds int64 there, which cannot be compared"),
        (lambda f: f.equals("year", True), "True"),
        (lambda f: f.equals("kind", 3), "'kind'"),
        (lambda f: f.equals("tags", ["p"]), "lists there"),
        (lambda f: f.equals("place", "de"), "struct"),
        (lambda f: f.compares("new", ">", False), "does not compare True and False"),
        (lambda f: f.compares("kind", ">", 3), "'kind'"),
        (lambda f: f.compares("day", ">", "soon"), "ISO 8601"),
        (lambda f: f.compares("at", ">", NOON), "has a time zone"),
        (lambda f: f.equals("zoned", datetime.datetime(2020, 1, 1)), "has no time zone"),
        (lambda f: f.has("kind", "x"), "not lists"),
        (lambda f: f.includes("year", "x"), "not text"),
        (lambda f: f.includes("kind", 3), "give a text"),
        (lambda f: f.equals(3, 3), "not the name of a field"),
    ],
)
def test_a_value_that_cannot_be_compared_is_refused(table, condition, message):
    with pytest.raises(InvalidInputError, match=message):
        condition(Fields.of(table))


def test_a_text_of_any_signs_is_only_itself(folder, encoder):
    texts = ["".join(pair) for pair in itertools.product("'\"\\;\0", repeat=2)]
    with dpr_lance.connect(folder, encoder=encoder) as retriever:
        documents = [{"id": str(at), "text": "a", "sign": sign, "signs": [sign]} for at, sign in enumerate(texts)]
        retriever.add(documents, splitter=None)
        fields, plain = Fields.of(retriever), lancedb.connect(folder).open_table("passages")
        for at, sign in enumerate(texts):
            assert matching(plain, fields.equals("sign", sign).holds) == [str(at)]
            assert matching(plain, fields.has("signs", sign).holds) == [str(at)]
        assert len(retriever.search("a", 9, where=fields.is_in("sign", texts[:4]).holds)) == 4


def test_before_the_first_document_every_field_is_missing(folder, encoder):
    with dpr_lance.connect(folder, encoder=encoder) as retriever:
        assert Fields.of(retriever).equals("year", 2000) == NEVER


@pytest.mark.parametrize(
    "key", ["year", "two words", "id", "title", "vector_2", "a.b", "`", "", "100%", "metadata:x", "é"]
)
def test_every_key_has_a_column_of_its_own(key):
    column = column_of(key)
    assert key_of(column) == key
    assert not set(column) & set(".`\0")
    assert (column == key) == (key in ("year", "two words", "100%", "é"))


def test_metadata_is_read_as_it_was_given(table):
    read = {passage.document_id: read_metadata(passage) for passage in table.passages()}
    assert read == METADATA


def test_a_key_that_is_no_string_is_refused():
    with pytest.raises(InvalidInputError, match=r"here: metadata keys must be strings, 3"):
        stored_metadata({3: "x"}, place="here")
