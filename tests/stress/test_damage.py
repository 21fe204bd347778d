"""Three hundred random damages of a table: no hang, every error ours, no wrong hit that `check` does not find."""

import pytest

from tests.health import damages
from tests.stress.sizes import size

pytestmark = pytest.mark.stress

DAMAGES = size(300)


def test_random_damages(tmp_path):
    damages.make_table(tmp_path / "table")
    counts, failures = damages.tally(tmp_path / "table", range(1_000, 1_000 + DAMAGES))
    print(dict(counts))  # noqa: T201 - what `make stress` is run for
    assert not failures
