"""A folder of tests for each framework. Without the framework they are skipped; the reason says what runs them."""

import importlib.util
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NEEDED = {"langchain": "langchain_tests", "llamaindex": "llama_index", "haystack": "haystack"}
"""The package that the tests of a folder need."""


class Unavailable(pytest.Module):
    """A test module that cannot be imported here."""

    def collect(self):
        pytest.skip("needs its framework: `make test-integrations` runs it", allow_module_level=True)


def pytest_pycollect_makemodule(module_path, parent):
    needed = NEEDED.get(module_path.parent.name) if module_path.parent.parent == HERE else None
    if needed is None or importlib.util.find_spec(needed) is not None:
        return None
    return Unavailable.from_parent(parent, path=module_path)
