"""An encoder without weights, for tests: deterministic and instant; similar wordings have similar vectors."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dpr_lance.checks import checked_input, checked_items, checked_pairs, checked_text, checked_whole
from dpr_lance.encoders.card import EncoderCard

MOST_DIMENSIONS = 65_536

_WORD = re.compile(r"\w+")


class HashEncoder:
    """Hashes words and character trigrams into a unit vector: texts that share words have a high inner product.

    It knows no meaning and no synonyms. `dimension` is the width of the vector; equal widths make equal encoders.
    """

    def __init__(self, dimension: int = 64) -> None:
        wanted = "at least 1 is needed, as a whole number"
        dimension = checked_whole(dimension, "dimension", wanted, least=1, most=MOST_DIMENSIONS)
        self._card = EncoderCard(
            name=f"hash-{dimension}",
            dimension=dimension,
            fingerprint=f"hash-encoder-1-{dimension}",
            pooling="mean",
            normalise=True,
            title_style="joined",
            hybrid_weight=10.0,
            licence="Apache-2.0",
            source="dpr_lance.encoders.hash_encoder",
        )

    @property
    def card(self) -> EncoderCard:
        """The encoder's identity."""
        return self._card

    def encode_questions(self, questions: Sequence[str]) -> NDArray[np.float32]:
        """Return float32[n, d]. Raises `InvalidInputError` for blank input and lone surrogates."""
        asked = checked_items(questions, "questions", "give a sequence of strings")
        return self._encode([(f"questions[{index}]", "", text) for index, text in enumerate(asked)])

    def encode_passages(self, passages: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """Return float32[n, d] of (title, text) pairs. Raises as `encode_questions` does."""
        return self._encode(
            [(f"passages[{index}]", title, text) for index, (title, text) in enumerate(checked_pairs(passages))]
        )

    def _encode(self, entries: Sequence[tuple[str, str, str]]) -> NDArray[np.float32]:
        vectors = np.zeros((len(entries), self._card.dimension), dtype=np.float32)
        for row, (place, title, text) in enumerate(entries):
            checked_text(title, name="title", place=place)
            checked_input(text, place)
            for feature, weight in sorted(_features(f"{title} {text}".strip().casefold())):
                digest = int.from_bytes(hashlib.blake2b(feature.encode(), digest_size=8).digest(), "little")
                vectors[row, (digest >> 1) % self._card.dimension] += weight if digest & 1 else -weight
            if not vectors[row].any():  # the features cancelled out
                vectors[row, 0] = 1.0
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors


def _features(text: str) -> set[tuple[str, float]]:
    """Return words, weighted by length because short ones are mostly function words, and trigrams for inflections."""
    padded = f" {' '.join(text.split())} "
    trigrams = {("#" + padded[start : start + 3], 0.5) for start in range(len(padded) - 2)}
    return {(word, float(min(len(word), 10))) for word in _WORD.findall(text)} | trigrams
