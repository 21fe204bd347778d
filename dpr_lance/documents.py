"""Whatever `add` is given, as a stream of documents: mappings, `Document`s, Arrow tables and readers, data frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import pyarrow as pa

from dpr_lance.checks import checked_choice, shown
from dpr_lance.errors import InvalidInputError
from dpr_lance.records import Document, Skipped
from dpr_lance.schema import checked_metadata

OnError = Literal["raise", "skip"]


@dataclass(frozen=True, slots=True)
class DocumentStream:
    """Documents in order, with those that cannot be used as `Skipped`; `types` are column types the source declares."""

    items: Iterator[Document | Skipped]
    types: Mapping[str, pa.DataType] = field(default_factory=dict)
    total: int | None = None


def document_stream(documents: object, *, on_error: OnError) -> DocumentStream:
    """Return the documents of an iterable, an Arrow table or reader, or a data frame (pandas, polars).

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
        reader = pa.RecordBatchReader.from_stream(documents)
        types = {column.name: _plain(column.type) for column in reader.schema}
        return DocumentStream(_read(_records(reader), on_error), types, total)
    if not isinstance(documents, Iterable):
        raise InvalidInputError(
            f"documents={shown(documents)}: add() takes an iterable of documents, an Arrow table or reader, or a data "
            f"frame, not {type(documents).__name__}"
        )
    return DocumentStream(_read(documents, on_error), total=total)


def _records(reader: pa.RecordBatchReader) -> Iterator[dict[str, Any]]:
    for batch in reader:
        # pandas stores a frame's index under such a name; it is not one of the user's fields.
        names = [name for name in batch.schema.names if not name.startswith("__index_level_")]
        yield from batch.select(names).to_pylist()


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _read(documents: Iterable[Any], on_error: OnError) -> Iterator[Document | Skipped]:
    for number, item in enumerate(documents):
        if isinstance(item, Skipped):
            yield item
            continue
        place = f"documents[{number}]"
        try:
            document = (
                item.checked(place=place) if isinstance(item, Document) else Document.from_mapping(item, place=place)
            )
            checked_metadata(document, place=place)
        except InvalidInputError as error:
            if on_error == "raise":
                raise
            yield Skipped(place, str(error))
        else:
            yield document
