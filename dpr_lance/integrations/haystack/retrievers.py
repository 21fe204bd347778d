"""Haystack's retrievers on a `DprLanceDocumentStore`: by a question's text, and by a vector of it."""

from __future__ import annotations

import asyncio
from typing import Any

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.document_stores.types import FilterPolicy, apply_filter_policy

from dpr_lance.checks import checked_choice, checked_whole, shown
from dpr_lance.errors import InvalidInputError
from dpr_lance.integrations.haystack.document_store import DprLanceDocumentStore
from dpr_lance.reader.choice import RerankSource, checked_reranker
from dpr_lance.records.hits import CANDIDATES, MODES, Mode

_TOP_K = "give a number of documents, 0 or more"


class _Settings:
    """What both retrievers are made with."""

    def __init__(
        self,
        document_store: DprLanceDocumentStore,
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        mode: Mode | None = None,
        rerank: RerankSource = None,
        candidates: int = CANDIDATES,
        filter_policy: FilterPolicy | str = FilterPolicy.REPLACE,
    ) -> None:
        if not isinstance(document_store, DprLanceDocumentStore):
            raise InvalidInputError(f"document_store={shown(document_store)}: give a DprLanceDocumentStore")
        self.document_store, self.filters = document_store, filters
        self.top_k = checked_whole(top_k, "top_k", _TOP_K, least=0)
        self.mode = None if mode is None else checked_choice(mode, "mode", MODES)
        self.rerank = checked_reranker(rerank)
        self.candidates = checked_whole(candidates, "candidates", "re-score at least 1 document", least=1)
        self.filter_policy = FilterPolicy.from_str(filter_policy) if isinstance(filter_policy, str) else filter_policy

    def to_dict(self) -> dict[str, Any]:
        """Return the retriever's arguments; raise `InvalidInputError` for a re-ranker that is an object."""
        if self.rerank is not None and not isinstance(self.rerank, (bool, str)):
            raise InvalidInputError(
                f"rerank={shown(self.rerank)}: an object cannot be written down; name the re-ranker"
            )
        written: dict[str, Any] = default_to_dict(
            self,
            document_store=self.document_store.to_dict(),
            filters=self.filters,
            top_k=self.top_k,
            mode=self.mode,
            rerank=self.rerank,
            candidates=self.candidates,
            filter_policy=self.filter_policy.value,
        )
        return written

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Any:  # noqa: ANN401 - the class that Haystack has wrapped
        """Return the retriever of these arguments; the inverse of `to_dict`."""
        arguments = dict(data.get("init_parameters", {}))
        if isinstance(store := arguments.get("document_store"), dict):
            arguments["document_store"] = DprLanceDocumentStore.from_dict(store)
        return default_from_dict(cls, {**data, "init_parameters": arguments})

    def _found(
        self,
        question: str | None,
        embedding: list[float] | None,
        filters: dict[str, Any] | None,
        top_k: int | None,
    ) -> dict[str, list[Document]]:
        documents = self.document_store.find(
            question,
            self.top_k if top_k is None else checked_whole(top_k, "top_k", _TOP_K, least=0),
            embedding=embedding,
            filters=apply_filter_policy(self.filter_policy, self.filters, filters),
            mode=self.mode,
            rerank=self.rerank,
            candidates=self.candidates,
        )
        return {"documents": documents}


@component
class DprLanceRetriever(_Settings):
    """Finds documents for a question: BM25 and dense search together, with the table's encoder.

    `mode`, `rerank` and `candidates` as in `Retriever.search`: without a mode search is hybrid, and BM25 alone where
    passages have no vectors. `rerank=True` re-ranks with the packaged reader. `filters` are those of a run without
    filters; `filter_policy` says whether a run's filters replace them or are merged with them.

    A document's score is the hit's: higher is better, and scores of different modes cannot be compared.
    """

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """Return {"documents": the best ones, with scores}; raise `FilterError`, and as `Retriever.search` does."""
        return self._found(query, None, filters, top_k)

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """Do what `run` does in a thread."""
        return await asyncio.to_thread(self._found, query, None, filters, top_k)


@component
class DprLanceEmbeddingRetriever(_Settings):
    """Finds documents for the vector that an embedder of Haystack has made of a question.

    With the question's text in `query` too, search is as `mode` says, by default hybrid, and may re-rank; without it
    dense. The vector is scaled to length 1 as those of the documents are, so that the dense score is the cosine.
    """

    @component.output_types(documents=list[Document])
    def run(
        self,
        query_embedding: list[float],
        query: str | None = None,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
    ) -> dict[str, list[Document]]:
        """Return {"documents": the best ones, with scores}.

        Raises `FilterError`, and `InvalidInputError` for a vector that is not one of the table's encoder.
        """
        return self._found(query, query_embedding, filters, top_k)

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query_embedding: list[float],
        query: str | None = None,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
    ) -> dict[str, list[Document]]:
        """Do what `run` does in a thread."""
        return await asyncio.to_thread(self._found, query, query_embedding, filters, top_k)
