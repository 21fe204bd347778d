"""Snippets: the part of a text with most of a question's words, and the matching words in it."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter

from dpr_lance.checks import checked_whole
from dpr_lance.text import boundaries
from dpr_lance.text.language import ENGLISH, MULTILINGUAL, Language
from dpr_lance.text.terms import Word, terms, words

LENGTH = 240
"""Characters of a snippet without marks and ellipses."""
ELLIPSIS = "…"

_BLANKS = re.compile(r"\s+")
_SENTENCE_END = re.compile(r"""(?:[.!?]["'”’)\]]*\s+|[。！？｡][」』）]*\s*)$""")


def snippet(text: str, question: str, length: int = LENGTH, language: Language = ENGLISH) -> list[tuple[str, bool]]:
    """Return the window of up to `length` characters with most of the question's words, as pieces: text, matches.

    The window with the most different words wins, then the one with the most words, then one that begins a sentence,
    then one with its words in the middle, then the first. Words match as in BM25, in the language of the table.
    White space becomes single spaces; an ellipsis shows where the text continues. Raises `InvalidInputError` for a
    length below 1.
    """
    length = checked_whole(length, "length", "give a whole number of characters, 1 or more", least=1)
    length = min(length, max(1, len(text)))
    wanted = terms(question, language)
    matching = [word for word in words(text, language) if not wanted.isdisjoint(word.terms)]
    start, end = _window(text, matching, _pieces(text, length, language), length)
    pieces = [(f"{ELLIPSIS} ", False)] if text[:start].strip() else []
    at = start
    for word in matching:
        if start <= word.start and word.end <= end:
            pieces += [(text[at : word.start], False), (word.text, True)]
            at = word.end
    pieces.append((text[at:end], False))
    if text[end:].strip():
        pieces.append((f" {ELLIPSIS}", False))
    return [(_BLANKS.sub(" ", piece), matches) for piece, matches in pieces if piece]


def _pieces(text: str, length: int, language: Language) -> list[tuple[int, int]]:
    """Return the offsets of the words at which a window may begin and end, in parts that fit into it."""
    if language == MULTILINGUAL:
        return [
            (at, min(at + length, end)) for start, end in boundaries.words(text) for at in range(start, end, length)
        ]
    return [found.span() for found in re.finditer(rf"\S{{1,{length}}}", text)]


def _window(text: str, matching: list[Word], pieces: list[tuple[int, int]], length: int) -> tuple[int, int]:
    """Return the offsets of the best window; it begins and ends with a piece."""
    if not pieces:
        return 0, 0
    ends = [end for _, end in pieces]
    inside: Counter[str] = Counter()
    first = last = 0  # matching[first:last] are the words within the window
    best: tuple[int, int, bool, float] | None = None
    chosen = (0, 0)
    for start, _ in pieces:
        end = ends[bisect_right(ends, start + length) - 1]
        while last < len(matching) and matching[last].end <= end:
            inside.update(matching[last].terms)
            last += 1
        while first < last and matching[first].start < start:
            inside.subtract(matching[first].terms)
            first += 1
        inside = +inside
        begins = start == pieces[0][0] or _SENTENCE_END.search(text, max(0, start - 8), start) is not None
        aside = abs(matching[first].start - start - (end - matching[last - 1].end)) if first < last else 0.0
        rank = (len(inside), last - first, begins, -aside)
        if best is None or rank > best:
            best, chosen = rank, (start, end)
        if end == ends[-1]:
            break
    return chosen
