"""A table as LlamaIndex's vector store."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)

from dpr_lance.checks import checked_share
from dpr_lance.connection import connect
from dpr_lance.encoders.card import EncoderCard
from dpr_lance.errors import EncoderMismatchError, InvalidInputError
from dpr_lance.integrations.columns import table_card
from dpr_lance.integrations.llamaindex.embedding import DprLanceEmbedding, card_of
from dpr_lance.integrations.llamaindex.filters import where_of
from dpr_lance.integrations.llamaindex.nodes import node_of, nodes_of, table_document
from dpr_lance.integrations.vectors import GivenVectors, add_with_vectors, check_card, given, log_fallback, with_vectors
from dpr_lance.records.hits import Hits, Mode
from dpr_lance.retriever import Retriever
from dpr_lance.table.rows import passages_of

MODES: dict[VectorStoreQueryMode, Mode] = {
    VectorStoreQueryMode.DEFAULT: "dense",
    VectorStoreQueryMode.MMR: "dense",
    VectorStoreQueryMode.HYBRID: "hybrid",
    VectorStoreQueryMode.SEMANTIC_HYBRID: "hybrid",
    VectorStoreQueryMode.TEXT_SEARCH: "bm25",
    VectorStoreQueryMode.SPARSE: "bm25",
}
MMR_THRESHOLD = 0.5
"""LlamaIndex's default share of relevance in the mode MMR."""
_NO_QUESTION = "a vector"
"""The text of a query that has none, in modes without BM25."""


