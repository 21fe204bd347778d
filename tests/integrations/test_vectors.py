"""Vectors that are made outside: stored with their passages, searched with, refused where they do not fit."""

import asyncio
import logging

import numpy as np
import pytest

import dpr_lance
from dpr_lance import Document, EncoderError, EncoderMismatchError, InvalidInputError
from dpr_lance.integrations.vectors import (
    GivenVectors,
    add_with_vectors,
    check_card,
    external_card,
    given,
    log_fallback,
    with_vectors,
)

CARD = external_card("a model", 2, source="tests")
DOCUMENTS = [Document("same text", id="east"), Document("same text", id="north"), Document("other text", id="west")]
VECTORS = {"east": [2, 0], "north": [0.0, 3.0], "west": np.array([-1, 0])}


@pytest.fixture
def table(folder):
    with dpr_lance.connect(folder, encoder=GivenVectors(CARD)) as retriever:
        add_with_vectors(retriever, DOCUMENTS, VECTORS)
        yield retriever


def names(hits):
    return [hit.document_id for hit in hits]


def test_equal_texts_keep_their_own_vectors_of_length_one(table):
    with given([1, 0.1], CARD):
        hits = table.search("x", mode="dense")
    assert names(hits) == ["east", "north", "west"]
    assert [hit.dense_score for hit in hits] == pytest.approx([0.995, 0.0995, -0.995], abs=1e-3)


def test_a_vector_is_given_to_searches_of_other_tasks_and_to_nothing_else(table):
    async def search(vector):
        with given(vector, CARD):
            return names(await table.search_async("text", k=1, mode="dense"))

    async def both():
        return await asyncio.gather(search([1, 0]), search([0, 1]))

    assert asyncio.run(both()) == [["east"], ["north"]]
    with pytest.raises(EncoderError, match="made outside of dpr_lance"):
        table.search("text", mode="dense")


def test_adding_again_changes_vectors_and_nothing_else(table):
    report = add_with_vectors(table, DOCUMENTS, {"east": [0, 1], "north": [1, 0]})
    assert report.documents_unchanged == 3
    with given([1, 0], CARD):
        assert names(table.search("text", mode="dense")) == ["north", "east", "west"]


def test_a_table_of_any_encoder_is_searched_with_vectors(retriever, documents, encoder):
    retriever.add(documents)
    wanted = retriever.search("mountain range", mode="dense")
    with given(encoder.encode_questions(["mountain range"])[0], encoder.card):
        assert names(with_vectors(retriever).search("x", mode="dense")) == names(wanted)


def test_vectors_of_another_model_are_refused(table):
    check_card(table, CARD)
    with pytest.raises(EncoderMismatchError, match=r"'a model' \(dimension 2\), not of 'another' \(dimension 2\)"):
        check_card(table, external_card("another", 2, source="tests"))


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        ([1, 2, 3], "shape"),
        ([0, 0], "all zeros"),
        ([1, float("nan")], "NaN"),
        ("no", "list of numbers"),
        (None, "vector"),
    ],
)
def test_an_unusable_vector_is_named_before_anything_is_stored(folder, vector, message):
    with dpr_lance.connect(folder, encoder=GivenVectors(CARD)) as retriever:
        with pytest.raises(InvalidInputError, match=message):
            add_with_vectors(retriever, DOCUMENTS, VECTORS | {"west": vector})
        assert len(retriever) == 0


def test_the_reason_of_a_fallback_is_logged(table, caplog):
    with caplog.at_level(logging.WARNING, logger="dpr_lance"):
        hits = log_fallback(table.search("text"))
    assert len(hits) == 3
    assert "BM25 alone has answered 'text': the vectors of encoder 'a model'" in caplog.text
