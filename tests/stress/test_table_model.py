"""Thousands of random operations on a table, compared with a model of it."""

import pytest

pytestmark = pytest.mark.stress
