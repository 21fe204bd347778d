"""LlamaIndex: `DprLanceVectorStore`, `DprLanceRetriever` and `DprLanceEmbedding`; see `docs/llamaindex.md`."""

from dpr_lance.integrations.extras import require

require("llama_index", "LlamaIndex", "llamaindex")

from dpr_lance.integrations.llamaindex.embedding import DprLanceEmbedding  # noqa: E402
from dpr_lance.integrations.llamaindex.retriever import DprLanceRetriever  # noqa: E402
from dpr_lance.integrations.llamaindex.vector_store import DprLanceVectorStore  # noqa: E402

__all__ = ["DprLanceEmbedding", "DprLanceRetriever", "DprLanceVectorStore"]
