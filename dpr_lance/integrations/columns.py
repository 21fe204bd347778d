"""Metadata of a framework's documents as columns, and back.

A key is its column's name, except where a column cannot have it: one of the table's own names, or one with a dot or a
backtick. Such a key is written in another form, which is read back as the key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

import pyarrow as pa

from dpr_lance.errors import InvalidInputError
from dpr_lance.records.hits import Hit
from dpr_lance.records.passage import Passage
from dpr_lance.retriever import Retriever
from dpr_lance.table.schema import TableCard, is_reserved

ESCAPED = "metadata:"
"""Prefix of the columns of keys that cannot be columns' names."""
_FIELDS = frozenset({"id", "title", "text"})
"""What a mapping that is added has besides metadata."""


def column_of(key: str) -> str:
    """Return the name of the column that holds a metadata key; `key_of` is the inverse."""
    if key and not is_reserved(key) and key not in _FIELDS and not set(key) & set(".`\0") and key[:9] != ESCAPED:
        return key
    return ESCAPED + quote(key, safe=" ", errors="surrogatepass").replace(".", "%2E")


def key_of(column: str) -> str:
    """Return the metadata key of a column."""
    return unquote(column.removeprefix(ESCAPED), errors="surrogatepass") if column.startswith(ESCAPED) else column


def stored_metadata(metadata: Mapping[str, Any], *, place: str) -> dict[str, Any]:
    """Return metadata by column; raise `InvalidInputError` naming `place` for a key that is not a string."""
    for key in metadata:
        if not isinstance(key, str):
            raise InvalidInputError(f"{place}: metadata keys must be strings, {key!r:.60} is not")
    return {column_of(key): value for key, value in metadata.items() if value is not None}


def read_metadata(found: Hit | Passage) -> dict[str, Any]:
    """Return the metadata of a passage by key, without what is missing: another document may have that field."""
    return {key_of(column): _present(value) for column, value in found.metadata.items() if value is not None}


def _present(value: Any) -> Any:  # noqa: ANN401 - any metadata value
    if isinstance(value, Mapping):
        return {key: _present(item) for key, item in value.items() if item is not None}
    return value


def table_columns(retriever: Retriever) -> dict[str, pa.DataType]:
    """Return the columns that filters may use, with their types; none before the first `add`."""
    store = retriever._store
    return {} if store.find() is None else {field.name: field.type for field in store.schema()}


def table_card(retriever: Retriever) -> TableCard | None:
    """Return the table's card: its encoder and its splitter; None before the first `add`."""
    store = retriever._store
    # A third of the time of `find_card`, which reads what is known about the table again.
    return None if store.find() is None else store.with_snapshot(lambda snapshot: snapshot.card)
