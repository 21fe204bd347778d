"""Splitters: from documents to passages.

`WordSplitter` makes the paper's disjoint blocks of 100 words (Karpukhin et al. 2020, section 4.1), `SentenceSplitter`
keeps sentences whole, `MarkdownSplitter` keeps to sections and puts their headings into the title. `boundaries` defines
words and sentences. The text of a passage is always a slice of its document.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

from dpr_lance.checks import checked_whole, refused
from dpr_lance.errors import InvalidInputError
from dpr_lance.text.boundaries import lines, sentences, words
from dpr_lance.text.markdown import Block, sections


@dataclass(frozen=True, slots=True)
class Span:
    """The character offsets of a passage in its document, `end` exclusive, and the headings above it."""

    start: int
    end: int
    headings: tuple[str, ...] = ()

    def titled(self, title: str) -> str:
        """Return the title: the document's, then the headings; a first heading that repeats it is left out."""
        headings = self.headings
        if headings and " ".join(title.split()).casefold() == headings[0].casefold():
            headings = headings[1:]
        return " › ".join([*([title] if title.strip() else []), *headings]) if headings else title


@runtime_checkable
class Splitter(Protocol):
    """Splits documents into passages; the table stores its name."""

    @property
    def name(self) -> str:
        """Name of the kind and its settings: a splitter that makes other passages has another name."""
        ...

    def split(self, text: str) -> Iterator[Span]:
        """Yield the spans of the passages in order; the same text always gives the same spans."""
        ...


@dataclass(frozen=True, slots=True)
class _Sized:
    """The settings of the splitters in this module, and the name that they make."""

    kind: ClassVar[str]
    words: int = 100  # paper, section 4.1
    overlap: int = 0

    def __post_init__(self) -> None:
        made = type(self).__name__
        words = checked_whole(self.words, f"{made}: words", "give a whole number of words, 1 or more", least=1)
        wanted = f"give a whole number of words from 0 to {words - 1}"
        overlap = checked_whole(self.overlap, f"{made}: overlap", wanted, least=0)
        if overlap >= words:
            raise refused(f"{made}: overlap", overlap, wanted)
        object.__setattr__(self, "words", words)  # not one of NumPy's, which `name` would show differently
        object.__setattr__(self, "overlap", overlap)

    @property
    def name(self) -> str:
        """Name of this splitter in the table's schema; `splitter_named` is the inverse."""
        return f"{self.kind}:{self.words}:{self.overlap}" if self.overlap else f"{self.kind}:{self.words}"


@dataclass(frozen=True, slots=True)
class WordSplitter(_Sized):
    """Splits a text into passages of `words` words; the last one may be shorter.

    Each passage begins with the last `overlap` words of the one before it; 0, as in the paper, makes them disjoint.
    """

    kind = "words"

    def split(self, text: str) -> Iterator[Span]:
        """Yield the spans of the passages in order; together they contain every word of `text`."""
        found = words(_checked(text))
        held: list[tuple[int, int]] = []
        while new := list(islice(found, self.words - len(held))):
            held += new
            yield Span(held[0][0], held[-1][1])
            held = held[len(held) - self.overlap :]


@dataclass(frozen=True, slots=True)
class SentenceSplitter(_Sized):
    """Splits a text into passages of whole sentences with up to `words` words; longer sentences are cut.

    Each passage begins with the last sentences of the one before it that have up to `overlap` words.
    """

    kind = "sentences"

    def split(self, text: str) -> Iterator[Span]:
        """Yield the spans of the passages in order; together they contain every word of `text`."""
        pieces = _pieces(_checked(text), sentences(text), self.words)
        return (Span(start, end) for start, end in _packed(pieces, self.words, self.overlap))


