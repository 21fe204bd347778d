"""What a filter may be: one whole expression of known form and bounded size; the rest is refused before the engine."""

import random
import re
import subprocess
import sys
from functools import reduce
from operator import and_, or_

import pytest
from lancedb.expr import col

import dpr_lance
from dpr_lance import HashEncoder, InvalidInputError
from dpr_lance.table.filter_syntax import FUNCTIONS, checked_sql
from tests.table.random_filters import Compared, broken, filter_of

CUT_SHORT = {
    "year > 2050) OR (1=1": 11,
    "kind = 'x' LIMIT 1": 11,
    "kind = 'x'; kind = 'nothing'": 10,
    "kind = 'x';": 10,
    "a, b": 1,
    "kind = 'x' -- y": 11,
    "kind = 'x' /* y */": 11,
    "kind = 'x' UNION SELECT 1": 11,
    "kind = 'x' ORDER BY year": 11,
    "kind = 'x' QUALIFY 1": 11,
    "year = 1_945": 7,
    "year = 1e": 7,
    "flag\0 anything": 4,
    "kind = 'x' 'y'": 11,
    "(a, b) = 1": 2,
    "a b": 2,
    "((a)": 0,
    "a)": 1,
    "[a)": 2,
    "kind = 'x": 7,
    "`year = 1": 0,
}
REFUSED = {
    "": "nothing at all",
    " \n": "nothing at all",
    "year = ?": r"'\?' is a placeholder; write the value itself",
    "year = $1": r"'\$' is a placeholder",
    "year = :year": "':' is a placeholder",
    "kind = E'a'": "without a prefix",
    "kind = N'a'": "without a prefix",
    "kind = $$a$$": "without a prefix",
    "kind = U&'a'": "without a prefix",
    "repeat(text, 100000000000) = 'a'": "repeat is not a function that filters may call; use one of abs",
    "array_length(array_repeat(text, 1000000000)) > 1": "at character 13, array_repeat is not a function",
    "random() < 0.5": "not a function",
    "CASE WHEN a THEN b END": "no CASE in filters",
    "day > now() - interval '1 day'": "expected an operator .*found '1 day'|found interval",
    "year IN (SELECT 1)": "found SELECT",
    "year IN ()": "expected a value or a column",
    "year BETWEEN 1": "BETWEEN",
    "(year BETWEEN 1) AND 2": "BETWEEN has no AND",
    "CAST(year AS decimal(300, 3)) > 1": "up to 38",
    "CAST(year AS nothing) > 1": "nothing is not a type",
    "CAST(year) > 1": "AS and a type",
    "year IS 5": "NULL, TRUE or FALSE",
    "AND": "a value or a column",
    "year >": "missing",
    "\ud800 = 1": "surrogate",
    "NOT " * 1000 + "flag": "more than 40 operators",
    "- " * 1000 + "year > 0": "more than 40 operators",
    "year" + " + 1" * 1000 + " > 0": "more than 40 operators",
    "year" + "::int" * 1000 + " > 0": "more than 40 operators",
    "flag" + " = flag" * 1000: "more than 40 operators",
    "flag" + " IS NULL" * 1000: "more than 40 operators",
    "NOT (" * 20 + "flag" + ")" * 20: "more than 12 brackets",
    "lower(" * 1000 + "kind" + ")" * 1000 + " = 'a'": "more than 12 brackets|more than 40 operators",
    "(" * 11 + "flag" + " BETWEEN false AND year > 5)" * 11: "columns, operators",
    "coalesce(" * 12 + "kind" + ", 'a')" * 12 + " = 'a'": "columns, operators",
    " AND ".join(f"year != {number}" for number in range(5_000)): "more than 4,000 columns",
    " OR ".join(["year > 0"] * 40_000): "more than 4,000 columns",
    "year IN (" + "1, " * 100_001 + "1)": "more than 100,000 values",
    "kind" + " || kind" * 30 + " = 'a'": "joins more than 20 texts",
    "concat(" + "kind, " * 30 + "kind) = 'a'": "joins more than 20 texts",
    "x" * 5_000_000: "5,000,000 characters, more than 4,000,000",
}


@pytest.mark.parametrize(("sql", "at"), CUT_SHORT.items())
def test_what_is_not_one_whole_expression_is_refused_with_its_place(sql, at):
    with pytest.raises(InvalidInputError, match=f"at character {at}, ") as refused:
        checked_sql(sql)
    assert repr(sql) in str(refused.value)


