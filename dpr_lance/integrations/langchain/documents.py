"""LangChain's documents and filters as those of a table, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from langchain_core.documents import Document as LangChainDocument

from dpr_lance.documents.document import Document
from dpr_lance.errors import InvalidInputError
from dpr_lance.integrations.columns import read_metadata, stored_metadata, table_card
from dpr_lance.integrations.filters import Comparison, Condition, Fields, all_of, any_of
from dpr_lance.records.hits import Hit
from dpr_lance.records.passage import Passage
from dpr_lance.retriever import Retriever
from dpr_lance.table.filters import Filter
from dpr_lance.table.rows import document_hash_of
from dpr_lance.text.splitter import splitter_name

LangChainFilter: TypeAlias = Mapping[str, Any] | Filter
"""A mapping such as `{"year": {"$gt": 2000}}`, or what `where` of a search takes."""

WHOLE = splitter_name(None)
"""The splitter of a table that keeps each document as one passage."""
TITLE = "title"
"""The metadata key that is the document's title, where it is a text."""


def table_document(document: LangChainDocument, identity: str | None, place: str) -> Document:
    """Return a document for the table. Without an id it gets one from its content, so that it is stored once."""
    if not isinstance(document, LangChainDocument):
        raise InvalidInputError(f"{place}: give a LangChain Document, not {type(document).__name__} ({document!r:.60})")
    metadata = dict(document.metadata)
    title = metadata.pop(TITLE) if isinstance(metadata.get(TITLE), str) else ""
    made = Document(document.page_content, title, None, stored_metadata(metadata, place=place)).checked(place=place)
    name = document.id if identity is None else identity
    name = document_hash_of(made, None) if name is None else name
    return Document(made.text, made.title, name, made.metadata).checked(place=place)


def keeps_whole(retriever: Retriever) -> bool:
    """Tell whether a table keeps each document as one passage, so that a passage has the document's id."""
    card = table_card(retriever)
    return card is None or card.splitter == WHOLE


def langchain_document(found: Hit | Passage, *, whole: bool) -> LangChainDocument:
    """Return a passage for LangChain, under the id of its document where the table keeps documents whole."""
    title = {TITLE: found.title} if found.title else {}
    return LangChainDocument(
        page_content=found.text,
        id=found.document_id if whole else found.id,
        metadata=title | read_metadata(found),
    )


def langchain_documents(found: Sequence[Hit | Passage], retriever: Retriever) -> list[LangChainDocument]:
    """Return passages of a table for LangChain."""
    whole = keeps_whole(retriever)
    return [langchain_document(each, whole=whole) for each in found]


def where_of(given: LangChainFilter, retriever: Retriever) -> Filter:
    """Return a filter for a search; raise `InvalidInputError` for an unknown operator or an unusable value."""
    if not isinstance(given, Mapping):
        return given
    return _condition(given, Fields.of(retriever, title=TITLE)).holds


def _condition(given: object, fields: Fields) -> Condition:
    if not isinstance(given, Mapping):
        raise InvalidInputError(f"filter: give a mapping such as {{'year': {{'$gt': 2000}}}}, not {given!r:.60}")
    return all_of(_entry(name, value, fields) for name, value in given.items())


def _entry(name: str, value: Any, fields: Fields) -> Condition:  # noqa: ANN401 - any value of a filter
    if name in ("$and", "$or"):
        if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
            raise InvalidInputError(f"filter: {name} takes a list of filters, not {value!r:.60}")
        return (all_of if name == "$and" else any_of)(_condition(each, fields) for each in value)
    if name == "$not":
        return ~_condition(value, fields)
    if isinstance(name, str) and name.startswith("$"):
        raise InvalidInputError(f"filter: {name} is not known here; $and, $or and $not combine filters of fields")
    if not isinstance(value, Mapping):
        return fields.equals(name, value)
    if not value:
        raise InvalidInputError(f"filter on {name!r}: give an operator and a value, as {{'$gt': 2000}}")
    return all_of(_test(name, operator, operand, fields) for operator, operand in value.items())


def _test(name: str, operator: str, operand: Any, fields: Fields) -> Condition:  # noqa: ANN401, PLR0911 - see below
    match operator:
        case "$eq":
            return fields.equals(name, operand)
        case "$ne":
            return ~fields.equals(name, operand)
        case "$gt" | "$gte" | "$lt" | "$lte":
            return fields.compares(name, COMPARISONS[operator], operand)
        case "$in":
            return fields.is_in(name, _values(name, operator, operand))
        case "$nin":
            return ~fields.is_in(name, _values(name, operator, operand))
        case "$between":
            low, high = _pair(name, operand)
            return all_of([fields.compares(name, ">=", low), fields.compares(name, "<=", high)])
        case "$exists":
            if not isinstance(operand, bool):
                raise InvalidInputError(f"filter on {name!r}: $exists takes True or False, not {operand!r:.60}")
            return ~fields.is_missing(name) if operand else fields.is_missing(name)
        case "$contains":
            return fields.has(name, operand) if fields.holds_lists(name) else fields.includes(name, operand)
        case "$not":
            negated = operand if isinstance(operand, Mapping) else {"$eq": operand}
            return ~all_of(_test(name, inner, value, fields) for inner, value in negated.items())
    raise InvalidInputError(
        f"filter on {name!r}: {operator!r:.60} is not an operator; use $eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, "
        f"$between, $exists, $contains or $not"
    )


COMPARISONS: Mapping[str, Comparison] = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}


def _values(name: str, operator: str, operand: object) -> Sequence[Any]:
    if isinstance(operand, str | bytes) or not isinstance(operand, Sequence | set | frozenset):
        raise InvalidInputError(f"filter on {name!r}: {operator} takes a list of values, not {operand!r:.60}")
    return list(operand)


def _pair(name: str, operand: object) -> Sequence[Any]:
    values = _values(name, "$between", operand)
    if len(values) != 2:
        raise InvalidInputError(
            f"filter on {name!r}: $between takes the lowest and the highest value, not {operand!r:.60}"
        )
    return values
