"""Markdown as sections: the headings above each, and its paragraphs and code as offsets in the text.

It knows the headings of CommonMark (ATX `## …` and underlined), fenced code, thematic breaks, and front matter in YAML
or TOML. A heading inside code or a quotation does not count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from dpr_lance.text.boundaries import lines

_FRONT_MATTER = re.compile(
    r"\ufeff?(?P<mark>---|\+\+\+)[ \t]*\r?\n(?=(?:#[^\n]*\n)*[\w\"'-]+[ \t]*[:=]|(?P=mark))"
    r"(?:(?!(?:(?P=mark)|\.\.\.)[ \t]*\r?(?:\n|\Z))[^\n]*\n)*(?:(?P=mark)|\.\.\.)[ \t]*\r?(?:\n|\Z)"
)
_FENCE = re.compile(r"(?P<fence>`{3,}(?=[^`]*$)|~{3,})")
_ATX = re.compile(r"#{1,6}(?=[ \t]|$)")
_NO_PARAGRAPH = re.compile(r"[>|<]|[-*+][ \t]|\d{1,9}[.)][ \t]")
"""The beginning of a line that no underline makes a heading: a quotation, table, HTML, list item."""
_NO_TEXT = re.compile(r"[-*_=|:>#+~`\\\s\ufeff]*")
"""Nothing but markup."""

_MARKUP = (
    (re.compile(r"(?i)<!--.*?-->|</?(?:a|b|br|code|em|font|i|img|kbd|small|span|strong|sub|sup)\b[^<>]*>"), ""),
    (re.compile(r"(?<!\w)!?\[([^\[\]]*)\](?:\([^()]*\)|\[[^\[\]]*\])?"), r"\1"),
    (re.compile(r"\{[#.:][^{}]*\}\s*$"), ""),
    (re.compile(r"(?<!\\)(\*{1,3})(?=\S)(.+?)\1"), r"\2"),
    (re.compile(r"(`+|(?<!\w)_{1,3}(?=\S))(.+?)\1"), r"\2"),
    (re.compile(r"\\([!-/:-@\[-`{-~])"), r"\1"),
)
"""What is removed from a heading: tags, links, attributes, emphasis and code marks, escapes."""

_MARKED = re.compile(r"[<\[{*`_\\]")

_LONGEST_HEADING = 400
"""Characters of a heading that a title takes."""


class Block(NamedTuple):
    """A paragraph, list, table or fenced code: character offsets, `end` exclusive."""

    start: int
    end: int
    code: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """The blocks between two headings, under the plain texts of the headings above them, outermost first."""

    headings: tuple[str, ...]
    blocks: tuple[Block, ...]


def sections(text: str) -> Iterator[Section]:
    """Yield the sections of a Markdown text that are not empty, in order.

    A heading with neither text nor a deeper heading below it becomes the text of a section itself, so that nothing is
    lost.
    """
    above: list[_Heading] = []
    blocks: list[Block] = []
    for item in chain(_items(text), [_Heading(0, len(text), len(text), "")]):
        if isinstance(item, Block):
            blocks.append(item)
            continue
        headings = tuple(heading.plain for heading in above if heading.plain)
        if blocks:
            yield Section(headings, tuple(blocks))
        elif above and above[-1].plain and item.level <= above[-1].level:
            yield Section(headings[:-1], (Block(above[-1].start, above[-1].end),))
        blocks = []
        while above and above[-1].level >= item.level:
            above.pop()
        above.append(item)


def first_heading(text: str) -> str | None:
    """Return the text of the first ATX heading (`# ...`) outside fenced code that is not empty; None without one."""
    fenced = False
    for line in text.splitlines():
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        elif not fenced and (mark := _ATX.match(line)):
            heading = _without_end_mark(line[mark.end() :].strip()).strip()
            if heading:
                return heading
    return None


class _Heading(NamedTuple):
    level: int
    start: int
    end: int
    plain: str


def _items(text: str) -> Iterator[Block | _Heading]:
    """Yield headings and blocks in order, line by line."""
    front = _FRONT_MATTER.match(text)
    block: int | None = None  # offset of the open block
    fence = ""  # of the closing line, while the block is fenced code
    paragraph = False  # whether an underline makes the open block a heading
    for start, end in lines(text, front.end() if front else 0):
        line = text[start:end]
        body = line.strip(" \ufeff" if start == 0 else " ").rstrip()
        indent = len(line) - len(line.lstrip(" "))
        if fence:
            if body.startswith(fence) and not body.strip(fence[0]):
                yield Block(block or 0, end, code=True)
                block, fence = None, ""
            continue
        if not body:
            yield from _closed(text, block, start)
            block = None
        elif indent <= 3 and block is not None and paragraph and not body.strip(body[0]) and body[0] in "=-":
            yield _heading(text, 1 if body[0] == "=" else 2, block, start)
            block = None
        elif indent <= 3 and _is_thematic_break(body):
            yield from _closed(text, block, start)
            block = None
        elif indent <= 3 and (opening := _FENCE.match(body)):
            yield from _closed(text, block, start)
            block, fence = start, opening["fence"]
        elif indent <= 3 and (mark := _ATX.match(body)):
            yield from _closed(text, block, start)
            block = None
            content = start + line.index("#") + mark.end()
            yield _heading(text, mark.end(), content, content + len(_without_end_mark(body[mark.end() :])))
        elif block is None:
            block, paragraph = start, indent <= 3 and line[0] != "\t" and not _NO_PARAGRAPH.match(body)
    if fence and block is not None:
        yield Block(block, len(text), code=True)
    else:
        yield from _closed(text, block, len(text))


def _closed(text: str, start: int | None, end: int) -> Iterator[Block]:
    if start is not None and not _NO_TEXT.fullmatch(text, start, end):
        yield Block(start, end)


def _without_end_mark(content: str) -> str:
    """Return an ATX heading's text without the `##` that may close it after a space."""
    before = content.rstrip("#")
    return before if not before or before[-1] in " \t" else content


def _is_thematic_break(body: str) -> bool:
    marks = "".join(body.split())
    return len(marks) >= 3 and marks[0] in "-*_" and not marks.strip(marks[0])


def _heading(text: str, level: int, start: int, end: int) -> _Heading:
    """Return the heading between two offsets, without its markup."""
    plain = text[start:end][:_LONGEST_HEADING]
    if _MARKED.search(plain):
        for pattern, replacement in _MARKUP:
            plain = pattern.sub(replacement, plain)
    return _Heading(level, start, end, " ".join(plain.split()))
