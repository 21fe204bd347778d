"""The README is true: its Python runs, its commands exist, its files are there."""

import re
from pathlib import Path

import pytest

from dpr_lance.cli import app as cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BENCHMARKS = (ROOT / "benchmarks" / "README.md").read_text()
PAGES = [path.read_text() for path in (ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))]


def blocks(language, text=README):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_the_python_runs_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "2 2"
    assert printed[1].startswith("1 Rhine ")
    assert names["report"].documents_added == 2
    names["retriever"].close()


COMMANDS = sorted(
    {line for text in (README, BENCHMARKS, *PAGES) for block in blocks("console", text) for line in block.splitlines()}
)


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("dpr-lance ")])
def test_the_commands_and_their_options_exist(line, capsys):
    words = line.split("#")[0].split()
    assert cli.run([words[1], "--help"]) == 0
    shown = capsys.readouterr().out
    options = [word for word in words[2:] if word.startswith("-")]
    assert all(option in shown for option in options), options


@pytest.mark.parametrize("target", [line.split()[1] for line in COMMANDS if line.startswith("make ")])
def test_the_make_targets_exist(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


LINKS = [ROOT / link for link in re.findall(r"\]\((?!http)([^)]+)\)", README)]
LINKS += [ROOT / "benchmarks" / link for link in re.findall(r"\]\((?!http)([^)]+)\)", BENCHMARKS)]


@pytest.mark.parametrize("link", LINKS)
def test_the_links_lead_somewhere(link):
    assert link.exists()


def test_nothing_is_left_to_fill_in():
    assert not re.findall(r"@[A-Z]+@", README)