@pytest.mark.parametrize(("sql", "message"), REFUSED.items(), ids=[f"{sql[:20]!r}" for sql in REFUSED])
def test_what_the_engine_could_not_stand_is_refused_with_the_remedy(sql, message):
    with pytest.raises(InvalidInputError, match=message) as refused:
        checked_sql(sql)
    assert len(str(refused.value)) < 1_500


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("year>2000", "(year > 2000)"),
        ('"year" == 5', "(`year` = 5)"),
        ("`a``b` <> 'it''s -- ; ?'", "(`a``b` != 'it''s -- ; ?')"),
        ("((a AND b) AND (c))", "(a AND b AND c)"),
        ("(a AND b) OR c", "(a AND b OR c)"),
        ("a AND (b OR c)", "(a AND ( b OR c ))"),
        ("NOT (a AND b)", "(NOT ( a AND b ))"),
        ("a BETWEEN 1 AND (2) AND b", "(a BETWEEN 1 AND ( 2 ) AND b)"),
        ("day = DATE '2020-01-01'", "(day = date '2020-01-01')"),
        ("date > date '2020-01-01'", "(date > date '2020-01-01')"),
        ("x::varchar = CAST(y AS decimal(10,2))", "(x :: string = CAST ( y AS decimal(10, 2) ))"),
        ("place.country = 'ch' AND tags[1] = 'a'", "(place . `country` = 'ch' AND tags [ 1 ] = 'a')"),
        ("array_has_any(tags, ARRAY['a', 'b'])", "(array_has_any ( tags , [ 'a' , 'b' ] ))"),
        ("Größe\u3000= 1", "(Größe = 1)"),
    ],
)
def test_the_engine_is_handed_the_tokens_that_were_read(given, read):
    assert checked_sql(given) == read


def test_a_word_that_the_engine_would_read_in_another_way_needs_backticks():
    with pytest.raises(InvalidInputError, match="`cost"):
        checked_sql("वर्ष = 1 AND `cost` = 1")


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    return Compared(tmp_path_factory.mktemp("filters") / "t")


def test_random_filters_find_what_they_say_or_are_refused(compared):
    taken = 0
    for seed in range(75):
        choose = random.Random(seed)
        sql = filter_of(choose)
        compared.check(sql, whole=True)
        taken += compared.check(broken(choose, sql), whole=False)
    assert taken < 40


@pytest.mark.parametrize("sql", [sql for sql in [*CUT_SHORT, *REFUSED] if len(sql) < 200])
def test_nothing_is_deleted_by_what_is_refused(compared, sql):
    with pytest.raises(InvalidInputError, match="where="):
        compared.retriever.delete(where=sql)
    assert len(compared.retriever) == 60


def test_every_function_that_is_allowed_is_known_to_the_engine(compared):
    for function in sorted(FUNCTIONS):
        with pytest.raises(InvalidInputError) as refused:
            compared.retriever.search("river", where=f"{function}(kind, kind, kind, kind, kind, kind) > 5")
        assert "Invalid function" not in str(refused.value), function


@pytest.mark.parametrize("join", [and_, or_])
def test_expressions_of_a_thousand_terms_are_taken(compared, join):
    terms = [col("year") != number for number in range(600)]
    expression = reduce(join, terms)
    assert len(compared.retriever.search("river", 100, where=expression)) == 50


@pytest.mark.parametrize(
    "nest",
    [
        lambda filter_: filter_ + 1,
        lambda filter_: ~filter_,
        lambda filter_: filter_.lower(),
        lambda filter_: filter_.cast("int64"),
    ],
)
def test_an_expression_that_is_too_deep_is_refused(compared, nest):
    expression = col("year")
    for _ in range(1_000):
        expression = nest(expression)
    with pytest.raises(InvalidInputError, match=r"more than (40 operators|12 brackets)|nothing"):
        compared.retriever.search("river", where=expression > 5)


def test_an_expression_deletes_the_rows_that_it_finds(tmp_path):
    """LanceDB's SQL for an expression does not double each quote: more would be deleted than is meant."""
    kinds = ["a", "x\\'y", "x\\' OR 1=1 OR kind = '", "q''q", "q'q"]
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(dimension=32)) as retriever:
        retriever.add([{"id": kind, "text": "river", "kind": kind, "year": place} for place, kind in enumerate(kinds)])
        for left, kind in zip((4, 3, 2), kinds[1:4], strict=True):
            assert len(retriever.search("river", where=col("kind") == kind)) == 1
            assert retriever.delete(where=col("kind") == kind) == 1
            assert len(retriever) == left
        assert retriever.delete(where=col("year") > 3.5) == 1
        assert [passage.document_id for passage in retriever.passages()] == ["a"]


def test_no_filter_ends_the_process(tmp_path):
    """Each of these overflows the engine's stack, takes all memory or panics when the engine sees it."""
    script = f"""
import dpr_lance
from dpr_lance import HashEncoder, InvalidInputError
from lancedb.expr import col
retriever = dpr_lance.connect({str(tmp_path / "t")!r}, encoder=HashEncoder(dimension=32))
retriever.add([{{"id": "a", "text": "river", "kind": "a", "year": 1, "flag": True}}])
deep = col("year")
for _ in range(3000):
    deep = deep + 1
for where in [
    "year" + "+1" * 1000 + " > 0", " OR ".join(["year > 0"] * 40000), deep > 0, "repeat(text, 100000000000) = 'a'",
    "flag" + " BETWEEN false AND true" * 40, "NOT (" * 40 + "flag" + ")" * 40, "year = ?", "kind = N'a'",
    "coalesce(" * 12 + "kind" + ", 'a')" * 12 + " = 'a'", "CAST(year AS decimal(300, 3)) > 1",
]:
    for call in (lambda: retriever.search("river", where=where), lambda: retriever.delete(where=where)):
        try:
            call()
        except InvalidInputError:
            continue
        raise SystemExit(f"taken: {{where!s:.50}}")
print(len(retriever.search("river", where="year = 1")))
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=False)
    assert (ended.returncode, ended.stdout.strip()) == (0, "1"), re.sub(r"\s+", " ", ended.stderr)[-500:]
