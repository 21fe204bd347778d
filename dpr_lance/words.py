"""The words of a text as the full-text index sees them: folded, stemmed, without stop words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

_RUN = re.compile(r"\S+")
_PART = re.compile(r"[^\W_]+")
_CACHED_RUNS = 20_000


@dataclass(frozen=True, slots=True)
class Word:
    """A word where it stands in a text, and the terms that the index has for it: one, seldom more."""

    text: str
    start: int
    terms: tuple[str, ...]

    @property
    def end(self) -> int:
        """The offset of the character after the word."""
        return self.start + len(self.text)


def words(text: str) -> Iterator[Word]:
    """Yield the words of a text that the index has terms for, in order."""
    for run in _RUN.finditer(text):
        for start, part, terms in _parts(run.group()):
            yield Word(part, run.start() + start, terms)


def terms(text: str) -> frozenset[str]:
    """Return the terms of a text."""
    return frozenset(term for word in words(text) for term in word.terms)


def distinct_words(question: str) -> list[Word]:
    """Return the words that BM25 asks for: the first one of each term, since a repeated term would count again."""
    seen: set[str] = set()
    distinct = []
    for word in words(question):
        if not seen.issuperset(word.terms):
            distinct.append(word)
            seen.update(word.terms)
    return distinct


@lru_cache(maxsize=_CACHED_RUNS)
def _parts(run: str) -> tuple[tuple[int, str, tuple[str, ...]], ...]:
    """Return offset, text and terms of each word in a run of characters without blanks."""
    whole = _terms(run)
    parts = [(part.start(), part.group(), _terms(part.group())) for part in _PART.finditer(run)]
    found = tuple(part for part in parts if part[2])
    if tuple(term for _, _, terms in found for term in terms) == whole:
        return found
    # In some scripts the index's words hold marks that Python's do not.
    return ((0, run, whole),) if whole else ()


def _terms(text: str) -> tuple[str, ...]:
    import lancedb  # noqa: PLC0415 - it takes a second to import

    # The options are those of `indexes.create_text_index`: LanceDB's defaults.
    return tuple(token.text for token in lancedb.tokenize(text))
