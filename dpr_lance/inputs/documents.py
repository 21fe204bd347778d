"""What `add` accepts, as a stream of documents: mappings, `Document`s, Arrow tables and readers, data frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, cast, get_args

import pyarrow as pa

from dpr_lance.checks import checked_choice, checked_text, refused, shown
from dpr_lance.documents.arrow_records import ArrowRecord, ArrowRecords
from dpr_lance.documents.document import Document
from dpr_lance.documents.field_types import UnstorableError
from dpr_lance.documents.values import PLAIN, known
from dpr_lance.errors import InvalidInputError
from dpr_lance.records.reports import OnError, Skipped
from dpr_lance.table.schema import check_column_name

_ARROW_SOURCE = "documents"


def document_stream(documents: object, *, on_error: OnError) -> tuple[Iterator[Document | Skipped], int | None]:
    """Return the documents of an iterable, an Arrow table or reader, or a data frame, and their number if known.

    With `on_error="skip"` a document that cannot be used becomes a `Skipped`; with `"raise"` it raises
    `InvalidInputError` when its turn comes, naming its position.
    """
    checked_choice(on_error, "on_error", get_args(OnError))
    if isinstance(documents, (str, bytes, Mapping, Document)):
        raise InvalidInputError(
            f"documents={shown(documents)}: add() takes an iterable of documents, not one {type(documents).__name__}: "
            f"write add([document])"
        )
    total = len(documents) if hasattr(documents, "__len__") else None
    if hasattr(documents, "__arrow_c_stream__"):
        return _read(_arrow_rows(documents), on_error), total
    if not isinstance(documents, Iterable):
        raise InvalidInputError(
            f"documents={shown(documents)}: add() takes an iterable of documents, an Arrow table or reader, or a data "
            f"frame, not {type(documents).__name__}"
        )
    return _read(documents, on_error), total


def with_index(documents: Any, index: str) -> Any:  # noqa: ANN401 - pandas need not be installed
    """Return a pandas data frame with its index as a column of this name.

    Raises `InvalidInputError` for anything else, an index of several levels, or a name that a column has.
    """
    name = checked_text(index, name="the name of a field", place="index")
    if not hasattr(documents, "reset_index") or not hasattr(documents, "columns"):
        raise refused("index", index, f"documents are {type(documents).__name__}, which has no index as pandas' frames")
    if getattr(documents.index, "nlevels", 1) != 1 or name in documents.columns:
        why = "there is a column of this name" if name in documents.columns else "the frame's index has several levels"
        raise refused("index", index, f"{why}; call reset_index() yourself")
    return documents.reset_index(names=name)


def storable(document: Document, *, place: str) -> Document:
    """Return the document with its metadata as it is stored, and the types of all values that are not plain.

    Raises `InvalidInputError` naming `place` for a name or a value that a column cannot have.
    """
    changed: dict[str, Any] = {}
    types: dict[str, pa.DataType] = {}
    for name, value in document.metadata.items():
        check_column_name(name, place=place)
        if value is None or name in document.types:
            continue
        try:
            changed[name], kind = known(value)
        except UnstorableError as error:
            raise InvalidInputError(f"{place}: the field {name!r} cannot be stored: {value!r:.60} ({error})") from error
        if kind is not PLAIN.get(type(value)):
            types[name] = kind
    if not types:
        return document
    return replace(document, metadata={**document.metadata, **changed}, types={**document.types, **types})


def _arrow_rows(source: object) -> Iterator[ArrowRecord]:
    try:
        reader = pa.RecordBatchReader.from_stream(source)
        records = ArrowRecords(reader.schema, place=_ARROW_SOURCE)
        for batch in reader:
            yield from records.rows(batch)
    except (pa.ArrowException, OSError) as error:
        raise InvalidInputError(f"{_ARROW_SOURCE}: they cannot be read as Arrow data ({error})") from error


def _read(documents: Iterable[Any], on_error: OnError) -> Iterator[Document | Skipped]:
    for number, item in enumerate(documents):
        if isinstance(item, Skipped):
            yield item
            continue
        place = f"documents[{number}]"
        try:
            document = storable(_document(item, place), place=place)
        except InvalidInputError as error:
            if on_error == "raise":
                raise
            yield Skipped(place, str(error))
        else:
            yield document


def _document(item: object, place: str) -> Document:
    if isinstance(item, Document):
        return item.checked(place=place)
    if isinstance(item, ArrowRecord):
        if item.problem is not None:
            raise InvalidInputError(f"{place}: {item.problem}")
        return Document.from_mapping(item.fields, place=place, types=item.types)
    return Document.from_mapping(cast("Mapping[str, Any]", item), place=place)
