"""Whatever a text holds, reading it takes time in proportion to its length.

Each case runs in a process of its own with a limit that the quadratic way would miss by far: no clock is compared.
"""

import json
import subprocess
import sys

import pytest

LENGTH = 200_000
LIMIT = 120

UNITS = [
    *(" ", "a", "\n", "# ", "#", "* ", "**a", "_a ", "`", "``a", "~~~\n", "```\n", "[", "[a](", "![", "]", "(", "<"),
    *("<a ", "<!--", "{#", "\\", "|", "- a\n", "1. ", "---\n", "+++\n", "=\n", "> ", "a: b\n", ".", "?!", ". ", ".)"),
    *("[1]", '"', "'", "A.", "3. ", "\0", " \n", "a b ", "雪", "。", "」。", "\u0e01 ", "\u1000\u1039", "\u200b"),
    *("\u00ad", "e\u0301", "\u0301\u0316"),
]
"""What adversarial texts repeat: blanks, one letter, nested brackets, fences and quotes that nothing closes."""

FORMS = ["{0}", "# x{0}x", "---\na: b\n{0}", "x{0}x\n"]

CALLS = {
    "markdown": "lambda text: list(MarkdownSplitter(overlap=20).split(text))",
    "sentences": "lambda text: list(SentenceSplitter(overlap=20).split(text))",
    "words": "lambda text: list(WordSplitter(overlap=99).split(text))",
    "heading": "first_heading",
    "snippet": "lambda text: snippet(text, 'alpha a x b')",
    "question": "distinct_words",
    "multilingual": "lambda text: snippet(text[:1_000], text[-1_000:], language='multilingual')",
    "answers": "lambda text: answer_matcher([text[:200], 'b'])(text)",
    "shown": "one_line",
    "licence": "licence",
}

CODE = """
import json, sys, tempfile
from pathlib import Path
from dpr_lance.cli.console import one_line
from dpr_lance.text.markdown import first_heading
from dpr_lance.text.answers import answer_matcher
from dpr_lance.text.snippet import snippet
from dpr_lance.text.splitter import MarkdownSplitter, SentenceSplitter, WordSplitter
from dpr_lance.text.terms import distinct_words

def licence(text):
    from dpr_lance.trainer.checkpoints.description import licence_of
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "README.md").write_text(text, encoding="utf-8")
        licence_of(Path(folder))

call = {call}
for unit in {units}:
    for form in {forms}:
        call(form.format(unit * ({length} // len(unit))))
"""


@pytest.mark.parametrize("name", CALLS)
def test_text_is_read_in_linear_time(name):
    length = (
        LENGTH // 50
        if name in ("snippet", "question", "multilingual", "answers", "sentences", "markdown", "words")
        else LENGTH
    )
    code = CODE.format(call=CALLS[name], units=UNITS, forms=FORMS, length=length)
    subprocess.run([sys.executable, "-c", code], check=True, timeout=LIMIT)


@pytest.mark.parametrize("unit", [" ", "a", "[", "`", '"', ". "])
def test_a_long_text_is_split_and_shown(unit):
    code = CODE.format(
        call="lambda text: (list(MarkdownSplitter().split(text)), snippet(text, 'a b'), first_heading(text))",
        units=[unit],
        forms=FORMS[:2],
        length=LENGTH,
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=LIMIT)


HARD = {
    "sentences and words": [
        "." * 400_000 + "x",
        '."' + '"' * 400_000 + "x",
        "." + "[1]" * 200_000 + "x",
        " " * 400_000 + "x",
        "\n" * 400_000 + "x",
        "\n " * 200_000 + "x",
        "「" * 400_000,
        "\u200b" * 400_000,
        "A. " * 150_000,
        "ก" + " " * 400_000 + "x",
        "a.b." * 100_000 + " X",
        "เ" * 400_000,
    ],
    "markdown": [
        "# " + "x" + " " * 400_000 + "y #",
        "# " + "[" * 400_000,
        "# " + "*a" * 200_000,
        "- " * 200_000 + "x",
        "---\nkey: value\n" * 50_000,
        "```\n" * 100_001,
        "`" * 400_000 + " `",
        "x\n" * 200_000 + "===\n",
        "# A\n## B\n" * 50_000,
    ],
}
READ = {
    "sentences and words": """
from dpr_lance.text.boundaries import sentences, words
def read(text):
    assert "".join(text[start:end] for start, end in sentences(text)) == text
    assert len(list(words(text))) <= len(text)
""",
    "markdown": """
from dpr_lance.text.markdown import sections
def read(text):
    list(sections(text))
""",
}


@pytest.mark.parametrize("name", HARD)
def test_hard_texts_are_read_in_linear_time(name):
    """Each takes well under a second; a quadratic search would take minutes."""
    code = f"import json, sys\n{READ[name]}\n[read(text) for text in json.load(sys.stdin)]"
    subprocess.run([sys.executable, "-c", code], input=json.dumps(HARD[name]), text=True, check=True, timeout=LIMIT)
