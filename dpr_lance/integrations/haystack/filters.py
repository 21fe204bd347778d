"""Filters in Haystack's grammar as conditions of a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import pyarrow as pa
from haystack.errors import FilterError

from dpr_lance.errors import InvalidInputError
from dpr_lance.integrations.filters import NEVER, Comparison, Condition, Fields, all_of, any_of
from dpr_lance.integrations.haystack.metadata import MetadataColumns, json_of_list, kind_of_value, microseconds
from dpr_lance.table.schema import DOCUMENT_ID

_COLUMNS = {"id": DOCUMENT_ID, "content": "text"}
"""Columns of the fields of a document that are not metadata."""
_OTHER_FIELDS = frozenset({"blob", "score", "embedding", "sparse_embedding", "meta"})
_ORDERINGS: tuple[Comparison, ...] = ("<", "<=", ">", ">=")
_MOST_NESTED = 60
"""Levels of logical operators within each other."""


def sql_of(filters: Mapping[str, Any] | None, types: Mapping[str, pa.DataType]) -> str | None:
    """Return the SQL of filters on a table with columns of these types; None for no filter.

    Raises `FilterError` for filters that are not in Haystack's grammar, and for values that cannot be compared.
    """
    if filters is None or filters == {}:
        return None
    try:
        return _Translation(types).condition(filters, 0).holds
    except InvalidInputError as error:
        raise FilterError(str(error)) from error


class _Translation:
    def __init__(self, types: Mapping[str, pa.DataType]) -> None:
        self._types = types
        self._columns = MetadataColumns(types)
        self._operators: dict[str, Callable[[str, Any], Condition]] = {
            "==": self._equals,
            "!=": lambda field, value: ~self._equals(field, value),
            "in": self._is_in,
            "not in": lambda field, value: ~self._is_in(field, value),
        }

    def condition(self, filters: object, depth: int) -> Condition:
        if not isinstance(filters, Mapping):
            raise FilterError(f"a filter is a dictionary, not {filters!r:.60}")
        if depth > _MOST_NESTED:
            raise FilterError(f"filters are nested more than {_MOST_NESTED} levels deep")
        operator = filters.get("operator")
        if not isinstance(operator, str):
            raise FilterError(f"a filter needs an 'operator': {dict(filters)!r:.200}")
        if "field" in filters:
            return self._comparison(operator, filters)
        conditions = filters.get("conditions")
        if not isinstance(conditions, (list, tuple)):
            raise FilterError(f"a filter needs a 'field', or a list of 'conditions': {dict(filters)!r:.200}")
        parts = [self.condition(each, depth + 1) for each in conditions]
        match operator.upper():
            case "AND":
                return all_of(parts)
            case "OR":
                return any_of(parts)
            case "NOT":
                return ~all_of(parts)
        raise FilterError(f"operator {operator!r:.60} is not AND, OR or NOT")

    def _comparison(self, operator: str, filters: Mapping[str, Any]) -> Condition:
        field = filters["field"]
        if not isinstance(field, str):
            raise FilterError(f"the field of a filter is a string, not {field!r:.60}")
        if "value" not in filters:
            raise FilterError(f"the filter on {field!r} needs a 'value'")
        for ordering in _ORDERINGS:
            if operator == ordering:
                return self._compares(field, ordering, filters["value"])
        if operator not in self._operators:
            raise FilterError(
                f"filter on {field!r}: operator {operator!r:.60} is not one of "
                f"{', '.join([*self._operators, *_ORDERINGS])}"
            )
        return self._operators[operator](field, filters["value"])

    def _present(self, field: str) -> dict[str, str]:
        """Return the columns of a field by the kind of their values."""
        if field in _COLUMNS:
            return {"text": _COLUMNS[field]} if self._types else {}
        if field in _OTHER_FIELDS:
            raise FilterError(f"filter on {field!r}: filters test id, content and fields of meta")
        return self._columns.present(field.removeprefix("meta."))

    def _fields(self, field: str, column: str) -> Fields:
        return Fields(self._types, {field: column})

    def _equals(self, field: str, value: object) -> Condition:
        present = self._present(field)
        if value is None:
            if field in _COLUMNS:
                return NEVER
            return all_of(Condition(f"`{name}` IS NULL", f"`{name}` IS NOT NULL") for name in present.values())
        if isinstance(value, list):
            kind, value = "list", json_of_list(value)
        elif isinstance(value, datetime):
            kind, value = "time", microseconds(value)
        else:
            found = kind_of_value(value)
            if found is None:
                raise FilterError(f"filter on {field!r}: {value!r:.60} cannot be compared")
            kind = found
        parts = [self._fields(field, present[kind]).equals(field, value)] if kind in present else []
        if kind == "text" and "time" in present and (time := microseconds(value)) is not None:
            parts.append(self._fields(field, present["time"]).equals(field, time))
        return any_of(parts)

    def _is_in(self, field: str, values: object) -> Condition:
        if not isinstance(values, list):
            raise FilterError(f"filter on {field!r}: 'in' and 'not in' take a list, not {values!r:.60}")
        by_kind: dict[str, list[object]] = {}
        others: list[Condition] = []
        present = self._present(field)
        for value in values:
            kind = kind_of_value(value)
            if kind in ("number", "flag") or (kind == "text" and microseconds(value) is None):
                by_kind.setdefault(kind, []).append(value)
            else:
                others.append(self._equals(field, value))
        parts = [
            self._fields(field, present[kind]).is_in(field, some) for kind, some in by_kind.items() if kind in present
        ]
        return any_of([*parts, *others])

    def _compares(self, field: str, ordering: Comparison, value: object) -> Condition:
        present = self._present(field)
        if value is None:
            return NEVER
        kind = "number"
        if isinstance(value, (str, datetime)):
            kind, text = "time", value
            if (value := microseconds(value)) is None:
                raise FilterError(
                    f"filter on {field!r}: {ordering} compares numbers, and dates as texts in the form of ISO 8601; "
                    f"{text!r:.60} is neither"
                )
        elif kind_of_value(value) != "number":
            raise FilterError(f"filter on {field!r}: {ordering} cannot compare {value!r:.60}")
        if kind in present:
            return self._fields(field, present[kind]).compares(field, ordering, value)
        if present:
            raise FilterError(
                f"filter on {field!r}: {ordering} compares it with {'a time' if kind == 'time' else 'a number'}, the "
                f"documents hold {', '.join(sorted(present))} there"
            )
        return NEVER