class DprLanceVectorStore(BasePydanticVectorStore):
    """Nodes in a table of dpr_lance, with the vectors that LlamaIndex makes of them.

    `uri` is what `dpr_lance.connect` takes, or a `Retriever` that it has opened. `embed_model`: the model of the index,
    by which the table knows whose vectors it holds; give it always or never. Without it only their dimension is
    checked. Vectors are scaled to length 1. With `DprLanceEmbedding` the table is one like those of dpr_lance, which
    searches it without LlamaIndex.

    A node is one passage. Its metadata values become columns with types; a text under the key "title" is the
    document's title, which BM25 searches too.

        store = DprLanceVectorStore("wiki.lance")
        index = VectorStoreIndex.from_vector_store(store, embed_model=DprLanceEmbedding())

    Raises `EncoderMismatchError` when the table's vectors are not those of `embed_model`, and as `connect` does.
    """

    stores_text: bool = True
    is_embedding_query: bool = True

    _retriever: Any = PrivateAttr()
    _searching: Any = PrivateAttr(default=None)
    _embed_model: Any = PrivateAttr()

    def __init__(self, uri: str | os.PathLike[str] | Retriever, *, embed_model: BaseEmbedding | None = None) -> None:
        super().__init__()
        self._embed_model = embed_model
        if isinstance(uri, Retriever):
            self._retriever = uri
        else:
            self._retriever = connect(
                uri, encoder=embed_model.source if isinstance(embed_model, DprLanceEmbedding) else None
            )
        stored = table_card(self._retriever)
        if stored is not None:
            check_card(self._retriever, card_of(embed_model, stored.encoder.dimension))

    @classmethod
    def class_name(cls) -> str:
        """Return the name of the class, as LlamaIndex asks for it."""
        return "DprLanceVectorStore"

    @property
    def client(self) -> Retriever:
        """The `Retriever` of the table."""
        found: Retriever = self._retriever
        return found

    def add(self, nodes: Sequence[BaseNode], **_: Any) -> list[str]:  # noqa: ANN401 - LlamaIndex's interface
        """Store nodes with their embeddings and return their ids; a node that is stored already is replaced.

        Raises `InvalidInputError` naming the node that cannot be stored, and `ValueError` for one without an embedding.
        """
        documents = [table_document(node, f"nodes[{at}]") for at, node in enumerate(nodes)]
        vectors = {node.node_id: node.get_embedding() for node in nodes}
        if documents:
            add_with_vectors(self._writing(len(next(iter(vectors.values())))), documents, vectors)
        return [node.node_id for node in nodes]

    async def async_add(self, nodes: Sequence[BaseNode], **_: Any) -> list[str]:  # noqa: ANN401 - LlamaIndex's interface
        """Do what `add` does, without keeping the event loop from other work meanwhile."""
        return await asyncio.to_thread(self.add, nodes)

    def delete(self, ref_doc_id: str, **_: Any) -> None:  # noqa: ANN401 - LlamaIndex's interface
        """Delete the nodes of a source document; an unknown id is ignored."""
        self.client.delete(where=where_of(self.client, doc_ids=[ref_doc_id]))

    async def adelete(self, ref_doc_id: str, **_: Any) -> None:  # noqa: ANN401 - LlamaIndex's interface
        """Do what `delete` does, without keeping the event loop from other work meanwhile."""
        await asyncio.to_thread(self.delete, ref_doc_id)

    def delete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **_: Any,  # noqa: ANN401
    ) -> None:
        """Delete the nodes that have one of these ids and match the filters; unknown ids are ignored.

        Raises `InvalidInputError` when neither is given: `clear` deletes all nodes.
        """
        if node_ids is None and filters is None:
            raise InvalidInputError("delete_nodes() takes node_ids, filters or both; clear() deletes all nodes")
        self.client.delete(where=where_of(self.client, filters, node_ids=node_ids))

    async def adelete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **_: Any,  # noqa: ANN401
    ) -> None:
        """Do what `delete_nodes` does, without keeping the event loop from other work meanwhile."""
        await asyncio.to_thread(self.delete_nodes, node_ids, filters)

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """Return the nodes that have one of these ids and match the filters, all nodes without either, in no order."""
        store = self.client._store
        if store.find() is None:
            return []
        where = where_of(self.client, filters, node_ids=node_ids)
        return nodes_of(list(self.client.passages()) if where is None else passages_of(store.passages(where)))

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """Do what `get_nodes` does, without keeping the event loop from other work meanwhile."""
        return await asyncio.to_thread(self.get_nodes, node_ids, filters)

    def clear(self) -> None:
        """Delete all nodes; the table keeps its columns, and goes on with the same embedding model."""
        self.client.delete(where="true")

    async def aclear(self) -> None:
        """Do what `clear` does, without keeping the event loop from other work meanwhile."""
        await asyncio.to_thread(self.clear)

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:  # noqa: ANN401
        """Return the best nodes with their scores: cosines in the modes DEFAULT and MMR, else `Hit.score`.

        HYBRID is `bm25 + λ·cosine` with the table's λ, for which `alpha` 0 is BM25 and 1 the vectors; TEXT_SEARCH and
        SPARSE are BM25. MMR takes `mmr_threshold`, from 0 (diversity alone) to 1 (relevance alone). Ids of nodes and of
        source documents narrow a search as filters do. Raises `InvalidInputError` for another mode or value, for a
        filter that cannot be used, and without the vector or the text that a mode needs.
        """
        mode, k = self._mode_of(query), query.similarity_top_k
        if mode == "hybrid" and query.hybrid_top_k is not None:
            k = query.hybrid_top_k
        if query.mode == VectorStoreQueryMode.SPARSE and query.sparse_top_k is not None:
            k = query.sparse_top_k
        diversity = 0.0
        if query.mode == VectorStoreQueryMode.MMR:
            threshold = kwargs.get("mmr_threshold") if query.mmr_threshold is None else query.mmr_threshold
            wanted = "give a number from 0 (diversity alone) to 1 (relevance alone)"
            diversity = 1.0 - checked_share(MMR_THRESHOLD if threshold is None else threshold, "mmr_threshold", wanted)
        text = (query.query_str or "").strip()
        if mode != "dense" and not text:
            raise InvalidInputError(f"the mode {query.mode.value!r} needs the text of the query, query_str")
        hits = self._search(text or _NO_QUESTION, k, mode, diversity, query)
        nodes = [node_of(hit) for hit in hits]
        return VectorStoreQueryResult(
            nodes=nodes, similarities=[hit.score for hit in hits], ids=[node.node_id for node in nodes]
        )

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:  # noqa: ANN401
        """Do what `query` does, without keeping the event loop from other work meanwhile."""
        return await asyncio.to_thread(self.query, query, **kwargs)

    def _search(self, text: str, k: int, mode: Mode, diversity: float, query: VectorStoreQuery) -> Hits:
        # An empty list is what an index passes that has no ids to name.
        where = where_of(self.client, query.filters, node_ids=query.node_ids or None, doc_ids=query.doc_ids or None)
        stored = table_card(self.client)
        if stored is None:
            return Hits(text, (), mode)
        context: AbstractContextManager[None] = nullcontext()
        if mode != "bm25":
            if query.query_embedding is None:
                raise InvalidInputError(f"the mode {query.mode.value!r} needs the vector of the query, query_embedding")
            context = given(query.query_embedding, stored.encoder)
        with context:
            return log_fallback(
                self._vectored(stored.encoder).search(
                    text, k, mode=mode, where=where, rerank=False, diversity=diversity
                )
            )

    def _writing(self, dimension: int) -> Retriever:
        """Return the retriever that adds nodes: in a new table it brings the card of their vectors."""
        store = self.client._store
        if store.find() is not None:
            return self.client
        card = card_of(self._embed_model, dimension)
        if isinstance(self._embed_model, DprLanceEmbedding):
            own = self.client._encoder.loaded().card
            if own.fingerprint != card.fingerprint:
                raise EncoderMismatchError(
                    f"the retriever has the encoder {own.name!r}, and embed_model {card.name!r}: give both the same"
                )
            return self.client
        return Retriever(store, GivenVectors(card))

    def _vectored(self, card: EncoderCard) -> Retriever:
        """Return the retriever that searches by given vectors; raise when the table has changed to another encoder."""
        if self._searching is None or self._searching[0] != card.fingerprint:
            check_card(self.client, card_of(self._embed_model, card.dimension))
            self._searching = card.fingerprint, with_vectors(self.client)
        found: Retriever = self._searching[1]
        return found

    def _mode_of(self, query: VectorStoreQuery) -> Mode:
        if query.mode not in MODES:
            known = ", ".join(mode.value for mode in MODES)
            raise InvalidInputError(f"the mode {query.mode!r:.60} is not known here; use one of {known}")
        mode = MODES[query.mode]
        if mode != "hybrid" or query.alpha is None:
            return mode
        if query.alpha not in (0, 1):
            raise InvalidInputError(
                f"alpha={query.alpha!r:.60}: a table has its own weight of hybrid search, which calibrate() "
                f"measures; give 0 (BM25), 1 (vectors), or leave it out"
            )
        return "bm25" if query.alpha == 0 else "dense"
