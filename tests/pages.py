"""The documentation's pages, and their code."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
OF_FRAMEWORKS = {"haystack.md", "langchain.md", "llamaindex.md"}
"""Pages whose code needs a framework; the tests of that framework run it."""


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL)


def run_python(page):
    """Run the Python of a page, in order."""
    names = {}
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec"), names)
    if "retriever" in names and hasattr(names["retriever"], "close"):
        names["retriever"].close()
