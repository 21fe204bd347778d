"""Adapters without their framework."""

import importlib
import importlib.util

import pytest

from dpr_lance import MissingExtraError
from dpr_lance.integrations.extras import require


@pytest.mark.parametrize(
    ("package", "name"), [("langchain_core", "langchain"), ("llama_index", "llamaindex"), ("haystack", "haystack")]
)
def test_an_adapter_without_its_framework_names_the_command(package, name):
    if importlib.util.find_spec(package) is not None:
        pytest.skip(f"{package} is installed here")
    with pytest.raises(MissingExtraError, match=rf"pip install 'dpr-lance\[{name}\]'"):
        importlib.import_module(f"dpr_lance.integrations.{name}")


def test_a_missing_package_is_reported_with_its_command():
    with pytest.raises(MissingExtraError, match=r"pip install 'dpr-lance\[langchain\]'"):
        require("no_such_framework", "LangChain", "langchain")
