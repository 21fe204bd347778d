"""The table of a document store: opened when it is first used, read, and searched by questions and by vectors."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from haystack import Document
from haystack.utils import Secret

from dpr_lance.connection import connect
from dpr_lance.documents.values import python_records
from dpr_lance.encoders.card import EncoderCard
from dpr_lance.encoders.vectors import Vector
from dpr_lance.integrations.columns import table_columns
from dpr_lance.integrations.haystack.documents import read_document
from dpr_lance.integrations.haystack.filters import sql_of
from dpr_lance.integrations.literals import text_literal
from dpr_lance.integrations.vectors import (
    GivenVectors,
    check_card,
    external_card,
    given,
    log_fallback,
    with_vectors,
)
from dpr_lance.reader.choice import RerankSource
from dpr_lance.records.hits import CANDIDATES, Hits, Mode
from dpr_lance.records.passage import Passage
from dpr_lance.retriever import Retriever
from dpr_lance.table.encoder import EncoderSource
from dpr_lance.table.schema import ID, PASSAGE_COLUMNS, columns_read, metadata_of
from dpr_lance.text.language import Language

SOURCE = "haystack"
"""The source on the card of embeddings that Haystack's components make."""
_ASKED_BY_VECTOR = "a question that is a vector"
"""The text of a question that has none: dense search does not read it."""


class OpenedTable:
    """A table with Haystack's documents; the arguments are those of `DprLanceDocumentStore`."""

    def __init__(
        self,
        uri: str | Path,
        table: str,
        *,
        embedding_dim: int | None,
        encoder: EncoderSource | None,
        return_embedding: bool,
        language: Language | None,
        storage_options: Mapping[str, str | Secret] | None,
    ) -> None:
        self.uri, self.table, self.language = str(uri), table, language
        self.embedding_dim, self.encoder, self.return_embedding = embedding_dim, encoder, return_embedding
        self.storage_options = dict(storage_options or {})
        self._opening = threading.Lock()
        self._opened: Retriever | None = None
        self._by_vector: Retriever | None = None
        self._takes_vectors = False
        """Whether the table's vectors are made by Haystack's embedders."""

    @property
    def retriever(self) -> Retriever:
        """The retriever on the store's table, for everything that a document store does not have."""
        with self._opening:
            if self._opened is None:
                self._opened = self._connected(self.embedding_dim)
            return self._opened

    def close(self) -> None:
        """Let go of the table; the next call opens it again."""
        with self._opening:
            for retriever in (self._opened, self._by_vector):
                if retriever is not None:
                    retriever.close()
            self._opened = self._by_vector = None

    def find(
        self,
        question: str | None,
        top_k: int,
        *,
        embedding: Sequence[float] | None = None,
        filters: dict[str, Any] | None = None,
        mode: Mode | None = None,
        rerank: RerankSource = None,
        candidates: int = CANDIDATES,
    ) -> list[Document]:
        """Return the best documents with their scores, for a question, a vector of one, or both.

        With a vector alone search is dense; else as `Retriever.search`, whose arguments these are. Where BM25 alone
        answers a hybrid search, the reason is logged. Raises `FilterError`, and what `search` raises.
        """
        if top_k == 0 or self.retriever._store.find() is None:
            return []
        hits = self._searched(question, top_k, embedding, self._sql(filters), mode, rerank, candidates)
        vectors = self._vectors(f"{ID} IN ({', '.join(text_literal(hit.id) for hit in hits)})") if hits else {}
        return [read_document(hit, score=hit.score, vector=vectors.get(hit.id)) for hit in hits]

    def _searched(
        self,
        question: str | None,
        k: int,
        embedding: Sequence[float] | None,
        where: str | None,
        mode: Mode | None,
        rerank: RerankSource,
        candidates: int,
    ) -> Hits:
        retriever = self.retriever
        if embedding is None:
            text = question if question is not None else ""
            return log_fallback(retriever.search(text, k, mode=mode, where=where, rerank=rerank, candidates=candidates))
        card = retriever._store.card.encoder
        by_vector = self._retriever_by_vector(retriever, card)
        with given(embedding, card):
            if question is None:
                return by_vector.search(_ASKED_BY_VECTOR, k, mode="dense", where=where, rerank=False)
            return log_fallback(
                by_vector.search(question, k, mode=mode, where=where, rerank=rerank, candidates=candidates)
            )

    def _connected(self, embedding_dim: int | None) -> Retriever:
        options = {
            name: (value.resolve_value() or "") if isinstance(value, Secret) else value
            for name, value in self.storage_options.items()
        }

        def connected(encoder: EncoderSource | None) -> Retriever:
            return connect(
                self.uri, table=self.table, encoder=encoder, storage_options=options or None, language=self.language
            )

        self._takes_vectors = True
        if embedding_dim is not None:
            card = external_card(SOURCE, embedding_dim, source=SOURCE)
            retriever = connected(GivenVectors(card))
            check_card(retriever, card)
            return retriever
        retriever = connected(self.encoder)
        stored = retriever._store.find_card()
        if self.encoder is not None or stored is None or stored.encoder_source:
            self._takes_vectors = False
            return retriever
        retriever.close()
        return connected(GivenVectors(stored.encoder))

    def _retriever_by_vector(self, retriever: Retriever, card: EncoderCard) -> Retriever:
        """Return a retriever that searches by given vectors; the same one until the table has another encoder."""
        if self._takes_vectors:
            return retriever
        with self._opening:
            if self._by_vector is None or self._by_vector._encoder.loaded().card != card:
                self._by_vector = with_vectors(retriever)
            return self._by_vector

    def _sql(self, filters: dict[str, Any] | None) -> str | None:
        return sql_of(filters, table_columns(self.retriever))

    def _passages(self, sql: str) -> list[Passage]:
        """Return the passages that match, in the order in which they were first written."""
        store = self.retriever._store
        if store.find() is None:
            return []

        def read(table: Any) -> pa.Table:  # noqa: ANN401 - of LanceDB
            columns = columns_read(table.schema.names, PASSAGE_COLUMNS)
            return table.search().where(sql).with_row_id(True).select(columns).limit(None).to_arrow()

        rows = python_records(store.retry_on_conflict(read).sort_by("_rowid"))
        return [
            Passage(**{name: row[name] for name in PASSAGE_COLUMNS}, embedded=False, metadata=metadata_of(row))
            for row in rows
        ]

    def _vectors(self, sql: str) -> dict[str, Vector]:
        """Return the vectors of passages by id, where documents are read with their embeddings."""
        return self._read_vectors(sql) if self.return_embedding and self.retriever._store.find() is not None else {}

    def _read_vectors(self, sql: str) -> dict[str, Vector]:
        store = self.retriever._store
        column = store.card.column
        rows: pa.Table = store.select([ID, column], f"({sql}) AND {column} IS NOT NULL")
        return {
            name: np.asarray(vector.values.to_numpy(), dtype=np.float32)
            for name, vector in zip(rows[ID].to_pylist(), rows[column], strict=True)
        }
