"""A table as LangChain's vector store."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, TypedDict, Unpack

from langchain_core.documents import Document as LangChainDocument
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore

from dpr_lance.checks import checked_share
from dpr_lance.connection import connect
from dpr_lance.documents.document import Document
from dpr_lance.encoders.card import EncoderCard
from dpr_lance.encoders.encoder import Encoder
from dpr_lance.errors import InvalidInputError
from dpr_lance.integrations.columns import table_card
from dpr_lance.integrations.langchain.documents import (
    LangChainFilter,
    langchain_documents,
    table_document,
    where_of,
)
from dpr_lance.integrations.langchain.embeddings import DprLanceEmbeddings, EmbeddingsEncoder
from dpr_lance.integrations.vectors import check_card, given, log_fallback, with_vectors
from dpr_lance.reader.choice import RerankSource
from dpr_lance.records.hits import Hits, Mode
from dpr_lance.retriever import Retriever
from dpr_lance.text.splitter import Splitter

Found = list[tuple[LangChainDocument, float]]


IN_MEMORY = "memory://"
"""Where `from_texts` and `from_documents` make a table when they are given no address."""


class StoreSettings(TypedDict, total=False):
    """Keywords of the class, which `from_texts` and `from_documents` take too."""

    splitter: Splitter | Literal["table"] | None
    mode: Mode | None
    rerank: RerankSource


class SearchKeywords(TypedDict, total=False):
    """Keywords of all searches.

    `filter` is a mapping such as `{"year": {"$gt": 2000}}`, or what `where` of `Retriever.search` takes; `mode` and
    `rerank` as there, instead of those of the store.
    """

    filter: LangChainFilter
    mode: Mode | None
    rerank: RerankSource


class DprLanceVectorStore(VectorStore):
    """Documents in a table of dpr_lance: hybrid search, and ids that are written once.

    `uri` is what `dpr_lance.connect` takes, or a `Retriever` that it has opened. `embedding`: None is the table's own
    encoder (the packaged one for a new table, which needs no network); with LangChain's embeddings the table holds
    their vectors, scaled to length 1. `splitter`: a new table keeps each document as one passage, so that documents
    come back as they were given; with another splitter, or in a table that has one, results are passages. `mode` and
    `rerank` are the defaults of searches: see `Retriever.search`.

    Metadata values become columns with types. A key that is None is not stored; a text under the key "title" is the
    document's title, which is searched too.

        store = DprLanceVectorStore("wiki.lance")
        store.add_documents([Document("The Alps are a mountain range.", metadata={"year": 2001})])
        store.similarity_search("where are the alps?", k=1, filter={"year": {"$gt": 2000}})

    Raises `EncoderMismatchError` when the table's vectors are not those of `embedding`, and as `connect` does.
    """

    def __init__(
        self,
        uri: str | os.PathLike[str] | Retriever,
        embedding: Embeddings | None = None,
        *,
        splitter: Splitter | Literal["table"] | None = "table",
        mode: Mode | None = None,
        rerank: RerankSource = None,
    ) -> None:
        if isinstance(uri, Retriever) and embedding is not None:
            raise InvalidInputError("a Retriever has its encoder: leave out embedding=..., or give the table's address")
        self._own = embedding
        self._card: EncoderCard | None = None
        if isinstance(uri, Retriever):
            self.retriever = uri
        elif embedding is None:
            self.retriever = connect(uri)
        else:
            self.retriever, self._card = _opened(uri, embedding)
        self._vectored: Retriever | None = None
        self._splitter = splitter
        self.mode, self.rerank = mode, rerank

    @property
    def embeddings(self) -> Embeddings:
        """LangChain's embeddings, or those of the table's encoder: `embed_query` is E_Q, `embed_documents` is E_P."""
        return _OfTable(self.retriever) if self._own is None else self._own

    def add_documents(
        self,
        documents: list[LangChainDocument],
        ids: list[str] | None = None,
        *,
        batch_size: int | None = None,  # noqa: ARG002 - LangChain's indexing passes it
    ) -> list[str]:
        """Store documents and return their ids; an id that is stored already is replaced.

        Ids are those given, else those of the documents, else made from their content, so that the same document is
        stored once. Nothing that is stored unchanged is embedded again. `batch_size` changes nothing: a batch is about
        1,000 passages. Raises `InvalidInputError` naming the document that cannot be stored, and as `Retriever.add`
        does.
        """
        made = self._documents(documents, ids)
        self.retriever.add(made, splitter=self._splitter_now())
        return [str(document.id) for document in made]

    async def aadd_documents(
        self,
        documents: list[LangChainDocument],
        ids: list[str] | None = None,
        *,
        batch_size: int | None = None,  # noqa: ARG002 - LangChain's indexing passes it
    ) -> list[str]:
        """Do what `add_documents` does, without keeping the event loop from other work meanwhile."""
        made = self._documents(documents, ids)
        await self.retriever.add_async(made, splitter=self._splitter_now())
        return [str(document.id) for document in made]

    def delete(self, ids: list[str] | None = None) -> bool:
        """Delete documents by id, or all of them without ids; unknown ids are ignored. Return True."""
        if ids is not None:
            self.retriever.delete(ids)
        else:
            self.retriever.delete(where="true")
        return True

    async def adelete(self, ids: list[str] | None = None) -> bool:
        """Do what `delete` does, without keeping the event loop from other work meanwhile."""
        if ids is not None:
            await self.retriever.delete_async(ids)
        else:
            await self.retriever.delete_async(where="true")
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[LangChainDocument]:
        """Return the documents of these ids in their order; unknown ids are ignored."""
        return langchain_documents(self.retriever.get(ids), self.retriever)

    def similarity_search(self, query: str, k: int = 4, **keywords: Unpack[SearchKeywords]) -> list[LangChainDocument]:
        """Return the k best documents; raise as `Retriever.search` does. `keywords`: see `SearchKeywords`."""
        return self._documents_of(self._search(query, k, **keywords))

    async def asimilarity_search(
        self, query: str, k: int = 4, **keywords: Unpack[SearchKeywords]
    ) -> list[LangChainDocument]:
        """Do what `similarity_search` does, without keeping the event loop from other work meanwhile."""
        return self._documents_of(await self._asearch(query, k, **keywords))

    def similarity_search_with_score(self, query: str, k: int = 4, **keywords: Unpack[SearchKeywords]) -> Found:
        """Return the k best documents with `Hit.score`: higher is better, and the scale depends on the mode."""
        return self._scored(self._search(query, k, **keywords))

    async def asimilarity_search_with_score(self, query: str, k: int = 4, **keywords: Unpack[SearchKeywords]) -> Found:
        """Do what `similarity_search_with_score` does, without keeping the event loop from other work meanwhile."""
        return self._scored(await self._asearch(query, k, **keywords))

    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **keywords: Unpack[SearchKeywords]
    ) -> Found:
        """Return the k best documents with the cosines of their vectors and the question's, 0 for negative ones.

        The order is that of the mode. LangChain's public methods compare the cosines with `score_threshold`.
        """
        return self._relevant(self._search(query, k, **keywords))

    async def _asimilarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **keywords: Unpack[SearchKeywords]
    ) -> Found:
        return self._relevant(await self._asearch(query, k, **keywords))

    def similarity_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        *,
        filter: LangChainFilter = None,  # noqa: A002 - LangChain's name
    ) -> list[LangChainDocument]:
        """Return the k documents whose vectors have the largest inner products with this one."""
        return self._documents_of(self._search_by_vector(embedding, k, filter))

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,  # noqa: ARG002 - LangChain passes it
        lambda_mult: float = 0.5,
        **keywords: Unpack[SearchKeywords],
    ) -> list[LangChainDocument]:
        """Return k documents that differ from one another: `search(diversity=1 - lambda_mult)`.

        They are chosen among the best 5·k, at least 50, and `fetch_k`, which LangChain passes, changes nothing.
        """
        return self._documents_of(self._search(query, k, diversity=_diversity(lambda_mult), **keywords))

    async def amax_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,  # noqa: ARG002 - LangChain passes it
        lambda_mult: float = 0.5,
        **keywords: Unpack[SearchKeywords],
    ) -> list[LangChainDocument]:
        """Do what `max_marginal_relevance_search` does, without keeping the event loop from other work meanwhile."""
        return self._documents_of(await self._asearch(query, k, diversity=_diversity(lambda_mult), **keywords))

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,  # noqa: ARG002 - LangChain passes it
        lambda_mult: float = 0.5,
        *,
        filter: LangChainFilter = None,  # noqa: A002 - LangChain's name
    ) -> list[LangChainDocument]:
        """Do what `max_marginal_relevance_search` does for a vector, by the vectors alone."""
        return self._documents_of(self._search_by_vector(embedding, k, filter, _diversity(lambda_mult)))

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings | None = None,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        uri: str | os.PathLike[str] | Retriever = IN_MEMORY,
        **settings: Unpack[StoreSettings],
    ) -> DprLanceVectorStore:
        """Return a store with these texts added; the other arguments are those of the class."""
        store = cls(uri, embedding, **settings)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    @classmethod
    def from_documents(
        cls,
        documents: list[LangChainDocument],
        embedding: Embeddings | None = None,
        *,
        ids: list[str] | None = None,
        uri: str | os.PathLike[str] | Retriever = IN_MEMORY,
        **settings: Unpack[StoreSettings],
    ) -> DprLanceVectorStore:
        """Return a store with these documents added; the other arguments are those of the class."""
        store = cls(uri, embedding, **settings)
        store.add_documents(documents, ids)
        return store

    @classmethod
    async def afrom_documents(
        cls,
        documents: list[LangChainDocument],
        embedding: Embeddings | None = None,
        *,
        ids: list[str] | None = None,
        uri: str | os.PathLike[str] | Retriever = IN_MEMORY,
        **settings: Unpack[StoreSettings],
    ) -> DprLanceVectorStore:
        """Do what `from_documents` does, without keeping the event loop from other work while documents are added."""
        store = await asyncio.to_thread(lambda: cls(uri, embedding, **settings))
        await store.aadd_documents(documents, ids)
        return store

    def _documents(self, documents: Sequence[LangChainDocument], ids: Sequence[str | None] | None) -> list[Document]:
        names = [None] * len(documents) if ids is None else list(ids)
        if len(names) != len(documents):
            raise InvalidInputError(f"give an id for each document: there are {len(names)} for {len(documents)}")
        return [
            table_document(document, name, f"documents[{at}]")
            for at, (document, name) in enumerate(zip(documents, names, strict=True))
        ]

    def _splitter_now(self) -> Splitter | Literal["table"] | None:
        new = table_card(self.retriever) is None
        return None if new and isinstance(self._splitter, str) else self._splitter

    def _documents_of(self, hits: Hits) -> list[LangChainDocument]:
        return langchain_documents(hits, self.retriever)

    def _scored(self, hits: Hits) -> Found:
        return list(zip(self._documents_of(hits), (hit.score for hit in hits), strict=True))

    def _relevant(self, hits: Hits) -> Found:
        card = table_card(self.retriever)
        if card is not None and not card.encoder.normalise:
            raise InvalidInputError(
                f"relevance scores are cosines, and the vectors of encoder {card.encoder.name!r} are not of length 1; "
                f"use similarity_search_with_score"
            )
        if hits and all(hit.dense_score is None for hit in hits):
            raise InvalidInputError(
                f"relevance scores are cosines, and none of the hits has one: "
                f"{hits.fallback or 'use another mode than bm25'}"
            )
        scores = [0.0 if hit.dense_score is None else min(1.0, max(0.0, hit.dense_score)) for hit in hits]
        return list(zip(self._documents_of(hits), scores, strict=True))

    def _search(
        self,
        query: str,
        k: int,
        *,
        diversity: float = 0.0,
        filter: LangChainFilter = None,  # noqa: A002 - LangChain's name
        mode: Mode | None = None,
        rerank: RerankSource = None,
    ) -> Hits:
        mode, rerank = self._defaults(mode, rerank)
        where = where_of(filter, self.retriever)
        vector = None if self._own is None or mode == "bm25" else self._own.embed_query(query)
        with self._given(vector):
            found = self.retriever.search(query, k, mode=mode, where=where, rerank=rerank, diversity=diversity)
        return log_fallback(found)

    async def _asearch(
        self,
        query: str,
        k: int,
        *,
        diversity: float = 0.0,
        filter: LangChainFilter = None,  # noqa: A002 - LangChain's name
        mode: Mode | None = None,
        rerank: RerankSource = None,
    ) -> Hits:
        mode, rerank = self._defaults(mode, rerank)
        where = await asyncio.to_thread(where_of, filter, self.retriever)
        vector = None if self._own is None or mode == "bm25" else await self._own.aembed_query(query)
        with self._given(vector):
            found = await self.retriever.search_async(
                query, k, mode=mode, where=where, rerank=rerank, diversity=diversity
            )
        return log_fallback(found)

    def _search_by_vector(
        self, vector: list[float], k: int, given_filter: LangChainFilter, diversity: float = 0.0
    ) -> Hits:
        card = table_card(self.retriever)
        if card is None:
            return Hits("", (), "dense")
        if self._vectored is None:
            self._vectored = with_vectors(self.retriever)
        where = where_of(given_filter, self.retriever)
        with given(vector, card.encoder):
            return self._vectored.search("a vector", k, mode="dense", where=where, diversity=diversity)

    def _defaults(self, mode: Mode | None, rerank: RerankSource) -> tuple[Mode | None, RerankSource]:
        return self.mode if mode is None else mode, self.rerank if rerank is None else rerank

    def _given(self, vector: list[float] | None) -> AbstractContextManager[None]:
        return nullcontext() if vector is None or self._card is None else given(vector, self._card)


class _OfTable(DprLanceEmbeddings):
    """The embeddings of a table's encoder, which is loaded at the first text."""

    def __init__(self, retriever: Retriever) -> None:
        super().__init__()
        self._retriever = retriever

    @property
    def encoder(self) -> Encoder:
        return self._retriever._encoder.loaded()


def _opened(uri: str | os.PathLike[str], embedding: Embeddings) -> tuple[Retriever, EncoderCard]:
    """Return a table with LangChain's embeddings as its encoder; raise where its vectors are of others."""
    stored = table_card(connect(uri))
    encoder = EmbeddingsEncoder(embedding, None if stored is None else stored.encoder.dimension)
    retriever = connect(uri, encoder=encoder)
    check_card(retriever, encoder.card)
    return retriever, encoder.card


def _diversity(lambda_mult: object) -> float:
    return 1.0 - checked_share(lambda_mult, "lambda_mult", "give a number from 0 (diversity alone) to 1 (no diversity)")
