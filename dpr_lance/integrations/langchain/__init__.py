"""LangChain: `DprLanceVectorStore`, `DprLanceRetriever` and `DprLanceEmbeddings`; see `docs/langchain.md`."""

from dpr_lance.integrations.extras import require

require("langchain_core", "LangChain", "langchain")

from dpr_lance.integrations.langchain.embeddings import DprLanceEmbeddings  # noqa: E402
from dpr_lance.integrations.langchain.retriever import DprLanceRetriever  # noqa: E402
from dpr_lance.integrations.langchain.vector_store import DprLanceVectorStore  # noqa: E402

__all__ = ["DprLanceEmbeddings", "DprLanceRetriever", "DprLanceVectorStore"]
