"""A small table, filled and optimised."""

import pytest


@pytest.fixture
def filled(retriever, documents):
    retriever.add(documents)
    retriever.optimize()
    return retriever
