"""LlamaIndex's metadata filters as filters of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

from dpr_lance.errors import InvalidInputError
from dpr_lance.integrations.filters import ALWAYS, Comparison, Condition, Fields, all_of, any_of
from dpr_lance.integrations.llamaindex.nodes import SOURCE, TITLE
from dpr_lance.retriever import Retriever
from dpr_lance.table.filters import Filter
from dpr_lance.table.schema import DOCUMENT_ID, ID

_COMPARISONS: Mapping[FilterOperator, Comparison] = {
    FilterOperator.GT: ">",
    FilterOperator.GTE: ">=",
    FilterOperator.LT: "<",
    FilterOperator.LTE: "<=",
}
_DOCUMENT, _PASSAGE = "\0document", "\0passage"
"""Names of the table's columns of ids that no metadata key has."""
_OWN = {TITLE: TITLE, "doc_id": SOURCE, "document_id": SOURCE, _DOCUMENT: DOCUMENT_ID, _PASSAGE: ID}


def where_of(
    retriever: Retriever,
    filters: MetadataFilters | Filter = None,
    *,
    node_ids: Sequence[str] | None = None,
    doc_ids: Sequence[str] | None = None,
) -> Filter:
    """Return the filter for nodes that match `filters`, are among `node_ids`, and come from one of `doc_ids`.

    None stands for every node. Raises `InvalidInputError` for a value that cannot be compared with its field.
    """
    if filters is not None and not isinstance(filters, MetadataFilters):
        if node_ids is not None or doc_ids is not None:
            raise InvalidInputError("give ids together with MetadataFilters; a filter of dpr_lance can name ids itself")
        return filters
    if filters is None and node_ids is None and doc_ids is None:
        return None
    fields = Fields(Fields.of(retriever).types, _OWN)
    conditions = [] if filters is None else [_condition(filters, fields)]
    if node_ids is not None:
        conditions.append(any_of([fields.is_in(_DOCUMENT, node_ids), fields.is_in(_PASSAGE, node_ids)]))
    if doc_ids is not None:
        plain = all_of([fields.is_missing(SOURCE), fields.is_in(_DOCUMENT, doc_ids)])
        conditions.append(any_of([fields.is_in(SOURCE, doc_ids), plain]))
    return all_of(conditions).holds


def _condition(given: MetadataFilters, fields: Fields) -> Condition:
    conditions = [
        _condition(each, fields) if isinstance(each, MetadataFilters) else _test(each, fields) for each in given.filters
    ]
    if not conditions:
        return ALWAYS
    match given.condition or FilterCondition.AND:
        case FilterCondition.AND:
            return all_of(conditions)
        case FilterCondition.OR:
            return any_of(conditions)
        case FilterCondition.NOT:  # none of them matches
            return ~any_of(conditions)
    raise InvalidInputError(f"filters: the condition {given.condition!r:.60} is not known here")


def _test(given: MetadataFilter, fields: Fields) -> Condition:  # noqa: PLR0911 - one branch for each operator
    name, value, operator = given.key, given.value, given.operator
    match operator:
        case FilterOperator.EQ:
            return fields.equals(name, value)
        case FilterOperator.NE:
            return ~fields.equals(name, value)
        case FilterOperator.GT | FilterOperator.GTE | FilterOperator.LT | FilterOperator.LTE:
            return fields.compares(name, _COMPARISONS[operator], value)
        case FilterOperator.IN:
            return fields.is_in(name, _values(name, operator, value))
        case FilterOperator.NIN:
            return ~fields.is_in(name, _values(name, operator, value))
        case FilterOperator.ANY:
            return any_of(_contains(name, each, fields) for each in _values(name, operator, value))
        case FilterOperator.ALL:
            each_of = [_contains(name, each, fields) for each in _values(name, operator, value)]
            return all_of([~fields.is_missing(name), *each_of])
        case FilterOperator.CONTAINS:
            return _contains(name, value, fields)
        case FilterOperator.TEXT_MATCH:
            return fields.includes(name, value)
        case FilterOperator.TEXT_MATCH_INSENSITIVE:
            return fields.includes(name, value, ignore_case=True)
        case FilterOperator.IS_EMPTY:
            return fields.is_empty(name)
    raise InvalidInputError(f"filter on {name!r}: the operator {operator!r:.60} is not known here")


def _contains(name: str, value: object, fields: Fields) -> Condition:
    """Test that a list contains a value, or a text another one."""
    return fields.has(name, value) if fields.holds_lists(name) else fields.includes(name, value)


def _values(name: str, operator: FilterOperator, value: object) -> Sequence[Any]:
    if not isinstance(value, list):
        raise InvalidInputError(f"filter on {name!r}: {operator.value!r} takes a list of values, not {value!r:.60}")
    return value
