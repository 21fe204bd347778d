"""Dense Passage Retrieval (Karpukhin et al. 2020) as an extension of LanceDB.

import dpr_lance
retriever = dpr_lance.connect("wiki.lance")
retriever.add(documents)
hits = retriever.search("who first voiced meg on family guy?")

Names are imported when they are first used, so that `import dpr_lance` costs next to nothing. It changes nothing in the
process.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dpr_lance.connection import connect
    from dpr_lance.documents.document import Document
    from dpr_lance.encoders.encoder import Encoder
    from dpr_lance.encoders.hash_encoder import HashEncoder
    from dpr_lance.encoders.loading import load_encoder
    from dpr_lance.errors import (
        DamagedTableError,
        DprLanceError,
        EncoderError,
        EncoderMismatchError,
        InvalidInputError,
        LockedError,
        MissingExtraError,
        StorageError,
        TableError,
    )
    from dpr_lance.evaluation.evaluate import evaluate
    from dpr_lance.health.check_report import CheckReport, Finding
    from dpr_lance.records.hits import Hit, Hits, Passage
    from dpr_lance.records.reports import VectorReport
    from dpr_lance.retriever import Retriever
    from dpr_lance.table.memory import bound_memory
    from dpr_lance.text.splitter import MarkdownSplitter, SentenceSplitter, WordSplitter

_ROOMS = {
    "connect": "connection",
    "bound_memory": "table.memory",
    "Retriever": "retriever",
    "evaluate": "evaluation.evaluate",
    "CheckReport": "health.check_report",
    "Finding": "health.check_report",
    "Document": "documents.document",
    "Passage": "records.hits",
    "Hit": "records.hits",
    "Hits": "records.hits",
    "VectorReport": "records.reports",
    "WordSplitter": "text.splitter",
    "SentenceSplitter": "text.splitter",
    "MarkdownSplitter": "text.splitter",
    "Encoder": "encoders.encoder",
    "load_encoder": "encoders.loading",
    "HashEncoder": "encoders.hash_encoder",
    "DprLanceError": "errors",
    "InvalidInputError": "errors",
    "EncoderError": "errors",
    "EncoderMismatchError": "errors",
    "TableError": "errors",
    "DamagedTableError": "errors",
    "StorageError": "errors",
    "LockedError": "errors",
    "MissingExtraError": "errors",
}

__all__ = [
    "CheckReport",
    "DamagedTableError",
    "Document",
    "DprLanceError",
    "Encoder",
    "EncoderError",
    "EncoderMismatchError",
    "Finding",
    "HashEncoder",
    "Hit",
    "Hits",
    "InvalidInputError",
    "LockedError",
    "MarkdownSplitter",
    "MissingExtraError",
    "Passage",
    "Retriever",
    "SentenceSplitter",
    "StorageError",
    "TableError",
    "VectorReport",
    "WordSplitter",
    "bound_memory",
    "connect",
    "evaluate",
    "load_encoder",
]


def __getattr__(name: str) -> object:
    if name not in _ROOMS:
        raise AttributeError(f"module 'dpr_lance' has no attribute {name!r}")
    return getattr(importlib.import_module(f"dpr_lance.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
