"""Sixty processes killed at random moments: no table loses, doubles or encodes a passage again."""

import os

import pytest

from tests.stress.kills import Killing

pytestmark = pytest.mark.stress

KILLS = int(os.environ.get("DPR_LANCE_STRESS_KILLS", "60"))


@pytest.mark.parametrize("seed", [2020, 2021, 2022])
def test_killed_at_random_moments_nothing_is_lost_doubled_or_encoded_twice(tmp_path, seed):
    killing = Killing(tmp_path, seed)
    killing.run(kills=KILLS // 3)
    assert len(killing.kills) == KILLS // 3
    assert killing.checked_encodings > 0
