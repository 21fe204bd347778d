"""An encoder of dpr_lance as LlamaIndex's embedding model, and the cards of other models."""

from __future__ import annotations

import asyncio
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr

from dpr_lance.encoders.card import EncoderCard
from dpr_lance.encoders.encoder import Encoder
from dpr_lance.encoders.loading import DEFAULT_ENCODER
from dpr_lance.errors import InvalidInputError
from dpr_lance.integrations.vectors import external_card
from dpr_lance.table.encoder import EncoderSource, check_source, loaded

UNNAMED = "embeddings of LlamaIndex"
"""The encoder of a table whose embedding model was not named."""


class DprLanceEmbedding(BaseEmbedding):
    """An encoder as LlamaIndex's embedding model: queries are encoded by E_Q, texts by E_P.

    `encoder` is what `dpr_lance.connect` takes; None is the packaged one, which needs no network. It is loaded at the
    first text. Raises `EncoderError` when it cannot be loaded.
    """

    _source: Any = PrivateAttr()
    _encoder: Any = PrivateAttr(default=None)

    def __init__(self, encoder: EncoderSource | None = None, **fields: Any) -> None:  # noqa: ANN401 - of BaseEmbedding
        if encoder is not None:
            check_source(encoder)
        source = DEFAULT_ENCODER if encoder is None else encoder
        super().__init__(**{"model_name": source if isinstance(source, str) else "dpr_lance", **fields})
        self._source = source

    @classmethod
    def class_name(cls) -> str:
        """Return the name of the class, as LlamaIndex asks for it."""
        return "DprLanceEmbedding"

    @property
    def source(self) -> EncoderSource:
        """What `dpr_lance.connect` takes as the encoder of the same vectors."""
        found: EncoderSource = self._source
        return found

    @property
    def encoder(self) -> Encoder:
        """The encoder, loaded."""
        if self._encoder is None:
            self._encoder = loaded(self._source)
        found: Encoder = self._encoder
        return found

    def _get_query_embedding(self, query: str) -> list[float]:
        found: list[float] = self.encoder.encode_questions([query])[0].tolist()
        return found

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        found: list[list[float]] = self.encoder.encode_passages([("", text) for text in texts]).tolist()
        return found

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)


def card_of(model: BaseEmbedding | None, dimension: int) -> EncoderCard:
    """Return the card of a model's vectors: its class, name and dimension; that of its encoder if it is one of ours."""
    if isinstance(model, DprLanceEmbedding):
        return model.encoder.card
    if model is None:
        return external_card(UNNAMED, dimension, source="llamaindex")
    if not isinstance(model, BaseEmbedding):
        raise InvalidInputError(f"embed_model={model!r:.60} is not an embedding model of LlamaIndex")
    name = f"{type(model).__name__} {model.model_name}".removesuffix(" unknown")
    return external_card(name, dimension, source="llamaindex")
