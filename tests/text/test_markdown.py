"""Markdown's sections: headings of both kinds, what only looks like one, front matter, and nothing lost."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpr_lance.text.markdown import sections


def outline(text):
    """Sections as (heading path, block texts)."""
    return [
        (" › ".join(section.headings), [text[block.start : block.end].strip() for block in section.blocks])
        for section in sections(text)
    ]


def test_headings_make_a_path():
    text = "before\n# A\na\n## B ##\nb\n### C\nc\n## D\nd\n# E\ne\n### F\nf"
    assert outline(text) == [
        ("", ["before"]),
        ("A", ["a"]),
        ("A › B", ["b"]),
        ("A › B › C", ["c"]),
        ("A › D", ["d"]),
        ("E", ["e"]),
        ("E › F", ["f"]),
    ]


def test_underlined_headings():
    text = "Title\nin two lines\n===\ntext\n\nPart\n----\nmore\n"
    assert outline(text) == [("Title in two lines", ["text"]), ("Title in two lines › Part", ["more"])]


@pytest.mark.parametrize(
    "text",
    [
        "#hashtag and #5",
        "####### seven marks",
        "\\# escaped",
        "    # indented code",
        "\t# indented by a tab",
        "text\n    # goes on",
        "> # quoted",
        "```\n# in code\n```",
        "~~~ python\n# in code\n```\n# still\n~~~~",
        "````\n```\n# nested\n```\n````",
        "```\n```js\n# still in code\n```",
        "```sh\n# never closed",
        "> quoted\n---",
        "- item\n---",
        "1. item\n---",
        "| a |\n---",
        "text\n\n---",
        "    code\n---",
    ],
)
def test_what_only_looks_like_a_heading(text):
    assert {path for path, _ in outline(f"{text}\n\nend")} == {""}


def test_inline_code_opens_no_fence():
    assert outline("``` x ``` is inline\n# A\ntext\n") == [("", ["``` x ``` is inline"]), ("A", ["text"])]


@pytest.mark.parametrize(
    ("heading", "plain"),
    [
        ("`code` and **bold** _it_", "code and bold it"),
        ("[Link](http://x.y/z) [ref][1] [1.0.0] - 2020", "Link ref 1.0.0 - 2020"),
        ("![logo](a.png) Name", "logo Name"),
        ('<a name="x"></a>Anchor', "Anchor"),
        ("Install {#install}", "Install"),
        ("C#", "C#"),
        ("2 * 3 * 4, snake_case_name, array[0], vector<T>", "2 * 3 * 4, snake_case_name, array[0], vector<T>"),
        ("`__init__`", "__init__"),
        (r"\*stars\*", "*stars*"),
        ("closed ###", "closed"),
    ],
)
def test_titles_are_plain(heading, plain):
    assert outline(f"## {heading}\ntext") == [(plain, ["text"])]


@pytest.mark.parametrize(
    "front",
    [
        "---\ntitle: x\ntags: [a]\n---\n",
        "---\r\ntitle: x\r\n...\r\n",
        '+++\ntitle = "x"\n+++\n',
        "---\n---\n",
        "---\n# a comment\nkey: x\n---\n",
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_front_matter_is_passed_over(front, mark):
    assert outline(f"{mark}{front}# A\ntext") == [("A", ["text"])]


@pytest.mark.parametrize(
    "text", ["---\n\nbreak: one\n\n---\ntext", "---\nkey: value\nnever closed", "---\n# never closed\n---\n"]
)
def test_what_only_looks_like_front_matter(text):
    kept = " ".join(block for _, blocks in outline(text) for block in blocks)
    assert any(word in kept for word in ("break: one", "never closed"))
    assert "key: value" in kept or "key" not in text


def test_a_byte_order_mark_hides_no_heading():
    assert outline("\ufeff# A\ntext") == [("A", ["text"])]


def test_a_heading_with_nothing_below_is_text_itself():
    text = "# A\n## B\n## [C](x) ##\n\n***\n# D\n"
    assert outline(text) == [("A", ["B"]), ("A", ["[C](x)"]), ("", ["D"])]


def test_blocks():
    text = "one\ntwo\n\n***\nthree\n```\nx\n\ny\n```\nfour\n* * *\n"
    (section,) = sections(text)
    assert [text[block.start : block.end].strip() for block in section.blocks] == [
        "one\ntwo",
        "three",
        "```\nx\n\ny\n```",
        "four",
    ]
    assert [block.code for block in section.blocks] == [False, False, True, False]


LINES = st.sampled_from(
    [
        "# {}",
        "## {} ##",
        "### `{}`",
        "{}",
        "{}.",
        "- {}",
        "  {}",
        "    {}",
        "> {}",
        "```",
        "~~~",
        "",
        "---",
        "===",
        "| {}",
    ]
)


@given(st.lists(LINES, max_size=30), st.sampled_from(["\n", "\r\n"]))
def test_every_word_is_in_one_block_or_in_a_heading(kinds, newline):
    text = newline.join(kind.format(f"w{number}") for number, kind in enumerate(kinds))
    found = list(sections(text))
    blocks = [block for section in found for block in section.blocks]
    assert all(left.end <= right.start for left, right in itertools.pairwise(blocks))
    in_blocks = [word for block in blocks for word in re.findall(r"w\d+", text[block.start : block.end])]
    assert len(in_blocks) == len(set(in_blocks))
    in_headings = {word for section in found for heading in section.headings for word in re.findall(r"w\d+", heading)}
    assert not in_headings & set(in_blocks)
    assert in_headings | set(in_blocks) == set(re.findall(r"w\d+", text))
