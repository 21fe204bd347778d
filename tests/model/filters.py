"""Filters as nested tuples: as SQL, as a `lancedb.expr` expression, and as what SQL makes of them for one passage."""

import pyarrow as pa
from lancedb.expr import col, lit

from tests.model.values import plain

OPERATORS = {
    "=": lambda left, right: left == right,
    "<>": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    ">=": lambda left, right: left >= right,
}

CUT_SHORT = (
    "{0}) OR (1=1",
    "{0} LIMIT 1",
    "{0}; {0}",
    "{0}, {0}",
    "{0} -- {0}",
    "{0} ORDER BY id",
    "{0} UNION SELECT 1",
    "({0}",
    "{0} AND",
    "{0} x y",
)
"""Texts that begin with a filter but are not filters."""

COMPARED = {
    "year": pa.int64(),
    "kind": pa.string(),
    "flag": pa.bool_(),
    "two words": pa.string(),
    "वर्ष": pa.int64(),
    "cost $?": pa.int64(),
}
"""Fields that are compared, while their columns have these types."""


def sql_of(tree):
    """Return a filter as SQL."""
    match tree:
        case ("compare", name, operator, value):
            return f"`{name}` {operator} {_literal(value)}"
        case ("null", name):
            return f"`{name}` IS NULL"
        case ("in", name, values):
            return f"`{name}` IN ({', '.join(map(_literal, values))})"
        case ("has", name, value):
            return f"array_has(`{name}`, {_literal(value)})"
        case ("not", inner):
            return f"NOT ({sql_of(inner)})"
        case (("and" | "or") as word, left, right):
            return f"({sql_of(left)}) {word.upper()} ({sql_of(right)})"
    raise AssertionError(tree)


def expression_of(tree):
    """Return a filter as an expression of `lancedb.expr`, or as SQL where it has none."""
    match tree:
        case ("compare", name, "=", value):
            return col(name) == lit(value)
        case ("compare", name, "<", value):
            return col(name) < lit(value)
        case ("in", name, values):
            return col(name).isin(list(values))
    return sql_of(tree)


def _literal(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)


def columns_of(tree):
    """Return the columns that a filter names."""
    match tree:
        case ("not", inner):
            return columns_of(inner)
        case ("and" | "or", left, right):
            return columns_of(left) | columns_of(right)
    return {tree[1]}


def holds(tree, row):
    """Return what SQL says of a row: True, False, or None where it cannot tell."""
    match tree:
        case ("not", inner):
            inside = holds(inner, row)
            return None if inside is None else not inside
        case ("and", left, right):
            both = {holds(left, row), holds(right, row)}
            return False if False in both else None if None in both else True
        case ("or", left, right):
            both = {holds(left, row), holds(right, row)}
            return True if True in both else None if None in both else False
    value = {"id": row.id, "document_id": row.document_id, "title": row.title}.get(tree[1], row.metadata.get(tree[1]))
    value = plain(value)
    match tree:
        case ("null", _):
            return value is None
        case _ if value is None:
            return None
        case ("compare", _, operator, other):
            return OPERATORS[operator](value, other)
        case ("in", _, others):
            return value in others
        case ("has", _, other):
            return other in value
    raise AssertionError(tree)


def generate(choose, depth=2):
    """Return a random filter."""
    kind = choose.random()
    if depth and kind < 0.3:
        return choose.choice(["and", "or"]), generate(choose, depth - 1), generate(choose, depth - 1)
    if depth and kind < 0.4:
        return "not", generate(choose, depth - 1)
    name = choose.choice([*COMPARED, "document_id", "title"])
    values = {
        "year": (1, 2, 3), "वर्ष": (1, 2, 3), "cost $?": (1, 2, 3), "kind": ("x", "y", "it's"), "two words": ("x", "y"),
        "flag": (True, False), "document_id": ("d1", "d2", "d3"), "title": ("", "atlas"),
    }[name]  # fmt: skip
    if kind > 0.95:
        return "has", "tags", choose.choice("abc")
    if kind > 0.85:
        return "null", name
    if kind > 0.75:
        return "in", name, tuple(choose.sample(values, choose.randint(1, len(values))))
    operator = choose.choice(["=", "<>"] if name == "flag" else list(OPERATORS))
    return "compare", name, operator, choose.choice(values)
