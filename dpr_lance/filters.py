"""Filters: which passages a search, a deletion or a look-up is about, as `lancedb.expr` expressions or as SQL."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeAlias

import pyarrow as pa
from lancedb.expr import Expr, col

from dpr_lance.errors import InvalidInputError
from dpr_lance.schema import metadata_fields

Filter: TypeAlias = Expr | str | None

_OF_LANCEDB = re.compile(r"^Invalid input, |Valid fields are .*|, /\S+\.rs:\d+:\d+", re.DOTALL)
"""What LanceDB's messages hold besides what is wrong: its internal columns, and places in its source."""


def sql_of(where: Expr | str) -> str:
    """Return a filter as SQL; raise `InvalidInputError` for what is none."""
    if isinstance(where, str):
        return where
    if not isinstance(where, Expr):
        raise InvalidInputError(
            f'where={where!r:.80} is no filter: give SQL, as "year > 2000", or an expression of lancedb.expr, as '
            f"col('year') > 2000, not {type(where).__name__}"
        )
    sql: str = where.to_sql()
    return sql


def among(column: str, values: Iterable[str | int]) -> Expr:
    """Return the filter that a column's value is one of these; values are quoted by LanceDB, not by us."""
    return col(column).isin(list(values))


def within(column: str, low: int, high: int) -> Expr:
    """Return the filter that a column's number is from `low` to `high`, both included."""
    return (col(column) >= low) & (col(column) <= high)


def unusable(sql: str, error: Exception, schema: pa.Schema) -> InvalidInputError:
    """Return the error that names a filter, what is wrong with it, and what the table's filters are made of."""
    reason = _OF_LANCEDB.sub("", str(error)).strip(" .")
    columns = ", ".join(f"{field.name} ({field.type})" for field in metadata_fields(schema)) or "none"
    return InvalidInputError(
        f"where={sql!r} cannot be used: {reason}. Metadata columns: {columns}; there are id, document_id, title and "
        f"text too. In SQL text stands in 'single quotes', a day is date '2024-12-31'"
    )
