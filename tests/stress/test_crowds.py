"""Writers of the same documents, an optimiser and a reader at once: each document is stored once, whole and last."""

import pytest

from tests.stress import crowds
from tests.stress.sizes import size

pytestmark = pytest.mark.stress

CALLS = size(30)


@pytest.mark.parametrize("writers", [2, 4])
def test_every_document_is_as_some_writer_wrote_it_last(tmp_path, writers):
    outcome = crowds.crowd(tmp_path, writers, CALLS, seed=2020)
    assert outcome.adds == writers * CALLS
    assert min(outcome.optimised, outcome.reads) >= 1
