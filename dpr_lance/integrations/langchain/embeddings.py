"""LangChain's embeddings as an encoder of a table, and encoders as LangChain's embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from langchain_core.embeddings import Embeddings

from dpr_lance.encoders.card import EncoderCard
from dpr_lance.encoders.encoder import Encoder
from dpr_lance.encoders.encoding import PROBE
from dpr_lance.encoders.loading import DEFAULT_ENCODER
from dpr_lance.encoders.vectors import Vector
from dpr_lance.errors import InvalidInputError
from dpr_lance.integrations.vectors import external_card, given_vector, usable_vector
from dpr_lance.table.encoder import EncoderSource, check_source, loaded

MODEL_NAMES = ("model", "model_name", "model_id", "repo_id", "deployment", "deployment_name")
"""Attributes under which LangChain's embeddings name their model."""


def embeddings_card(embeddings: Embeddings, dimension: int | None) -> EncoderCard:
    """Return the card of LangChain's embeddings: their class, model and dimension.

    Without a dimension, one text is embedded to measure it.
    """
    if not isinstance(embeddings, Embeddings):
        raise InvalidInputError(
            f"embedding={embeddings!r:.60} is not an Embeddings object of LangChain; None is the table's own encoder"
        )
    if dimension is None:
        dimension = len(embeddings.embed_query(PROBE))
    model = next((value for name in MODEL_NAMES if isinstance(value := getattr(embeddings, name, None), str)), "")
    kind = type(embeddings)
    name = f"{kind.__qualname__} {model}".strip()
    return external_card(name, dimension, source=f"langchain {kind.__module__}.{kind.__qualname__}")


class EmbeddingsEncoder:
    """LangChain's embeddings as an encoder; vectors are scaled to length 1."""

    def __init__(self, embeddings: Embeddings, dimension: int | None = None) -> None:
        self.embeddings = embeddings
        self._card = embeddings_card(embeddings, dimension)

    @property
    def card(self) -> EncoderCard:
        """The encoder's identity."""
        return self._card

    def encode_questions(self, questions: Sequence[str]) -> Vector:
        """Return float32[n, d]: the vector that `given` has set, else the embeddings' own."""
        vector = given_vector()
        if vector is not None:
            return np.repeat(vector[None], len(questions), axis=0)
        return self._usable([self.embeddings.embed_query(question) for question in questions])

    def encode_passages(self, passages: Sequence[tuple[str, str]]) -> Vector:
        """Return float32[n, d]; a title stands before its text."""
        texts = [f"{title} {text}" if title.strip() else text for title, text in passages]
        return self._usable(self.embeddings.embed_documents(texts))

    def _usable(self, vectors: Sequence[Sequence[float]]) -> Vector:
        return np.stack([usable_vector(vector, self._card, f"text {at}") for at, vector in enumerate(vectors)])


class DprLanceEmbeddings(Embeddings):
    """An encoder of dpr_lance as LangChain's embeddings: `embed_query` is E_Q, `embed_documents` is E_P.

    `encoder` is what `dpr_lance.connect` takes; None is the packaged one, which needs no network. It is loaded at the
    first text. Raises `EncoderError` when it cannot be loaded.
    """

    def __init__(self, encoder: EncoderSource | None = None) -> None:
        if encoder is not None:
            check_source(encoder)
        self._source = DEFAULT_ENCODER if encoder is None else encoder
        self._encoder: Encoder | None = None

    @property
    def encoder(self) -> Encoder:
        """The encoder, loaded."""
        if self._encoder is None:
            self._encoder = loaded(self._source)
        return self._encoder

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return the vectors of passages without a title."""
        found: list[list[float]] = self.encoder.encode_passages([("", text) for text in texts]).tolist()
        return found

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a question."""
        found: list[float] = self.encoder.encode_questions([text])[0].tolist()
        return found
