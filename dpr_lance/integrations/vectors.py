"""Vectors that a framework makes: stored with their passages, and searched with.

A framework's embeddings are an encoder like any other for the table: it has a card, and vectors of another model are
refused. Its vectors are scaled to length 1, so that the dense score is the cosine.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from dpr_lance.documents.document import Document
from dpr_lance.encoders.card import EncoderCard
from dpr_lance.encoders.vectors import Vector, vector_array
from dpr_lance.errors import EncoderError, EncoderMismatchError, InvalidInputError
from dpr_lance.indexes.maintenance import fold
from dpr_lance.ingest.embedding import BATCH_ROWS
from dpr_lance.integrations.columns import table_card
from dpr_lance.records.hits import Hits
from dpr_lance.records.reports import AddReport
from dpr_lance.retriever import Retriever
from dpr_lance.table.filters import among
from dpr_lance.table.rows import hash_of
from dpr_lance.table.schema import DOCUMENT_ID, ID

HYBRID_WEIGHT = 60.0
"""Default λ for unit vectors of a model that is not known here: that of the packaged encoder."""

_GIVEN: ContextVar[Vector | None] = ContextVar("dpr_lance_given_vector", default=None)
_LOG = logging.getLogger("dpr_lance")


def external_card(name: str, dimension: int, *, source: str) -> EncoderCard:
    """Return the card of a framework's embeddings; the same name and dimension make the same encoder."""
    return EncoderCard(
        name=name,
        dimension=dimension,
        fingerprint=hash_of(source, name, str(dimension)),
        pooling="mean",
        normalise=True,
        title_style="joined",
        hybrid_weight=HYBRID_WEIGHT,
        source=source,
    )


class GivenVectors:
    """The encoder of a table whose vectors come from a framework: it returns the vector that `given` has set."""

    def __init__(self, card: EncoderCard) -> None:
        self._card = card

    @property
    def card(self) -> EncoderCard:
        """The encoder's identity."""
        return self._card

    def encode_questions(self, questions: Sequence[str]) -> Vector:
        """Return the given vector for each question, float32[n, d]."""
        vector = given_vector()
        if vector is None:
            raise EncoderError(
                f"the vectors of encoder {self._card.name!r} are made outside of dpr_lance: none is given"
            )
        return np.repeat(vector[None], len(questions), axis=0)

    def encode_passages(self, passages: Sequence[tuple[str, str]]) -> Vector:
        """Raise `EncoderError`: passages are stored with their vectors."""
        raise EncoderError(
            f"the vectors of encoder {self._card.name!r} are made outside of dpr_lance: add the {len(passages)} "
            f"passages with their vectors again"
        )


@contextmanager
def given(vector: object, card: EncoderCard) -> Iterator[None]:
    """Let searches of this thread, and of tasks that it starts, use this vector for their questions."""
    token = _GIVEN.set(usable_vector(vector, card, "the question"))
    try:
        yield
    finally:
        _GIVEN.reset(token)


def given_vector() -> Vector | None:
    """Return the vector that `given` has set, if any."""
    return _GIVEN.get()


def usable_vector(vector: object, card: EncoderCard, place: str) -> Vector:
    """Return a vector as float32[d], of length 1 where the card says so.

    Raises `InvalidInputError` naming `place` for anything but d finite numbers, not all 0 where they are scaled.
    """
    try:
        array = np.asarray(vector, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"the vector of {place} is not a list of numbers: {vector!r:.60}") from error
    if array.shape != (card.dimension,):
        raise InvalidInputError(
            f"the vector of {place} has the shape {array.shape}; those of encoder {card.name!r} have {card.dimension} "
            f"numbers"
        )
    if not np.isfinite(array).all():
        raise InvalidInputError(f"the vector of {place} has NaN or infinity in it")
    if not card.normalise:
        return array
    length = float(np.linalg.norm(array.astype(np.float64)))
    if not length:
        raise InvalidInputError(f"the vector of {place} is all zeros, which has no direction")
    return (array / length).astype(np.float32)


def check_card(retriever: Retriever, card: EncoderCard) -> None:
    """Raise `EncoderMismatchError` when a table's vectors are another encoder's."""
    store = retriever._store
    stored = table_card(retriever)
    if stored is not None and stored.encoder.fingerprint != card.fingerprint:
        raise EncoderMismatchError(
            f"{store.place} holds vectors of encoder {stored.encoder.name!r} (dimension {stored.encoder.dimension}), "
            f"not of {card.name!r} (dimension {card.dimension}): use the same embeddings, or another table"
        )


def add_with_vectors(retriever: Retriever, documents: Sequence[Document], vectors: Mapping[str, Any]) -> AddReport:
    """Store each document as one passage, then the vectors by document id, 1,000 per commit.

    Between the two, and after an interruption, BM25 finds the passages; call it again to do the rest. A new table gets
    the card of the retriever's encoder. Raises as `Retriever.add` does, and `InvalidInputError` for an unusable vector.
    """
    stored = table_card(retriever)
    known = retriever._encoder.loaded().card if stored is None else stored.encoder
    usable = {name: usable_vector(vector, known, repr(name)) for name, vector in vectors.items()}
    report = retriever.add(documents, splitter=None, embed=False)
    store = retriever._store
    card, names = store.card, iter(usable)
    while batch := list(itertools.islice(names, BATCH_ROWS)):
        rows = store.select([ID, DOCUMENT_ID, "content_hash"], among(DOCUMENT_ID, batch))
        array = vector_array([usable[name] for name in rows[DOCUMENT_ID].to_pylist()], card.encoder.dimension)
        store.set_vectors(rows.select([ID, "content_hash"]).append_column(card.column, array), card)
        fold(store, bulk=True)
    fold(store, bulk=False)
    return report


def with_vectors(retriever: Retriever) -> Retriever:
    """Return a retriever on the same table that searches with given vectors, whichever encoder made the stored ones.

    Raises `TableError` when nothing has been added yet.
    """
    store = retriever._store
    return Retriever(store, GivenVectors(store.card.encoder))


def log_fallback(hits: Hits) -> Hits:
    """Return the hits; log why BM25 alone has answered, where it has: frameworks have no place for the reason."""
    if hits.fallback is not None:
        _LOG.warning("BM25 alone has answered %r: %s", hits.question[:80], hits.fallback)
    return hits
