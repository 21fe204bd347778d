"""Thousands of random filters: every answer equals SQLite's, or is a named error, and the process lives."""

import random

import pytest

from tests.stress.sizes import size
from tests.table.random_filters import Compared, broken, filter_of

pytestmark = pytest.mark.stress


@pytest.mark.parametrize("columns", [(), ("year", "kind", "flag")], ids=["no index", "indexes"])
@pytest.mark.parametrize("mode", ["bm25", "hybrid"])
def test_random_filters_find_what_they_say_or_are_refused(tmp_path, columns, mode):
    compared = Compared(tmp_path / "t", columns)
    for seed in range(size(1_000)):
        choose = random.Random(seed)
        sql = filter_of(choose)
        compared.check(sql, whole=True, mode=mode)
        compared.check(broken(choose, sql), whole=False, mode=mode)
