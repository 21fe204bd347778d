"""Whether the indexes list rows that the table no longer holds, which LanceDB then hands out as if they were there.

LanceDB hides the rows that were deleted since an index was built only as long as their files are there. Compaction
drops these, and the indexes keep the row ids: BM25 still counts them, and searches still find them. Bringing an index
up to date removes them, but LanceDB does so only while a row waits outside the index.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lancedb.expr import col
from lancedb.index import IndexConfig
from lancedb.table import Table

from dpr_lance.table.filters import Filter, among, sql_for
from dpr_lance.table.schema import CONTENT, ID

COVERAGE = "index_coverage"
"""Key of the `coverage_in` that the last maintenance has left, under which no index lists rows that are gone."""

_EXISTS = "_rowid IS NOT NULL"
"""True of every row. LanceDB reads the table to find out, and passes over what only an index knows."""


def column_of(config: IndexConfig) -> str:
    """Return the column of an index; LanceDB puts a name with blanks in backticks."""
    name: str = config.columns[0]
    return name.removeprefix("`").removesuffix("`")


def indexed_columns(table: Table) -> dict[str, str]:
    """Return the columns that have an index, and its name."""
    return {column_of(config): config.name for config in table.list_indices()}


def coverage_in(configs: Iterable[IndexConfig]) -> dict[str, Any] | None:
    """Return the identity of the BM25 index and how many of the rows that it lists are there; None without it.

    All indexes are brought up to date together, so that this one tells of all. The number only falls, by deletions,
    until LanceDB writes the index again under another identity.
    """
    for config in configs:
        if column_of(config) == CONTENT:
            return {"index": config.index_uuid, "rows": config.num_indexed_rows}
    return None


def existing(where: Filter) -> Filter:
    """Return the filter, narrowed to rows that are there: an index on a filter's column lists rows that are gone too.

    It takes time in proportion to the table: 25 ms for 500,000 rows.
    """
    if where is None:
        return _EXISTS
    return f"({where}) AND {_EXISTS}" if isinstance(where, str) else where & (col("_rowid") >= 0)


def lists_gone_rows(table: Table, remembered: Mapping[str, Any]) -> bool:
    """Tell whether the indexes may list rows that are gone, and no row waits outside for LanceDB to remove them."""
    configs = table.list_indices()
    waiting = any(config.num_unindexed_rows for config in configs if column_of(config) == CONTENT)
    return not waiting and coverage_in(configs) != remembered.get(COVERAGE)


def touch(table: Table) -> None:
    """Write one row again as it is, so that it waits outside all indexes: see above."""
    some = table.search().select([ID]).limit(1).to_arrow()[ID].to_pylist()
    values = {column: f"`{column}`" for column in indexed_columns(table)}
    table.update(where=sql_for(table, among(ID, some)), values_sql=values)
