"""Terms: the words of a text as the full-text index stores them, normalised, stemmed and without stop words.

They depend on the language of the table (see `language`), and are made by the tokenizer of LanceDB itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from dpr_lance.text.language import ENGLISH, MULTILINGUAL, Language, spelling_options, tokenizer_options
from dpr_lance.text.normal_form import indexed_form, normal_form, origins

_RUN = re.compile(r"\S+")
_PART = re.compile(r"[^\W_]+")
_PAIR = re.compile("[\uac00-\ud7a3]{2}")
_LONG_KOREAN = re.compile("[\uac00-\ud7a3]{3}")
_CACHED_RUNS = 20_000
_MOST_TOGETHER = 6
"""Tokens of a script without spaces that are asked for together where one alone would be cut in another way."""


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


def words(text: str, language: Language = ENGLISH) -> Iterator[Word]:
    """Yield the words of a text that have terms in the index, in order."""
    for run in _RUN.finditer(text):
        for start, part, terms in _parts(run.group(), language):
            yield Word(part, run.start() + start, terms)


def terms(text: str, language: Language = ENGLISH) -> frozenset[str]:
    """Return the terms of a text."""
    return frozenset(term for word in words(text, language) for term in word.terms)


def distinct_words(question: str, language: Language = ENGLISH) -> list[Word]:
    """Return the words of a question for BM25: the first of each term, because a repeated term would count twice."""
    seen: set[str] = set()
    distinct = []
    found = words(question, language)
    for word in _in_pairs(_standing_alone(question, found)) if language == MULTILINGUAL else found:
        if not seen.issuperset(word.terms):
            distinct.append(word)
            seen.update(word.terms)
    return distinct


def _in_pairs(found: Iterable[Word]) -> Iterator[Word]:
    """Yield the words, a Korean one as its pairs of syllables: words may have some of them in common."""
    for word in found:
        if len(word.terms) > 1 and all(map(_PAIR.fullmatch, word.terms)):
            yield from (Word(pair, word.start, (pair,)) for pair in word.terms)
        else:
            yield word


def _standing_alone(question: str, found: Iterable[Word]) -> Iterator[Word]:
    """Yield the words, joined with their neighbours where one alone would have other terms than within the question.

    Unicode's dictionaries cut a run of letters as a whole: a part of it may be cut in another way.
    """
    groups: list[list[Word]] = []
    held: list[Word] = []
    for word in found:
        if held and (len(held) == _MOST_TOGETHER or _RUN.fullmatch(question, held[-1].start, word.start) is None):
            groups += [[each] for each in held]
            held = []
        held.append(word)
        if _stands_alone(question, held):
            groups.append(held)
            held = []
        elif groups and len(groups[-1]) < _MOST_TOGETHER and _stands_alone(question, [*groups[-1], *held]):
            groups[-1] += held
            held = []
    return (_together(question, group) for group in [*groups, *([each] for each in held)])


def _stands_alone(question: str, group: list[Word]) -> bool:
    """Tell whether the words, sent to LanceDB together, have the terms that they have within the question."""
    together = _together(question, group)
    return (
        _RUN.fullmatch(together.text) is not None
        and _terms(indexed_form(together.text, MULTILINGUAL), MULTILINGUAL) == together.terms
    )


def _together(question: str, group: list[Word]) -> Word:
    text = question[group[0].start : group[-1].end]
    return Word(text, group[0].start, tuple(term for word in group for term in word.terms))


@lru_cache(maxsize=_CACHED_RUNS)
def _parts(run: str, language: Language) -> tuple[tuple[int, str, tuple[str, ...]], ...]:
    """Return offset, text and terms of each word in a run of characters without blanks."""
    whole = _terms(indexed_form(run, language), language)
    # The tokens of a multilingual table are found in the normal form; that of other languages has the same length.
    normal = normal_form(run) if language == MULTILINGUAL else indexed_form(run, language)
    parts = _tokens(normal) if language == MULTILINGUAL else _runs_of_letters(normal, language)
    found = [part for part in parts if part[2]]
    if tuple(term for _, _, terms in found for term in terms) == whole:
        spans = [(start, end) for start, end, _ in found]
        places = spans if normal == run else _places(run, spans)
        if places is not None:
            return tuple((start, run[start:end], part[2]) for (start, end), part in zip(places, found, strict=True))
    # In some scripts the index's words contain marks that Python's do not.
    return ((0, run, whole),) if whole else ()


def _runs_of_letters(normal: str, language: Language) -> list[tuple[int, int, tuple[str, ...]]]:
    """Return offsets and terms of each run of letters and digits."""
    return [(part.start(), part.end(), _terms(part.group(), language)) for part in _PART.finditer(normal)]


def _tokens(normal: str) -> list[tuple[int, int, tuple[str, ...]]]:
    """Return offsets and terms of each token of the multilingual tokenizer, which gives none: its spelling is found."""
    import lancedb  # noqa: PLC0415 - it takes a second to import

    of_position = {token.position: token.text for token in lancedb.tokenize(normal, **tokenizer_options(MULTILINGUAL))}
    places: list[tuple[int, int, tuple[str, ...]]] = []
    at = 0
    for token in lancedb.tokenize(normal, **spelling_options(MULTILINGUAL)):
        start = normal.find(token.text, at)
        if start < 0:
            return []
        at = start + len(token.text)
        term = of_position.get(token.position)
        if _LONG_KOREAN.search(token.text):
            places.append((start, at, _terms(indexed_form(token.text, MULTILINGUAL), MULTILINGUAL)))
        else:
            places.append((start, at, () if term is None else (term,)))
    return places


def _places(run: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]] | None:
    """Return the offsets in a run of parts of its normal form; None if parts share a character or cannot be traced."""
    if (known := origins(run)) is None:
        return None
    places = [(known[start][0], known[end - 1][1]) for start, end in spans]
    apart = all(before[1] <= after[0] for before, after in pairwise(places))
    return places if apart else None


def _terms(text: str, language: Language) -> tuple[str, ...]:
    import lancedb  # noqa: PLC0415 - it takes a second to import

    return tuple(token.text for token in lancedb.tokenize(text, **tokenizer_options(language)))
