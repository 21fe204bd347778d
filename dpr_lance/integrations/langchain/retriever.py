"""A table as LangChain's retriever."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document as LangChainDocument
from langchain_core.retrievers import BaseRetriever
from pydantic import field_validator

from dpr_lance.connection import connect
from dpr_lance.integrations.langchain.documents import langchain_documents, where_of
from dpr_lance.integrations.vectors import log_fallback
from dpr_lance.records.hits import CANDIDATES
from dpr_lance.retriever import Retriever


class DprLanceRetriever(BaseRetriever):
    """The k best passages of a table of dpr_lance, as LangChain's documents.

    `retriever` is what `dpr_lance.connect` has opened, or what it takes. The other fields are arguments of
    `Retriever.search`; `filter` is a mapping such as `{"year": {"$gt": 2000}}`, or what `where` takes. `invoke` and
    `ainvoke` take `k`, `filter` and `mode` for one question. The id of a document is that of the passage, or of the
    whole document in a table that keeps documents whole.

        DprLanceRetriever(retriever=dpr_lance.connect("wiki.lance"), k=4).invoke("where are the alps?")
    """

    retriever: Retriever
    k: int = 4
    mode: Any = None
    filter: Any = None
    rerank: Any = None
    candidates: int = CANDIDATES
    group_by: str | None = None
    per_group: int = 1
    diversity: float = 0.0
    min_score: float | None = None

    @field_validator("retriever", mode="before")
    @classmethod
    def _opened(cls, value: object) -> object:
        return connect(value) if isinstance(value, str | os.PathLike) else value

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002 - LangChain's
        k: int | None = None,
        filter: Any = None,  # noqa: A002, ANN401 - LangChain's name
        mode: Any = None,  # noqa: ANN401 - checked by the search
    ) -> list[LangChainDocument]:
        return self._found(query, k, filter, mode)

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,  # noqa: ARG002 - LangChain's
        k: int | None = None,
        filter: Any = None,  # noqa: A002, ANN401 - LangChain's name
        mode: Any = None,  # noqa: ANN401 - checked by the search
    ) -> list[LangChainDocument]:
        return await asyncio.to_thread(self._found, query, k, filter, mode)

    def _found(self, query: str, k: int | None, given: Any, mode: Any) -> list[LangChainDocument]:  # noqa: ANN401
        hits = self.retriever.search(
            query,
            self.k if k is None else k,
            mode=self.mode if mode is None else mode,
            where=where_of(self.filter if given is None else given, self.retriever),
            rerank=self.rerank,
            candidates=self.candidates,
            group_by=self.group_by,
            per_group=self.per_group,
            diversity=self.diversity,
            min_score=self.min_score,
        )
        return langchain_documents(log_fallback(hits), self.retriever)
