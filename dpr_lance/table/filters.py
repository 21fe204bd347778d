"""Filters of searches, deletions and look-ups, as `lancedb.expr` expressions or as SQL."""

from __future__ import annotations

import _thread
import re
import threading
import weakref
from collections.abc import Iterable
from typing import TypeAlias

import pyarrow as pa
from lancedb.expr import Expr, col
from lancedb.table import Table

from dpr_lance.errors import InvalidInputError
from dpr_lance.table.filter_syntax import DEEPEST, FUNCTIONS, MOST_CHARACTERS, checked_sql
from dpr_lance.table.schema import ID, metadata_fields

Filter: TypeAlias = Expr | str | None

_OF_LANCEDB = re.compile(r"^Invalid input, |Valid fields are .*|, /\S+\.rs:\d+:\d+", re.DOTALL)
"""Noise in LanceDB's messages: its internal columns, and paths in its source."""

_STACK_BYTES = 1 << 29
"""Rendering an expression takes up to 32 KiB a level; building one of 16,000 levels overflows a usual stack."""
_STARTING = threading.Lock()
_SHALLOW: weakref.WeakValueDictionary[int, Expr] = weakref.WeakValueDictionary()
"""Expressions that were found usable, by identity; they are immutable."""
_INEXACT = re.compile(r"''|\\'|[0-9]\.[0-9]")
_TEXT = re.compile(r"'(?:[^']|''|(?<=\\)')*'")


def checked_filter(where: Expr | str) -> Expr | str:
    """Return a user's filter in a form that the engine can take.

    Raises `InvalidInputError` for SQL that is not one whole expression (see `filter_syntax`), and for an expression of
    `lancedb.expr` that is too deep for the engine.
    """
    if isinstance(where, str):
        return checked_sql(where)
    if not isinstance(where, Expr):
        raise InvalidInputError(
            f'where={_shown(where)} is not a filter: pass SQL such as "year > 2000", or an expression of lancedb.expr '
            f"such as col('year') > 2000, not {type(where).__name__}"
        )
    if _SHALLOW.get(id(where)) is where:
        return where
    sql = _rendered(where)
    if sql.count("(") + sql.count("NOT ") <= DEEPEST and len(sql) <= MOST_CHARACTERS:
        _SHALLOW[id(where)] = where
        return where
    if not _is_exact(sql):
        bare = _TEXT.sub("", sql)
        if len(sql) <= MOST_CHARACTERS and bare.count("(") + bare.count("NOT ") <= DEEPEST:
            return where
        raise InvalidInputError(
            f"where={sql[:100]!r}... cannot be used: it has more than {DEEPEST} operators; use isin() for lists of "
            f"values, or split it into several calls"
        )
    # A chain of AND or OR nests in an expression and overflows the engine's stack; in SQL it does not.
    return checked_sql(sql, functions=FUNCTIONS | {"arrow_cast"})


def sql_for(table: Table, where: Expr | str) -> str:
    """Return SQL for exactly the rows that a filter matches, where LanceDB takes only SQL.

    LanceDB renders some expressions wrongly: it does not double a quote after a backslash, nor one of two in a row, and
    does not compare whole numbers with fractions. Their rows are looked up and listed.
    """
    if isinstance(where, str):
        return where
    sql: str = where.to_sql()
    if _is_exact(sql):
        return sql
    rows = table.search().where(where).with_row_id(True).select([ID]).limit(None).to_arrow()["_rowid"].to_pylist()
    return f"_rowid IN ({', '.join(map(str, rows))})" if rows else "false"


def _is_exact(sql: str) -> bool:
    return _INEXACT.search(sql) is None


def _rendered(where: Expr) -> str:
    """Return an expression as SQL, rendered on a stack that is deep enough for all that a usual one can build."""
    answers: list[str | BaseException] = []
    done = _thread.allocate_lock()
    done.acquire()

    def render() -> None:
        try:
            answers.append(where.to_sql())
        except BaseException as error:  # noqa: BLE001 - raised below, in the caller's thread
            answers.append(error)
        finally:
            done.release()

    with _STARTING:
        usual = _thread.stack_size(_STACK_BYTES)
        try:
            _thread.start_new_thread(render, ())
        finally:
            _thread.stack_size(usual)
    done.acquire()
    if not isinstance(answers[0], str):
        raise InvalidInputError(f"where, an expression of lancedb.expr, has no SQL: {answers[0]}") from answers[0]
    return answers[0]


def _shown(value: object) -> str:
    return repr(value[:80] if isinstance(value, (bytes, list, tuple)) else value)[:80]


def among(column: str, values: Iterable[str | int]) -> Expr:
    """Return the filter that a column's value is one of these, which LanceDB quotes."""
    return col(column).isin(list(values))


def unusable(where: Expr | str, error: Exception, schema: pa.Schema) -> InvalidInputError:
    """Return the error that names a filter, what is wrong with it, and the columns that it may use."""
    sql = where if isinstance(where, str) else str(where.to_sql())
    reason = _OF_LANCEDB.sub("", str(error)).strip(" .")
    columns = ", ".join(f"{field.name} ({field.type})" for field in metadata_fields(schema)) or "none"
    return InvalidInputError(
        f"where={sql[:200]!r} cannot be used: {reason[:1000]}. Metadata columns: {columns}; "
        f"id, document_id, title and text can be used too. In SQL, text is in 'single quotes' and a day is "
        f"date '2024-12-31'"
    )
