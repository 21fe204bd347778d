"""A corpus of any size that needs no model: texts of synthetic words, and clustered vectors.

Vectors are a cluster's centre and noise, at unit length; a question lies near one passage. A passage's
number gives the same text and vector in every process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from dpr_lance.encoders.card import EncoderCard

DIMENSION = 768
CLUSTERS = 1_000
SPREAD = 0.7
"""Length of the noise; a centre has length 1. Two passages of a cluster have an inner product of about 0.67."""
QUESTION_SPREAD = 0.5
VOCABULARY = 50_000
WORDS = 20
SEED = 2020
QUESTIONS_FROM = 1 << 40
"""Where the questions' numbers begin."""

Floats = npt.NDArray[np.float32]


class SyntheticEncoder:
    """An encoder whose vectors follow from the number that a text begins with."""

    def __init__(self) -> None:
        self._centres = _unit(np.random.default_rng(SEED).standard_normal((CLUSTERS, DIMENSION), dtype=np.float32))

    @property
    def card(self) -> EncoderCard:
        """Its identity."""
        return EncoderCard(name="made", dimension=DIMENSION, fingerprint=f"made-{DIMENSION}", hybrid_weight=10.0)

    def encode_passages(self, passages: Sequence[tuple[str, str]]) -> Floats:
        """float32[n, d]."""
        return self.vectors([_number(text) for _, text in passages])

    def encode_questions(self, questions: Sequence[str]) -> Floats:
        """float32[n, d]: near the passage that the question names."""
        numbers = [_number(question) for question in questions]
        noise = [_noise(QUESTIONS_FROM + number, QUESTION_SPREAD) for number in numbers]
        return _unit(self.vectors(numbers) + np.stack(noise))

    def vectors(self, numbers: Sequence[int]) -> Floats:
        """float32[n, d]: the passages' vectors."""
        noise = np.stack([_noise(number, SPREAD) for number in numbers])
        return _unit(self._centres[np.asarray(numbers) % CLUSTERS] + noise)


def text_of(number: int) -> str:
    """The passage's number and `WORDS` words, the frequent ones far more often, as in a language."""
    ranks = np.random.default_rng([SEED, number]).zipf(1.3, WORDS) % VOCABULARY
    return " ".join([f"n{number}", *(f"w{rank}" for rank in ranks)])


def documents(start: int, stop: int) -> Iterator[dict[str, str]]:
    """The passages of these numbers, as documents."""
    for number in range(start, stop):
        yield {"id": str(number), "text": text_of(number)}


def questions(count: int, passages: int) -> list[str]:
    """Questions near passages spread over the corpus: its number, and a few of its words for BM25."""
    numbers = np.linspace(0, passages - 1, count).astype(int).tolist()
    return [" ".join(text_of(number).split()[:8]) for number in numbers]


def _number(text: str) -> int:
    return int(text.split(maxsplit=1)[0].removeprefix("n"))


def _noise(seed: int, length: float) -> Floats:
    noise = np.random.default_rng([SEED, seed]).standard_normal(DIMENSION, dtype=np.float32)
    return noise * np.float32(length / np.sqrt(DIMENSION))


def _unit(vectors: Floats) -> Floats:
    unit: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit
