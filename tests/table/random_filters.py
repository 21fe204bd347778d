"""Random filters, some of them broken on purpose, and what SQLite makes of them over the same rows."""

import sqlite3

import dpr_lance
from dpr_lance import HashEncoder, InvalidInputError

ROWS = [
    {
        "id": f"d{number}",
        "text": f"river {number}",
        "year": None if number % 6 == 0 else 1990 + number % 20,
        "kind": None if number % 5 == 0 else ["a", "it's", "x\\y", "Zürich"][number % 4],
        "flag": None if number % 7 == 0 else number % 2 == 0,
    }
    for number in range(60)
]
_GARBAGE = """
( ) , ; -- /* */ ? $1 ' " ` \\ # @ [ ] :: . = < NOT AND OR IN IS BETWEEN LIKE NULL CASE LIMIT UNION SELECT WHERE
year kind flag 5 1e 0x1 1_0 'x' E'x' N'x' $$x$$ true -1 * nothing() repeat(kind,1000000000)
"""
_TAILS = (
    ") OR (1=1",
    " LIMIT 1",
    "; year = 1",
    ", year = 1",
    " -- x",
    " ORDER BY id",
    " /* x */",
    " UNION SELECT 1",
    " x",
)


def filter_of(choose, depth=3):
    """Return a random filter as SQL."""
    kind = choose.random()
    if depth and kind < 0.45:
        joined = choose.choice([" AND ", " OR ", " and "]).join(
            filter_of(choose, depth - 1) for _ in range(choose.randint(2, 3))
        )
        return choose.choice(["({})", "NOT ({})", "{}", "(({}))"]).format(joined)
    number = choose.choice(["1995", "2000", "1990 + 7", "2 * 1000", "-5", "(2005 - 3)", "year"])
    return choose.choice(
        [
            f"year {choose.choice(['=', '<', '>', '<=', '>=', '<>', '!=', '=='])} {number}",
            f"year % {choose.randint(2, 5)} = {choose.randint(0, 3)}",
            f"{choose.choice(['', 'NOT '])}year BETWEEN {number} AND 2002",
            "year NOT BETWEEN 1993 AND 1999",
            f"year {choose.choice(['', 'NOT '])}IN (1991, {choose.choice(['1999', 'NULL', '-3'])}, 2001)",
            f"{choose.choice(['year', 'kind', 'flag', '`year`'])} IS {choose.choice(['', 'NOT '])}NULL",
            f"flag IS {choose.choice(['', 'NOT '])}{choose.choice(['TRUE', 'FALSE'])}",
            choose.choice(["flag", "NOT flag", "flag = true", "(flag)", "NOT NOT flag"]),
            f"kind {choose.choice(['=', '<>', '<', '>='])} {choose.choice(VALUES)}",
            f"kind {choose.choice(['', 'NOT '])}IN ({', '.join(choose.sample(VALUES, 2))})",
            f"kind {choose.choice(['', 'NOT '])}LIKE {choose.choice(LIKES)}",
            "kind || 'x' = 'ax'",
            "lower(kind) = 'a'",
            "coalesce(kind, 'none') = 'none'",
            "(year - 1990) * 2 > 20",
            "- year < -2000",
        ]
    )


VALUES = ["'a'", "'it''s'", "'x\\y'", "'Zürich'", "'--'", "'; a'", "') OR (1=1'"]
LIKES = ["'%s'", "'Z_rich'", "'a%'", "'%''%'"]


def broken(choose, sql):
    """Return a filter with garbage in it, cut short, or with more behind it."""
    at = choose.randint(0, len(sql))
    kind = choose.random()
    if kind < 0.35:
        return sql + choose.choice(_TAILS)
    if kind < 0.5:
        return sql[:at]
    return f"{sql[:at]} {choose.choice([*_GARBAGE.split(), chr(0)])} {sql[at:]}"


class Compared:
    """A table of `ROWS`, and the same rows in SQLite."""

    def __init__(self, place, filter_columns=()):
        self.retriever = dpr_lance.connect(place, encoder=HashEncoder(dimension=32))
        self.retriever.add(ROWS, splitter=None)
        if filter_columns:
            self.retriever.optimize(filter_columns=filter_columns)
        self.database = sqlite3.connect(":memory:")
        self.database.execute("PRAGMA case_sensitive_like = on")
        self.database.execute("CREATE TABLE t (id TEXT, year INTEGER, kind TEXT, flag INTEGER)")
        rows = [(row["id"], row["year"], row["kind"], row["flag"]) for row in ROWS]
        self.database.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", rows)

    def check(self, sql, *, whole, mode="bm25"):
        """Compare what a search finds; return whether the filter was taken. `whole`: it must be."""
        try:
            found = {hit.document_id for hit in self.retriever.search("river", len(ROWS), mode=mode, where=sql)}
        except InvalidInputError as error:
            if whole or "where=" not in str(error):
                raise
            return False
        try:
            expected = {row for (row,) in self.database.execute(f"SELECT id FROM t WHERE ({sql}\n)")}
        except (sqlite3.Error, ValueError):
            assert not whole, sql
            return True
        assert found == expected, sql
        return True
