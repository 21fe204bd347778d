"""README and documentation are true: their Python runs, their commands, files, links and messages exist."""

import ast
import re

import pytest

from tests.pages import DOCS, OF_FRAMEWORKS, ROOT, blocks, run_python

PAGES = sorted(path.name for path in DOCS.glob("*.md"))


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_the_python_of_a_page_runs_in_order(page, tmp_path, monkeypatch):
    if page in OF_FRAMEWORKS:
        pytest.skip("needs its framework: `make test-integrations` runs it")
    monkeypatch.chdir(tmp_path)
    run_python(page)


@pytest.mark.parametrize("page", PAGES)
def test_the_links_of_a_page_lead_somewhere(page):
    links = re.findall(r"\]\((?!http)([^)#]+)[^)]*\)", (DOCS / page).read_text())
    assert [link for link in links if not (DOCS / link).exists()] == []


def test_every_page_is_in_the_navigation():
    listed = re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), flags=re.MULTILINE)
    assert sorted(listed) == PAGES


def strings_of_the_library():
    """Every string of the library and the trainer; what is formatted into one is a blank."""
    for path in (*ROOT.glob("dpr_lance/**/*.py"), *ROOT.glob("trainer/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else " " for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_the_messages_on_the_page_of_errors_are_those_of_the_library():
    rows = re.findall(r"^\| (`.*?) \|", (DOCS / "errors.md").read_text(), flags=re.MULTILINE)
    messages = [message for row in rows for message in re.findall(r"`([^`]+)`", row) if not message.endswith(".json")]
    assert len(messages) > 20
    text = "\n".join(strings_of_the_library())
    parts = {message: re.split(r"\.\.\.|\b[NM]\b|=", message) for message in messages}
    assert [message for message, found in parts.items() if not all(part.strip() in text for part in found)] == []
