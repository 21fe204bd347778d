"""Grouping: the best passages of each document, or of each value of a metadata column."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
from lancedb.table import Table
from pyarrow import types as kinds

from dpr_lance.checks import refused
from dpr_lance.documents.field_types import is_text
from dpr_lance.records.hits import Hit
from dpr_lance.table.filters import Filter, among, sql_for
from dpr_lance.table.schema import DOCUMENT_ID, ID, is_reserved

_OWN = (DOCUMENT_ID, "title")
"""Our columns that passages can be grouped by."""

GroupKey = tuple[str, object]


@dataclass(frozen=True, slots=True)
class Grouping:
    """Up to `per_group` passages of each value of a column. A passage without a value is a group of its own."""

    column: str
    per_group: int = 1

    def check(self, schema: pa.Schema) -> None:
        """Raise `InvalidInputError` unless a table's passages can be grouped by the column."""
        names = [name for name in schema.names if name in _OWN or not is_reserved(name)]
        usable = [name for name in names if _is_groupable(schema.field(name).type)]
        if self.column in usable:
            return
        kind = (
            f"it has the type {schema.field(self.column).type}" if self.column in names else "there is no such column"
        )
        raise refused("group_by", self.column, f"{kind}; passages can be grouped by {', '.join(usable)}")

    def key(self, hit: Hit) -> GroupKey:
        """Return what is equal for two hits of one group."""
        value = getattr(hit, self.column) if self.column in _OWN else hit.metadata[self.column]
        if value is None:
            return "alone", hit.id
        if isinstance(value, float) and math.isnan(value):
            return "value", "NaN"
        # True is 1 in Python, but a column has one type only.
        return "value", value

    def value(self, key: GroupKey) -> object:
        """Return the column's value of a group that has one."""
        return float("nan") if key[1] == "NaN" and isinstance(key[1], str) else key[1]


@dataclass(slots=True)
class Groups:
    """The groups of a list of hits, in the order of their best hits, each with its hits in their order."""

    grouping: Grouping
    hits: Sequence[Hit]
    by_key: dict[GroupKey, list[Hit]] = field(init=False)

    def __post_init__(self) -> None:
        self.by_key = {}
        for hit in self.hits:
            self.by_key.setdefault(self.grouping.key(hit), []).append(hit)

    def short(self, k: int) -> list[GroupKey]:
        """Return those of the first k groups that may have further passages and lack some."""
        return [
            key
            for key in list(self.by_key)[:k]
            if key[0] == "value" and len(self.by_key[key]) < self.grouping.per_group
        ]


def _is_groupable(kind: pa.DataType) -> bool:
    """Tell whether LanceDB's filters find equal values of a type."""
    if kinds.is_timestamp(kind):
        return kind.tz is None and kind.unit != "ns"
    plain = (kinds.is_boolean, kinds.is_integer, kinds.is_floating, kinds.is_decimal, kinds.is_date, kinds.is_binary)
    return is_text(kind) or any(is_kind(kind) for is_kind in plain)


@dataclass(slots=True)
class Chosen:
    """The hits that were chosen so far: up to k, or up to `per_group` of each of k groups."""

    k: int
    grouping: Grouping | None = None
    hits: list[Hit] = field(default_factory=list)
    _counts: dict[GroupKey, int] = field(default_factory=dict)

    def take(self, hit: Hit) -> bool:
        """Choose a hit if it has a place; tell whether it has."""
        if self.grouping is None:
            if len(self.hits) >= self.k:
                return False
        else:
            key = self.grouping.key(hit)
            count = self._counts.get(key, 0)
            if count >= self.grouping.per_group or (not count and len(self._counts) >= self.k):
                return False
            self._counts[key] = count + 1
        self.hits.append(hit)
        return True

    def parted(self, first: int) -> tuple[list[Hit], list[Hit]]:
        """Return the first chosen hits, or all those of the first groups, and the others."""
        if self.grouping is None or not first:
            return self.hits[:first], self.hits[first:]
        keys = set(list(self._counts)[:first])
        before = [hit for hit in self.hits if self.grouping.key(hit) in keys]
        return before, [hit for hit in self.hits if self.grouping.key(hit) not in keys]


def complete_groups(
    hits: Sequence[Hit],
    grouping: Grouping,
    k: int,
    further: Callable[[Callable[[Table], str]], tuple[list[Hit], bool]],
    *,
    every: bool = False,
) -> list[Hit]:
    """Return the hits with those that are missing from the first k groups (with `every`, from all), best first.

    `further` searches with one more filter, SQL for a table; it returns what it found, best first, and whether that is
    all there is. Each call completes a group at least, or shows that there is no other.
    """
    found = {hit.id: hit for hit in hits}
    while True:
        groups = Groups(grouping, _best_first(found))
        if len(groups.by_key) >= k:
            break
        more, _ = further(lambda table: _outside(table, groups))  # noqa: B023 - called before the next round
        if found.keys() >= {hit.id for hit in more}:
            break
        found |= {hit.id: hit for hit in more}
    whole: set[GroupKey] = set()
    while wanted := [
        key for key in Groups(grouping, _best_first(found)).short(len(found) if every else k) if key not in whole
    ]:
        more, is_all = further(lambda table: _within(table, grouping, wanted))
        if is_all or found.keys() >= {hit.id for hit in more}:
            whole.update(wanted)
        found |= {hit.id: hit for hit in more if hit.id not in found}
    return _best_first(found)


def _best_first(found: Mapping[str, Hit]) -> list[Hit]:
    return sorted(found.values(), key=lambda hit: (-hit.score, hit.id))


def _outside(table: Table, groups: Groups) -> str:
    """Return the filter for passages of no known group."""
    column = groups.grouping.column
    values = [groups.grouping.value(key) for key in groups.by_key if key[0] == "value"]
    alone = [str(key[1]) for key in groups.by_key if key[0] == "alone"]
    parts = [f"(`{column}` IS NULL OR NOT ({sql_for(table, among(column, values))}))"] if values else []  # type: ignore[arg-type]
    return " AND ".join([*parts, *([f"NOT ({sql_for(table, among(ID, alone))})"] if alone else [])])


def _within(table: Table, grouping: Grouping, keys: Sequence[GroupKey]) -> str:
    """Return the filter for passages of these groups."""
    return sql_for(table, among(grouping.column, [grouping.value(key) for key in keys]))  # type: ignore[misc]


def narrowed_by(table: Table, where: Filter, condition: str) -> str:
    """Return a user's filter with one more condition, as SQL."""
    return condition if where is None else f"({sql_for(table, where)}) AND ({condition})"
