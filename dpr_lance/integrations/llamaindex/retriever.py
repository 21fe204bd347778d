"""A table as LlamaIndex's retriever."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.core.vector_stores.types import MetadataFilters

from dpr_lance.connection import connect
from dpr_lance.integrations.llamaindex.filters import where_of
from dpr_lance.integrations.llamaindex.nodes import node_of
from dpr_lance.integrations.vectors import log_fallback
from dpr_lance.reader.choice import RerankSource
from dpr_lance.records.hits import CANDIDATES, Mode
from dpr_lance.retriever import Retriever
from dpr_lance.table.filters import Filter


class DprLanceRetriever(BaseRetriever):
    """The best passages of a table of dpr_lance, as LlamaIndex's nodes with `Hit.score`.

    The table's own encoder encodes the question: there is no embedding model of LlamaIndex. `retriever` is what
    `dpr_lance.connect` has opened, or what it takes. `filters` are LlamaIndex's, or what `where` of `Retriever.search`
    takes; the other arguments are as there.

        DprLanceRetriever(dpr_lance.connect("wiki.lance"), similarity_top_k=4).retrieve("where are the alps?")
    """

    def __init__(  # noqa: PLR0913 - keywords, each with its default
        self,
        retriever: Retriever | str | os.PathLike[str],
        *,
        similarity_top_k: int = 10,
        mode: Mode | None = None,
        filters: MetadataFilters | Filter = None,
        rerank: RerankSource = None,
        candidates: int = CANDIDATES,
        group_by: str | None = None,
        per_group: int = 1,
        diversity: float = 0.0,
        min_score: float | None = None,
        **base: Any,  # noqa: ANN401 - of BaseRetriever
    ) -> None:
        self.retriever = retriever if isinstance(retriever, Retriever) else connect(retriever)
        self.similarity_top_k, self.mode, self.filters = similarity_top_k, mode, filters
        self.rerank, self.candidates = rerank, candidates
        self.group_by, self.per_group = group_by, per_group
        self.diversity, self.min_score = diversity, min_score
        super().__init__(**base)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        hits = self.retriever.search(
            query_bundle.query_str,
            self.similarity_top_k,
            mode=self.mode,
            where=where_of(self.retriever, self.filters),
            rerank=self.rerank,
            candidates=self.candidates,
            group_by=self.group_by,
            per_group=self.per_group,
            diversity=self.diversity,
            min_score=self.min_score,
        )
        return [NodeWithScore(node=node_of(hit), score=hit.score) for hit in log_fallback(hits)]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)
