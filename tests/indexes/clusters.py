"""Vectors in clusters, and a policy under which some hundred rows have a vector index."""

import dataclasses

import numpy as np
import pytest

from dpr_lance.encoders.card import EncoderCard
from dpr_lance.table.index_policy import IndexPolicy
from dpr_lance.table.tuning import training_of
from tests.tables import store_in

SMALL = IndexPolicy(
    vector_index_rows=600,
    rows_per_partition=64,
    scalar_index_rows=300,
    recall_questions=50,
    probed_shares=(0.1, 0.2, 0.35, 0.5, 0.7, 1.0),
)


class VectorsByNumber:
    """An encoder whose vectors come in clusters, seeded by the number at the end of the text."""

    def __init__(self, *, unit=True, dimension=16):
        self.card = EncoderCard(
            name="clusters", dimension=dimension, fingerprint="clusters", hybrid_weight=1.0, normalise=unit
        )

    def encode_passages(self, passages):
        return np.stack([self._vector(int(text.split()[-1])) for _, text in passages])

    def encode_questions(self, questions):
        return np.stack([self._vector(int(question.split()[-1])) for question in questions])

    def _vector(self, number):
        dimension = self.card.dimension
        centre = np.random.default_rng(number % 20).standard_normal(dimension)
        vector = centre + 0.3 * np.random.default_rng(1000 + number).standard_normal(dimension)
        return (vector / np.linalg.norm(vector) if self.card.normalise else vector).astype(np.float32)


def numbered(start, stop):
    return [{"id": f"d{number:05}", "text": f"text number {number}"} for number in range(start, stop)]


def training_in(place):
    """The record of the last training in a folder."""
    store = store_in(place)
    return training_of(store, store.card)


def kinds(retriever):
    return {index.column: index.kind for index in retriever.info().indexes}


def with_policy(**numbers):
    return pytest.mark.parametrize("policy", [dataclasses.replace(SMALL, **numbers)], indirect=True, ids=[""])