@dataclass(frozen=True, slots=True)
class MarkdownSplitter(_Sized):
    """Splits Markdown at its headings, and sections into passages of up to `words` words.

    Paragraphs stay whole where they fit; else their sentences or lines of code do, else words. `overlap` repeats such
    pieces within a section. A passage's title is the document's and the headings above it, such as
    `Guide › Install › Linux`; its text has no heading lines, unless there is nothing below them. Front matter is
    skipped.
    """

    kind = "markdown"

    def split(self, text: str) -> Iterator[Span]:
        """Yield the spans of the passages in order; no passage crosses a heading."""
        for section in sections(_checked(text)):
            pieces = (piece for block in section.blocks for piece in self._of_block(text, block))
            for start, end in _packed(pieces, self.words, self.overlap):
                yield Span(start, end, section.headings)

    def _of_block(self, text: str, block: Block) -> list[_Piece]:
        whole = list(_pieces(text, [(block.start, block.end)], self.words))
        if len(whole) <= 1:
            return whole
        parts = (lines if block.code else sentences)(text, block.start, block.end)
        return list(_pieces(text, parts, self.words))


WHOLE = "whole"
"""The name of `splitter=None`: a document is one passage."""

_KINDS = {made.kind: made for made in (WordSplitter, SentenceSplitter, MarkdownSplitter)}


def splitter_name(splitter: Splitter | None) -> str:
    """Return the name under which a table stores `splitter`; raise `InvalidInputError` if it is not a splitter."""
    if splitter is None:
        return WHOLE
    if isinstance(splitter, type) or not isinstance(splitter, Splitter):
        raise InvalidInputError(
            f"splitter={splitter!r:.80} is not a splitter: give WordSplitter(), SentenceSplitter(), "
            f"MarkdownSplitter(), None for whole documents, or an object with `name` and `split(text)`"
        )
    return splitter.name


def splitter_named(name: str) -> Splitter | None:
    """Return the splitter of this name; raise `InvalidInputError` for an unknown name."""
    if name == WHOLE:
        return None
    kind, *numbers = name.split(":")
    if kind in _KINDS and len(numbers) in (1, 2) and all(number.isdecimal() for number in numbers):
        splitter = _KINDS[kind](*map(int, numbers))
        if splitter.name == name:
            return splitter
    raise InvalidInputError(
        f"splitter {name!r} is not known here (known: {WHOLE!r}, and 'words:N', 'sentences:N', 'markdown:N', also with "
        f"':OVERLAP'): pass it as splitter=..., or upgrade dpr-lance"
    )


def spans_of(text: str, splitter: Splitter | None) -> list[Span]:
    """Return the spans of `text` under `splitter`, at least one.

    None keeps the whole text, surrounding white space included, and so does a splitter that yields no span. Raises
    `InvalidInputError` for a splitter whose spans lie outside the document or contain no text.
    """
    spans = [] if splitter is None else list(splitter.split(text))
    for span in spans:
        if not 0 <= span.start < span.end <= len(text) or text[span.start : span.end].isspace():
            raise InvalidInputError(
                f"splitter {splitter_name(splitter)!r} gave {span!r:.120}, which is not text of a document of "
                f"{len(text)} characters: it must yield spans with 0 <= start < end <= length and text between them"
            )
    return spans or [Span(0, len(text))]


def _checked(text: object) -> str:
    if not isinstance(text, str):
        raise refused("text", text, "give a string")
    return text


class _Piece(NamedTuple):
    """Text that is not cut any further, with its number of words."""

    start: int
    end: int
    words: int


def _pieces(text: str, parts: Iterable[tuple[int, int]], size: int) -> Iterator[_Piece]:
    """Yield the parts of a text that have words, without surrounding space; parts of more than `size` words are cut."""
    for start, end in parts:
        found = words(text, start, end)
        while piece := list(islice(found, size)):
            yield _Piece(piece[0][0], piece[-1][1], len(piece))


def _packed(pieces: Iterable[_Piece], size: int, overlap: int) -> Iterator[tuple[int, int]]:
    """Yield the offsets of adjacent pieces that have up to `size` words together.

    The next passage repeats the last pieces, up to `overlap` words, as long as one new piece still fits.
    """
    held: deque[_Piece] = deque()
    count = 0
    for piece in pieces:
        if held and count + piece.words > size:
            yield held[0].start, held[-1].end
            while held and (count > overlap or count + piece.words > size):
                count -= held.popleft().words
        held.append(piece)
        count += piece.words
    if held:
        yield held[0].start, held[-1].end
