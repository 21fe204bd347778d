"""The pages show what the tracked results give: `python -m benchmarks tables` repairs what fails here."""

import re

import pytest

from benchmarks import results
from benchmarks.__main__ import CASES
from benchmarks.render import headlines, tables
from dpr_lance.encoders import loading as encoders
from dpr_lance.reader import loading as readers


def between_marks(page, mark):
    text = page.read_text(encoding="utf-8")
    return text.split(f"<!-- {mark} -->")[1].split(f"<!-- end of {mark} -->")[0].strip()


def test_every_case_has_its_table():
    assert list(tables.TABLES) == list(CASES)
    assert between_marks(tables.PAGE, "versions") == tables.versions()


@pytest.mark.parametrize("case", CASES)
def test_a_table_is_what_the_results_give(case):
    assert between_marks(tables.PAGE, case) == tables.section(case).strip()


def test_the_readme_and_the_documentation_quote_the_results():
    blocks = headlines.blocks()
    assert set(blocks) == {"accuracy", "reader", "paper", "end-to-end", "training", "ratios", "behind"}
    for mark, text in blocks.items():
        assert between_marks(headlines.page_of(mark), mark) == text.strip()


def test_the_readme_says_how_large_an_installation_is():
    megabytes = [
        round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6)
        for folder in (encoders.PACKAGED, readers.PACKAGED)
    ]
    packages = results.read("end-to-end")["all"]["contenders"]["dpr_lance"]["installed"]["packages"]
    text = headlines.README.read_text(encoding="utf-8")
    said = re.search(r"int8 ONNX, (\d+) MB, .* int8 ONNX, (\d+) MB; a base install is (\d+) packages", text)
    assert [int(number) for number in said.groups()] == [*megabytes, packages]
