"""Random operations on tables of some hundred passages, compared with a model in plain Python: a few on many tables.

`make stress` takes thousands (tests/stress/test_table_model.py).
"""

import pytest

from tests.table_run import run

STEPS = 50
SEEDS = range(3)


@pytest.mark.parametrize("seed", SEEDS)
def test_any_steps_leave_what_the_model_says(seed):
    assert len(run(seed, STEPS)) == STEPS
