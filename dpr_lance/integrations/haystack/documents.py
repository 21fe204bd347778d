"""Haystack's documents as documents of a table, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from haystack import Document
from haystack.dataclasses import ByteStream, SparseEmbedding

import dpr_lance
from dpr_lance.encoders.vectors import Vector
from dpr_lance.errors import InvalidInputError
from dpr_lance.integrations.columns import read_metadata
from dpr_lance.integrations.haystack.metadata import STORED, MetadataColumns
from dpr_lance.records.hits import Hit
from dpr_lance.records.passage import Passage


def stored_document(document: Document, columns: MetadataColumns, title_field: str | None) -> dpr_lance.Document:
    """Return what a table stores of a document; its vector goes its own way.

    Raises `InvalidInputError` naming the document for one without text, or with metadata that is not JSON.
    """
    place = f"document {document.id!r:.80}"
    if document.content is None or not document.content.strip():
        raise InvalidInputError(f"{place}: it has no content; give it a text, as with a converter, or leave it out")
    rest: dict[str, Any] = {"meta": document.meta}
    if document.blob is not None:
        rest["blob"] = document.blob.to_dict()
    if document.sparse_embedding is not None:
        rest["sparse_embedding"] = document.sparse_embedding.to_dict()
    if document.embedding is not None:
        rest["length"] = float(np.linalg.norm(np.asarray(document.embedding, dtype=np.float64)))
    return _row(document.id, document.content, rest, columns, title_field, place)


def is_stored(passage: Passage) -> bool:
    """Tell whether this store has written a passage."""
    return STORED in passage.metadata


def changed_document(
    passage: Passage, meta: Mapping[str, Any], columns: MetadataColumns, title_field: str | None
) -> dpr_lance.Document:
    """Return a passage that this store has written with more metadata; raise as `stored_document` does."""
    rest = json.loads(passage.metadata[STORED])
    rest["meta"] = {**rest["meta"], **meta}
    return _row(passage.document_id, passage.text, rest, columns, title_field, f"document {passage.document_id!r:.80}")


def _row(
    name: str, text: str, rest: Mapping[str, Any], columns: MetadataColumns, title_field: str | None, place: str
) -> dpr_lance.Document:
    meta = rest["meta"]
    try:
        whole = json.dumps(rest, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"{place}: its meta cannot be stored as JSON ({error})") from error
    if json.loads(whole)["meta"] != meta and not _has_nan(meta):
        raise InvalidInputError(
            f"{place}: its meta would come back changed from JSON: use strings as keys, and lists for tuples"
        )
    title = meta.get(title_field) if title_field is not None else None
    metadata = {**columns.values(meta), STORED: whole}
    return dpr_lance.Document(text, title if isinstance(title, str) else "", name, metadata)


def _has_nan(value: object) -> bool:
    """Tell whether a value has a part that does not equal itself."""
    if isinstance(value, Mapping):
        return any(map(_has_nan, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_has_nan, value))
    return value != value  # noqa: PLR0124


def read_document(found: Hit | Passage, *, score: float | None = None, vector: Vector | None = None) -> Document:
    """Return a passage as a document; one that this store has not written has the passage's id.

    Its metadata then are those of the passage, with its title and the id of its document.
    """
    text = found.metadata.get(STORED)
    rest: Mapping[str, Any] = {} if text is None else json.loads(text)
    embedding = None if vector is None else (vector.astype(np.float64) * rest.get("length", 1.0)).tolist()
    if text is None:
        meta: dict[str, Any] = read_metadata(found) | {"document_id": found.document_id}
        if found.title:
            meta["title"] = found.title
        return Document(id=found.id, content=found.text, meta=meta, score=score, embedding=embedding)
    return Document(
        id=found.document_id,
        content=found.text,
        meta=rest["meta"],
        score=score,
        embedding=embedding,
        blob=ByteStream.from_dict(rest["blob"]) if "blob" in rest else None,
        sparse_embedding=(SparseEmbedding.from_dict(rest["sparse_embedding"]) if "sparse_embedding" in rest else None),
    )
