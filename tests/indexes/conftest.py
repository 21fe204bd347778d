"""Retrievers of vectors in clusters."""

import pytest

from tests.indexes.clusters import SMALL, VectorsByNumber
from tests.tables import opened


@pytest.fixture
def place(tmp_path):
    return tmp_path / "t"


@pytest.fixture
def policy(request):
    """The policy of `clustered`; a test gives another one by `with_policy`."""
    return getattr(request, "param", SMALL)


@pytest.fixture
def clustered(place, policy):
    with opened(place, VectorsByNumber(), policy=policy, resident_bytes=0) as retriever:
        yield retriever


@pytest.fixture(params=[True, False], ids=["unit", "any norm"])
def either(place, request):
    """Vectors that are indexed by cosine, and by inner product; and their encoder."""
    encoder = VectorsByNumber(unit=request.param)
    with opened(place, encoder, policy=SMALL, resident_bytes=0) as retriever:
        yield retriever, encoder
