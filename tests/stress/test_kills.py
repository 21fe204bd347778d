"""Sixty processes killed at random moments: no table loses, doubles or encodes a passage again."""

import pytest

from tests.stress.kills import Killing
from tests.stress.sizes import size

pytestmark = pytest.mark.stress

KILLS_PER_SEED = size(20)


@pytest.mark.parametrize("seed", [2020, 2021, 2022])
def test_killed_at_random_moments_nothing_is_lost_doubled_or_encoded_twice(tmp_path, seed):
    killing = Killing(tmp_path, seed)
    killing.run(kills=KILLS_PER_SEED)
    assert killing.kills == KILLS_PER_SEED
    assert killing.checked_encodings > 0
