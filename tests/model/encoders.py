"""Encoders of the model's tables: the shipped one, and two of one dimension whose vectors are often equal."""

import dataclasses
import hashlib

import numpy as np

from dpr_lance import HashEncoder, InvalidInputError
from dpr_lance.encoders.card import EncoderCard

NO_WORD = "\ufffd\ufffd"
"""A word of which these encoders make nothing, as real ones' tokenizers do; a passage of nothing else has no vector."""


def encodable(text):
    """Tell whether there is a vector for a passage of this text."""
    return any(word != NO_WORD for word in text.split())


def _check(texts):
    for text in texts:
        if not encodable(text):
            raise InvalidInputError(f"no token in {text!r}")


class GridEncoder:
    """Texts hashed to small whole numbers: inner products are exact, and many are equal."""

    def __init__(self, seed, weight):
        self.seed = seed
        self.card = EncoderCard(
            name=f"grid-{seed}", dimension=8, fingerprint=f"grid-{seed}", normalise=False, hybrid_weight=weight
        )

    def encode_questions(self, questions):
        _check(questions)
        return np.stack([self._vector(question) for question in questions])

    def encode_passages(self, passages):
        _check(text for _, text in passages)
        return np.stack([self._vector(f"{title}\n{text}") for title, text in passages])

    def _vector(self, text):
        digest = hashlib.blake2b(text.encode(), digest_size=8, key=bytes([self.seed])).digest()
        return np.frombuffer(digest, dtype=np.uint8).astype(np.float32) % 5 - 2


class WordEncoder(HashEncoder):
    """Texts that share words are near each other; vectors have unit length."""

    @property
    def card(self):
        return dataclasses.replace(super().card, hybrid_weight=3.0)

    def encode_questions(self, questions):
        _check(questions)
        return super().encode_questions(questions)

    def encode_passages(self, passages):
        _check(text for _, text in passages)
        return super().encode_passages(passages)


def encoders():
    """Return the encoders by number, new ones."""
    return [WordEncoder(16), GridEncoder(1, 1.0), GridEncoder(2, 20.0)]
