"""`adopt`: opens a table that plain LanceDB has made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import lancedb

from dpr_lance.checks import checked_storage_options, checked_text
from dpr_lance.connection import connect
from dpr_lance.encoders.encoder import Encoder
from dpr_lance.errors import InvalidInputError
from dpr_lance.indexes.maintenance import ensure_text_index
from dpr_lance.lancedb.embedding_function import DprEmbeddings
from dpr_lance.retriever import Retriever
from dpr_lance.table.address import DEFAULT_TABLE, checked_table
from dpr_lance.table.adoption import Named, adopt_table, function_of, is_ours, loosen, opened
from dpr_lance.table.completion import complete_rows
from dpr_lance.table.encoder import EncoderSource, check_source, loaded, source_names
from dpr_lance.table.schema import TableCard
from dpr_lance.table.store import Store
from dpr_lance.text.language import ENGLISH, Language, checked_language
from dpr_lance.text.splitter import splitter_name


def adopt(
    uri: str | os.PathLike[str],
    *,
    table: str = DEFAULT_TABLE,
    id: str | None = None,  # noqa: A002 - the name of the field
    title: str | None = None,
    text: str | None = None,
    encoder: EncoderSource | None = None,
    storage_options: Mapping[str, str] | None = None,
    language: Language = ENGLISH,
) -> Retriever:
    """Open a table that plain LanceDB has made, after adding the columns and the index that this library needs.

    Nothing is embedded, and the values in your columns stay. Each row becomes a document of one passage. `id`, `title`
    and `text` name your columns; by default `id` and `title`, where there are such columns, and the source column of
    the table's embedding function `dpr`, else `text`. Whole numbers become strings; without an id column, ids are
    random. Your other columns are metadata. `encoder`: what made the column `vector`, where that was not `dpr`; you
    answer for it, and `check` shows whether it is true.

    Rows that plain LanceDB adds later are completed by `embed` or `optimize`. Interrupted, call it again. For a table
    of `connect`, it only lets plain LanceDB add such rows to one of an earlier version.

        retriever = dpr_lance.adopt("notes.lance", table="notes", id="key")

    Raises `TableError` when there is no such table, and before it changes anything `InvalidInputError` when it cannot
    be adopted: vectors of another dimension, no text, ids that are stored twice, columns of other types with our names.
    """
    checked_table(table)
    options = checked_storage_options(storage_options)
    for name, value in (("id", id), ("title", title), ("text", text)):
        if value is not None:
            checked_text(value, name=name, place="adopt()")
            if not value.strip():
                raise InvalidInputError(f"adopt(): {name}={value!r} is blank: name a column, or leave it out")
    if encoder is not None:
        check_source(encoder)
    language = checked_language(language)
    store = Store(uri, table, options)
    database = lancedb.connect(store.uri, storage_options=options)
    found = opened(database, table, store.files)
    if not is_ours(found):
        made, names = _encoder(function_of(found, store.place), encoder, store.place)
        card = TableCard(made.card, names, splitter_name(None), language=language)
        adopt_table(store, database, Named(id, title, text), card)
        encoder = encoder if names else made
    loosen(store)
    complete_rows(store)
    ensure_text_index(store)
    return connect(uri, encoder=encoder, table=table, storage_options=storage_options)


def _encoder(entry: Mapping[str, Any], source: EncoderSource | None, place: str) -> tuple[Encoder, tuple[str, ...]]:
    """Return the encoder that made the table's vectors, and what the table stores to load it again."""
    if not entry and source is None:
        raise InvalidInputError(
            f"{place} does not say what made its vectors: name it, adopt(..., encoder=...), or make the table with the "
            f"embedding function 'dpr'"
        )
    if not entry and source is not None:
        return loaded(source), source_names(source)
    stored = entry["model"] if source is None else {"encoder": source, "fingerprint": entry["model"].get("fingerprint")}
    function = DprEmbeddings.create(**stored)
    return function.loaded(), function.sources()
