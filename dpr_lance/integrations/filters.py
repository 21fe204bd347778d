"""Filters of frameworks as filters of a table.

A test of a framework holds or fails, also for a passage without the field, where SQL has a third answer. So a
`Condition` has the SQL of both, and a negation exchanges them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

import pyarrow as pa
from pyarrow import types as kinds

from dpr_lance.errors import InvalidInputError
from dpr_lance.integrations.columns import column_of, table_columns
from dpr_lance.integrations.literals import is_list, is_number, is_text, literal, text_literal
from dpr_lance.retriever import Retriever

Comparison = Literal["<", "<=", ">", ">="]


@dataclass(frozen=True, slots=True)
class Condition:
    """A test of a passage: the SQL that finds the passages for which it holds, and those for which it fails."""

    holds: str
    fails: str

    def __invert__(self) -> Condition:
        return Condition(self.fails, self.holds)


ALWAYS, NEVER = Condition("true", "false"), Condition("false", "true")


def all_of(conditions: Iterable[Condition]) -> Condition:
    """Return the condition that each of these holds; it always holds for none."""
    return _joined(list(conditions), "AND", "OR") or ALWAYS


def any_of(conditions: Iterable[Condition]) -> Condition:
    """Return the condition that one of these holds; it never holds for none."""
    return _joined(list(conditions), "OR", "AND") or NEVER


def _joined(conditions: Sequence[Condition], word: str, opposite: str) -> Condition | None:
    if len(conditions) < 2:
        return conditions[0] if conditions else None
    holds = f" {word} ".join(condition.holds for condition in conditions)
    fails = f" {opposite} ".join(condition.fails for condition in conditions)
    return Condition(f"({holds})", f"({fails})")


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of a table that filters may name: metadata keys, and fields of mappings as in `place.country`.

    A field that no passage has is missing in all. Each method raises `InvalidInputError` naming the field for a value
    that cannot be compared with it.
    """

    types: Mapping[str, pa.DataType]
    """By column."""
    own: Mapping[str, str] = field(default_factory=dict)
    """Columns of the table itself, by the name that the framework has for them."""

    @classmethod
    def of(cls, retriever: Retriever, **own: str) -> Fields:
        """Return the fields that a table has now."""
        return cls(table_columns(retriever), own)

    def equals(self, name: str, value: object) -> Condition:
        """Test that a field has this value; None tests that it is missing."""
        if value is None:
            return self.is_missing(name)
        return self.is_in(name, [value])

    def is_in(self, name: str, values: Iterable[object]) -> Condition:
        """Test that a field has one of these values."""
        column, kind = self._find(name)
        if kind is None:
            return NEVER
        if is_list(kind):
            raise InvalidInputError(f"filter on {name!r}: the table holds lists there; test what they contain")
        literals = _literals(name, kind, values)
        if not literals:
            return NEVER
        same = f"{column} = {literals[0]}" if len(literals) == 1 else f"{column} IN ({', '.join(literals)})"
        return _present(column, same)

    def compares(self, name: str, comparison: Comparison, value: object) -> Condition:
        """Test that a field is less or greater than a value; text is compared by code points."""
        column, kind = self._find(name)
        if kind is None:
            return NEVER
        if isinstance(value, bool) or kinds.is_boolean(kind):
            raise InvalidInputError(
                f"filter on {name!r}: {comparison} does not compare True and False; {value!r:.60} was given, the table "
                f"holds {kind}"
            )
        if isinstance(value, float) and math.isnan(value):
            return NEVER
        if kinds.is_integer(kind) and is_number(value):
            bound = _whole(value, math.floor if comparison in ("<=", ">") else math.ceil)
            least, most = _bounds(kind)
            if not least <= bound <= most:
                return _present(column, "true") if (bound > most) == (comparison[0] == "<") else NEVER
            value = bound
        return _present(column, f"{column} {comparison} {literal(value, kind, field=name)}")

    def is_missing(self, name: str) -> Condition:
        """Test that a passage has no value in a field."""
        column, kind = self._find(name)
        if kind is None:
            return ALWAYS
        if name in self.own and is_text(kind):  # the table's own texts are never null
            return Condition(f"{column} = ''", f"{column} != ''")
        return Condition(f"{column} IS NULL", f"{column} IS NOT NULL")

    def is_empty(self, name: str) -> Condition:
        """Test that a field is missing, an empty text or an empty list."""
        column, kind = self._find(name)
        missing = self.is_missing(name)
        if kind is not None and is_text(kind):
            return any_of([missing, _present(column, f"{column} = ''")])
        if kind is not None and is_list(kind):
            return any_of([missing, _present(column, f"array_length({column}) = 0")])
        return missing

    def has(self, name: str, value: object) -> Condition:
        """Test that a list contains a value."""
        column, items = self._items(name)
        if items is None:
            return NEVER
        return any_of(_present(column, f"array_has({column}, {each})") for each in _literals(name, items, [value]))

    def includes(self, name: str, text: object, *, ignore_case: bool = False) -> Condition:
        """Test that a text includes another one."""
        column, kind = self._find(name)
        if not isinstance(text, str):
            raise InvalidInputError(f"filter on {name!r}: give a text to look for, not {text!r:.60}")
        if kind is None:
            return NEVER
        if not is_text(kind):
            raise InvalidInputError(f"filter on {name!r}: the table holds {kind} there, not text")
        if ignore_case:
            return _present(column, f"contains(lower({column}), {text_literal(text.lower())})")
        return _present(column, f"contains({column}, {text_literal(text)})")

    def holds_lists(self, name: str) -> bool:
        """Tell whether a field has lists."""
        kind = self._find(name)[1]
        return kind is not None and is_list(kind)

    def _items(self, name: str) -> tuple[str, pa.DataType | None]:
        column, kind = self._find(name)
        if kind is not None and not is_list(kind):
            raise InvalidInputError(f"filter on {name!r}: the table holds {kind} there, not lists")
        return column, None if kind is None else kind.value_type

    def _find(self, name: str) -> tuple[str, pa.DataType | None]:
        """Return a field as SQL, with its type; None where no passage has it."""
        if not isinstance(name, str):
            raise InvalidInputError(f"filter: {name!r:.60} is not the name of a field")
        whole = self.own.get(name, column_of(name))
        if whole in self.types:
            return f"`{whole}`", self.types[whole]
        first, *rest = name.split(".")
        path, kind = [column_of(first)], self.types.get(column_of(first))
        for step in rest:
            if kind is None or not kinds.is_struct(kind) or kind.get_field_index(step) < 0:
                return "", None
            path, kind = [*path, step], kind.field(step).type
        return ".".join(f"`{step}`" for step in path), kind


