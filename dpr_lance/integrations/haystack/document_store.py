"""The document store of Haystack on a table: documents with their metadata, and searches over them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from haystack import Document, default_from_dict, default_to_dict
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.utils import Secret

import dpr_lance
from dpr_lance.checks import checked_strings, checked_whole, shown
from dpr_lance.encoders.vectors import Vector
from dpr_lance.errors import InvalidInputError
from dpr_lance.integrations.columns import table_columns
from dpr_lance.integrations.haystack.documents import changed_document, is_stored, read_document, stored_document
from dpr_lance.integrations.haystack.metadata import STORED, MetadataColumns
from dpr_lance.integrations.haystack.opened_table import OpenedTable
from dpr_lance.integrations.haystack.statistics import MetadataStatistics
from dpr_lance.integrations.vectors import add_with_vectors
from dpr_lance.records.passage import Passage
from dpr_lance.table.address import DEFAULT_TABLE
from dpr_lance.table.encoder import EncoderSource
from dpr_lance.table.filters import among
from dpr_lance.table.schema import DOCUMENT_ID, ID
from dpr_lance.text.language import Language

_ALL = f"{ID} IS NOT NULL"


class DprLanceDocumentStore(OpenedTable, MetadataStatistics):
    """Haystack's documents in a table of dpr_lance, each as one passage.

    `uri` and `table` as in `dpr_lance.connect`; the table is opened when it is first used. Vectors come from one of two
    sources, for the whole table. With `embedding_dim`, or where the first documents have embeddings, they are those of
    Haystack's embedders: a document without one is found by BM25. Else the table's encoder makes them as documents are
    written (`encoder` as in `connect`, by default the packaged one), unless `embed=False`. `title_field` names the
    metadata field with a document's title, which BM25 and the encoder read with the text; None: no titles.
    `return_embedding`: whether documents that are read have their embedding, in float32. `language` is that of BM25.
    Values of `storage_options` may be `Secret`s, which are not written by `to_dict`.

    The first use raises `EncoderMismatchError` for another `embedding_dim` than the table's.
    """

    def __init__(  # noqa: PLR0913 - keywords, each with its default
        self,
        uri: str | Path,
        *,
        table: str = DEFAULT_TABLE,
        embedding_dim: int | None = None,
        encoder: EncoderSource | None = None,
        embed: bool = True,
        title_field: str | None = "title",
        return_embedding: bool = False,
        language: Language | None = None,
        storage_options: Mapping[str, str | Secret] | None = None,
    ) -> None:
        if embedding_dim is not None:
            checked_whole(embedding_dim, "embedding_dim", "give the number of dimensions of the embeddings", least=1)
            if encoder is not None:
                raise InvalidInputError("embedding_dim and encoder exclude each other: vectors have one source")
        super().__init__(
            uri,
            table,
            embedding_dim=embedding_dim,
            encoder=encoder,
            return_embedding=return_embedding,
            language=language,
            storage_options=storage_options,
        )
        self.embed, self.title_field = embed, title_field

    def to_dict(self) -> dict[str, Any]:
        """Return the store's arguments; raise `InvalidInputError` for an encoder that is an object."""
        if self.encoder is not None and not isinstance(self.encoder, (str, Path, tuple)):
            raise InvalidInputError(
                f"encoder={shown(self.encoder)}: an object cannot be written down; name the encoder"
            )
        encoder = str(self.encoder) if isinstance(self.encoder, Path) else self.encoder
        written: dict[str, Any] = default_to_dict(
            self,
            uri=self.uri,
            table=self.table,
            embedding_dim=self.embedding_dim,
            encoder=list(encoder) if isinstance(encoder, tuple) else encoder,
            embed=self.embed,
            title_field=self.title_field,
            return_embedding=self.return_embedding,
            language=self.language,
            storage_options={
                name: value.to_dict() if isinstance(value, Secret) else value
                for name, value in self.storage_options.items()
            },
        )
        return written

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> DprLanceDocumentStore:
        """Return the store of these arguments; the inverse of `to_dict`."""
        arguments = dict(data.get("init_parameters", {}))
        if isinstance(pair := arguments.get("encoder"), list):
            arguments["encoder"] = tuple(pair)
        arguments["storage_options"] = {
            name: Secret.from_dict(value) if isinstance(value, dict) else value
            for name, value in (arguments.get("storage_options") or {}).items()
        }
        store: DprLanceDocumentStore = default_from_dict(cls, {**data, "init_parameters": arguments})
        return store

    def count_documents(self) -> int:
        """Return the number of documents."""
        return len(self.retriever)

    def filter_documents(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """Return the documents that match; all without filters. Raises `FilterError`."""
        sql = self._sql(filters) or _ALL
        vectors = self._vectors(sql)
        return [read_document(passage, vector=vectors.get(passage.id)) for passage in self._passages(sql)]

    def write_documents(self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """Store documents; return how many were written.

        FAIL (and NONE, the default) raises `DuplicateDocumentError` before anything is written where an id is stored,
        or given twice. SKIP leaves stored documents as they are, OVERWRITE replaces them. Documents with the same text
        keep the vector that they have. Raises `InvalidInputError` (a `ValueError`) naming a document that cannot be
        stored, or an embedding that is not one of the table's.
        """
        if not isinstance(documents, list) or not all(isinstance(document, Document) for document in documents):
            raise InvalidInputError(f"documents={shown(documents)}: give a list of haystack Documents")
        if not isinstance(policy, DuplicatePolicy):
            raise InvalidInputError(f"policy={shown(policy)}: give a DuplicatePolicy")
        if not documents:
            return 0
        chosen = self._chosen(documents, policy)
        if chosen:
            self._write(chosen)
        return len(chosen)

    def delete_documents(self, document_ids: list[str]) -> None:
        """Delete the documents with these ids; unknown ids are ignored."""
        retriever = self.retriever
        names = checked_strings(document_ids, "document_ids", "give a list of ids")
        if not names or STORED not in table_columns(retriever):
            retriever.delete(names)
            return
        # An id such as "a#0" may be a document's, while it is also that of the passage of another document, "a".
        retriever.delete(where=among(DOCUMENT_ID, names))
        rows = retriever._store.select([ID, STORED], among(ID, names)).to_pylist()
        retriever.delete([row[ID] for row in rows if row[STORED] is None])

    def delete_all_documents(self) -> None:
        """Delete all documents; the table stays, with its encoder and its columns."""
        self.retriever.delete(where=_ALL)

    def delete_by_filter(self, filters: dict[str, Any]) -> int:
        """Delete the documents that match; return how many. Raises `FilterError`."""
        return self.retriever.delete(where=self._sql(filters) or _ALL)

    def update_by_filter(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """Set these fields in the metadata of the documents that match; return how many. Vectors stay."""
        if not isinstance(meta, dict):
            raise InvalidInputError(f"meta={shown(meta)}: give a dictionary of fields")
        retriever, sql = self.retriever, self._sql(filters) or _ALL
        columns = MetadataColumns(table_columns(retriever))
        passages = self._passages(sql)
        own = [passage for passage in passages if is_stored(passage)]
        rows = [changed_document(passage, meta, columns, self.title_field) for passage in own]
        self._add(rows, {passage.document_id: vector for passage, vector in self._with_vectors(own, sql)})
        others = [passage.id for passage in passages if not is_stored(passage)]
        if others:
            retriever.update(others, columns.values(meta))
        return len(passages)

    async def count_documents_async(self) -> int:
        """Return the number of documents."""
        return await asyncio.to_thread(self.count_documents)

    async def filter_documents_async(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """Do what `filter_documents` does in a thread."""
        return await asyncio.to_thread(self.filter_documents, filters)

    async def write_documents_async(
        self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE
    ) -> int:
        """Do what `write_documents` does in a thread."""
        return await asyncio.to_thread(self.write_documents, documents, policy)

    async def delete_documents_async(self, document_ids: list[str]) -> None:
        """Do what `delete_documents` does in a thread."""
        await asyncio.to_thread(self.delete_documents, document_ids)

    async def delete_all_documents_async(self) -> None:
        """Do what `delete_all_documents` does in a thread."""
        await asyncio.to_thread(self.delete_all_documents)

    async def delete_by_filter_async(self, filters: dict[str, Any]) -> int:
        """Do what `delete_by_filter` does in a thread."""
        return await asyncio.to_thread(self.delete_by_filter, filters)

    async def update_by_filter_async(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """Do what `update_by_filter` does in a thread."""
        return await asyncio.to_thread(self.update_by_filter, filters, meta)

    def _metas(self, filters: dict[str, Any] | None) -> Iterable[dict[str, Any]]:
        return (read_document(passage).meta for passage in self._passages(self._sql(filters) or _ALL))

    def _matching(self, filters: dict[str, Any] | None) -> int:
        return self.retriever._store.count(self._sql(filters))

    def _chosen(self, documents: Sequence[Document], policy: DuplicatePolicy) -> list[Document]:
        """Return the documents to write, each id once."""
        store = self.retriever._store
        names = list(dict.fromkeys(document.id for document in documents))
        stored: set[str] = set()
        if store.find() is not None:
            stored = set(store.select([DOCUMENT_ID], among(DOCUMENT_ID, names))[DOCUMENT_ID].to_pylist())
        if policy == DuplicatePolicy.OVERWRITE:
            return list({document.id: document for document in documents}.values())
        if policy == DuplicatePolicy.SKIP:
            first = {document.id: document for document in reversed(documents)}
            return [first[name] for name in names if name not in stored]
        counts = Counter(document.id for document in documents)
        for name in names:
            if name in stored or counts[name] > 1:
                where = "is stored already" if name in stored else "is given twice"
                raise DuplicateDocumentError(
                    f"document {name!r:.80} {where}; nothing was written (policy {policy.name})"
                )
        return list(documents)

    def _write(self, documents: Sequence[Document]) -> None:
        retriever = self.retriever
        embedded = {document.id: document.embedding for document in documents if document.embedding is not None}
        if embedded and not self._takes_vectors:
            first = next(iter(embedded))
            if self.encoder is not None or retriever._store.find() is not None:
                raise InvalidInputError(
                    f"document {first!r:.80} has an embedding, and the encoder of the table makes its vectors: write "
                    f"documents without embeddings, or use a store with embedding_dim=... on a new table"
                )
            with self._opening:
                self._opened = self._connected(len(embedded[first]))
            retriever.close()
        columns = MetadataColumns(table_columns(self.retriever))
        self._add([stored_document(document, columns, self.title_field) for document in documents], embedded)

    def _add(self, rows: Sequence[dpr_lance.Document], vectors: Mapping[str, Any]) -> None:
        retriever = self.retriever
        if self._takes_vectors:
            add_with_vectors(retriever, rows, vectors)
        elif rows:
            retriever.add(rows, splitter=None, embed=self.embed)

    def _with_vectors(self, passages: Sequence[Passage], sql: str) -> Iterable[tuple[Passage, Vector]]:
        vectors = self._read_vectors(sql) if self._takes_vectors else {}
        return ((passage, vectors[passage.id]) for passage in passages if passage.id in vectors)
