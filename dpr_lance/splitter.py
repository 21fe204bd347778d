"""Documents to passages: disjoint blocks of about 100 words (Karpukhin et al. 2020, section 4.1).

A word is a run of characters without white space; in scripts that write no spaces (Chinese, Japanese) each character
is one. A passage's text is a slice of the document's, so its offsets lead back to the place it came from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from dpr_lance.errors import InvalidInputError

_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")

DEFAULT_WORDS = 100
"""Words a passage (paper, section 4.1)."""


@dataclass(frozen=True, slots=True)
class Span:
    """A passage's place in its document: character offsets, `end` exclusive."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class WordSplitter:
    """Splits a text into disjoint passages of `words` words; the last one may be shorter."""

    words: int = DEFAULT_WORDS

    def __post_init__(self) -> None:
        if self.words < 1:
            raise InvalidInputError(f"WordSplitter(words={self.words}): a passage has at least 1 word")

    def split(self, text: str) -> Iterator[Span]:
        """Yield the passages' spans in order; together they hold every word of `text` once."""
        start = end = count = 0
        for word in _WORD.finditer(text):
            if count == self.words:
                yield Span(start, end)
                count = 0
            if count == 0:
                start = word.start()
            end = word.end()
            count += 1
        if count:
            yield Span(start, end)

    @property
    def name(self) -> str:
        """How the table's schema names this splitter; `splitter_named` is the inverse."""
        return f"words:{self.words}"


WHOLE = "whole"
"""The name of `splitter=None`: a document is one passage, its text stored as it is."""


def splitter_name(splitter: WordSplitter | None) -> str:
    """Return the name under which a table remembers `splitter`."""
    return WHOLE if splitter is None else splitter.name


def splitter_named(name: str) -> WordSplitter | None:
    """Return the splitter that a table remembers under `name`; raise `InvalidInputError` for one not known here."""
    kind, _, words = name.partition(":")
    if name == WHOLE:
        return None
    if kind == "words" and words.isdecimal():
        return WordSplitter(int(words))
    raise InvalidInputError(f"splitter {name!r} is not known here (known: '{WHOLE}', 'words:N'): upgrade dpr-lance")


def spans_of(text: str, splitter: WordSplitter | None) -> list[Span]:
    """Return the spans of `text` under `splitter`; None keeps the whole text, surrounding white space included."""
    return [Span(0, len(text))] if splitter is None else list(splitter.split(text))
