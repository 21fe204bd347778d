"""Random operations on tables of some hundred passages, compared with a model in plain Python: a few on many tables.

`make stress` takes thousands (tests/stress/test_table_model.py).
"""

import pytest

from tests.model.run import replay, run

STEPS = 50
SEEDS = range(3)


@pytest.mark.parametrize("seed", SEEDS)
def test_any_steps_leave_what_the_model_says(seed):
    assert len(run(seed, STEPS)) == STEPS


def test_passages_that_plain_lancedb_has_doubled_get_vectors():
    documents = [{"id": "a", "text": "river"}, {"id": "b", "text": "delta"}]
    replay(
        [
            ("add", {"by": 0, "documents": documents, "embed": False}),
            ("plain_append", {"numbers": [0]}),
            ("embed", {"by": 0}),
        ]
    )
