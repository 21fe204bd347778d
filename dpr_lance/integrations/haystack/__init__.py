"""Haystack: a document store on a table, and two retrievers over it. `docs/haystack.md` shows them.

from dpr_lance.integrations.haystack import DprLanceDocumentStore, DprLanceRetriever
"""

from __future__ import annotations

from dpr_lance.integrations.extras import require

require("haystack", "Haystack", "haystack")

from dpr_lance.integrations.haystack.document_store import DprLanceDocumentStore  # noqa: E402 - after the check
from dpr_lance.integrations.haystack.retrievers import (  # noqa: E402
    DprLanceEmbeddingRetriever,
    DprLanceRetriever,
)

__all__ = ["DprLanceDocumentStore", "DprLanceEmbeddingRetriever", "DprLanceRetriever"]
