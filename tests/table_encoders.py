"""Encoders of the model's tables: the shipped one, and two of one dimension whose vectors tie often and tell each other apart."""

import dataclasses
import hashlib

import numpy as np

from dpr_lance import HashEncoder
from dpr_lance.card import EncoderCard


class GridEncoder:
    """Texts hashed to small whole numbers: inner products are exact, and many are equal."""

    def __init__(self, seed, weight):
        self.seed = seed
        self.card = EncoderCard(
            name=f"grid-{seed}", dimension=8, fingerprint=f"grid-{seed}", normalise=False, hybrid_weight=weight
        )
        self.encoded = 0

    def encode_questions(self, questions):
        return np.stack([self._vector(question) for question in questions])

    def encode_passages(self, passages):
        self.encoded += len(passages)
        return np.stack([self._vector(f"{title}\n{text}") for title, text in passages])

    def _vector(self, text):
        digest = hashlib.blake2b(text.encode(), digest_size=8, key=bytes([self.seed])).digest()
        return np.frombuffer(digest, dtype=np.uint8).astype(np.float32) % 5 - 2


class WordEncoder(HashEncoder):
    """Texts that share words are near each other; vectors have unit length."""

    encoded = 0

    @property
    def card(self):
        return dataclasses.replace(super().card, hybrid_weight=3.0)

    def encode_passages(self, passages):
        self.encoded += len(passages)
        return super().encode_passages(passages)


def encoders():
    """Return the encoders by number, new ones."""
    return [WordEncoder(16), GridEncoder(1, 1.0), GridEncoder(2, 20.0)]
