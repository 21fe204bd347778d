"""Terms: the words of a text as the full-text index stores them, normalised, stemmed and without stop words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from dpr_lance.text.normal_form import normal_form, origins

_RUN = re.compile(r"\S+")
_PART = re.compile(r"[^\W_]+")
_CACHED_RUNS = 20_000


@dataclass(frozen=True, slots=True)
class Word:
    """A word at its offset in a text, and its terms in the index: one, rarely more."""

    text: str
    start: int
    terms: tuple[str, ...]

    @property
    def end(self) -> int:
        """The offset of the character after the word."""
        return self.start + len(self.text)


def words(text: str) -> Iterator[Word]:
    """Yield the words of a text that have terms in the index, in order."""
    for run in _RUN.finditer(text):
        for start, part, terms in _parts(run.group()):
            yield Word(part, run.start() + start, terms)


def terms(text: str) -> frozenset[str]:
    """Return the terms of a text."""
    return frozenset(term for word in words(text) for term in word.terms)


def distinct_words(question: str) -> list[Word]:
    """Return the words of a question for BM25: the first of each term, because a repeated term would count twice."""
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
    normal = normal_form(run)
    whole = _terms(normal)
    parts = [(part.start(), part.end(), _terms(part.group())) for part in _PART.finditer(normal)]
    found = [part for part in parts if part[2]]
    if tuple(term for _, _, terms in found for term in terms) == whole:
        spans = [(start, end) for start, end, _ in found]
        places = spans if normal == run else _places(run, spans)
        if places is not None:
            return tuple((start, run[start:end], part[2]) for (start, end), part in zip(places, found, strict=True))
    # In some scripts the index's words contain marks that Python's do not.
    return ((0, run, whole),) if whole else ()


def _places(run: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]] | None:
    """Return the offsets in a run of parts of its normal form; None if parts share a character or cannot be traced."""
    if (known := origins(run)) is None:
        return None
    places = [(known[start][0], known[end - 1][1]) for start, end in spans]
    apart = all(before[1] <= after[0] for before, after in pairwise(places))
    return places if apart else None


def _terms(text: str) -> tuple[str, ...]:
    import lancedb  # noqa: PLC0415 - it takes a second to import

    # The options are those of `create_text_index` in `indexes.maintenance`: LanceDB's defaults.
    return tuple(token.text for token in lancedb.tokenize(text))