def _present(column: str, sql: str) -> Condition:
    """Return the condition of SQL on a column; it fails where the column has no value."""
    if sql == "true":
        return Condition(f"{column} IS NOT NULL", f"{column} IS NULL")
    return Condition(sql, f"(NOT ({sql}) OR {column} IS NULL)")


def _literals(name: str, kind: pa.DataType, values: Iterable[object]) -> list[str]:
    """Return values as SQL, without the numbers that a column of this type cannot have."""
    found = []
    for value in values:
        if isinstance(value, float) and math.isnan(value):
            continue
        if kinds.is_integer(kind) and is_number(value):
            least, most = _bounds(kind)
            if _whole(value, math.floor) != value or not least <= value <= most:
                continue
        found.append(literal(value, kind, field=name))
    return found


def _whole(value: Any, rounded: Callable[[Any], int]) -> int:  # noqa: ANN401 - int, float or Decimal
    """Return a number rounded to a whole one; beyond all integer types where it is infinite."""
    if isinstance(value, Decimal) and not value.is_finite():
        value = float(value)
    if isinstance(value, float) and math.isinf(value):
        return 2**64 if value > 0 else -(2**64)
    return rounded(value)


def _bounds(kind: pa.DataType) -> tuple[int, int]:
    bits = kind.bit_width
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if kinds.is_signed_integer(kind) else (0, 2**bits - 1)
