"""What an encoder is: the protocol that every encoder holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dpr_lance.encoders.card import EncoderCard

Vectors: TypeAlias = NDArray[np.float32]


class Encoder(Protocol):
    """Makes vectors: a pair of a question encoder and a passage encoder with its card.

    Both methods keep the order, and a vector never depends on the other texts of the call. Blank input (nothing left
    after tokenising) and lone surrogates raise `InvalidInputError`; any other Unicode is encoded.
    """

    @property
    def card(self) -> EncoderCard:
        """The encoder's identity."""

    def encode_questions(self, questions: Sequence[str]) -> Vectors:
        """Return float32[n, d], one row per question."""

    def encode_passages(self, passages: Sequence[tuple[str, str]]) -> Vectors:
        """Return float32[n, d], one row per (title, text) pair; a blank title is the same as none."""


@runtime_checkable
class TokenCounter(Protocol):
    """An encoder that can count the tokens of a passage that it does not read."""

    def excess_tokens(self, passages: Sequence[tuple[str, str]]) -> NDArray[np.int32]:
        """Return int32[n]: the tokens of each (title, text) pair beyond the encoder's limit, 0 when it reads all."""
