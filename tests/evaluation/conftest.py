"""A small table for the evaluation tests."""

import pytest


@pytest.fixture
def filled(retriever, documents):
    retriever.add(documents)
    return retriever
