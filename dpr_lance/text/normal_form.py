"""The normal form of a text for BM25: one spelling of what people and programs write in several.

It is Unicode's composed form (NFC) with corrections for what the index's tokenizer does. Plain text does not change.

    decomposed letters           "e" and an accent become "é"; the parts of a Korean syllable become the syllable
    invisible characters         soft hyphens, joiners and variation selectors go: they would cut the word in two
    accents without a letter     an accent that Unicode cannot compose with its letter goes, for the same reason (stress
                                 marks of Russian, tones of Yoruba); the index drops the other accents itself
    letters as PDFs draw them    Arabic presentation forms, Kangxi radicals, half-width katakana become the letters
    letters that NFC decomposes  dotted letters of Hindi, Bengali, Punjabi and Odia stay composed: the dot cuts words

NFKC would do harm: "Windows™" would become "WindowsTM". The index handles full-width letters and ligatures itself.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import groupby, pairwise
from typing import Literal

from dpr_lance.text.language import ENGLISH, MULTILINGUAL, Language

_INVISIBLE = "\u00ad\u034f\u180b-\u180d\u200d\u2060\ufe00-\ufe0f\ufeff\U000e0100-\U000e01ef"
_ACCENTS = "\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20f0\ufe20-\ufe2f"
_DRAWN = "\u2e9f\u2ef3\u2f00-\u2fd5\ufb50-\ufdcf\ufe80-\ufefc\uff65-\uffdc"

_DOTS = "\u093c\u09bc\u0a3c\u0b3c"

_ODD = re.compile(f"[{_INVISIBLE}{_ACCENTS}{_DRAWN}{_DOTS}]")
_UNSEEN = re.compile(f"[{_INVISIBLE}]+")
_ACCENT = re.compile(f"[{_ACCENTS}]+")
_FORMS = re.compile(f"[{_DRAWN}]+")

_DOTTED = {
    apart: letter
    for letter in map(chr, range(0x0900, 0x0C00))
    if len(apart := unicodedata.normalize("NFC", letter)) > 1
}
_DOTTED_LETTER = re.compile("|".join(_DOTTED))

_SYLLABLES = re.compile("[\uac00-\ud7a3]{3,}")
"""Korean syllables, more than a pair."""

_PART = re.compile("[\x00-\x7f]+[^\x00-\x7f]*|[^\x00-\x7f]+")
_LONG = 1_000
"""Characters of a part that Python always normalises fast."""
_LONGEST_LETTER = 32
"""Characters in which to look for one letter with its marks."""


def normal_form(text: str) -> str:
    """Return the normal form of a text, in which BM25 indexes passages and reads questions."""
    if text.isascii() or (unicodedata.is_normalized("NFC", text) and not _ODD.search(text)):
        return text
    drawn = _FORMS.sub(lambda found: unicodedata.normalize("NFKC", found[0]), _UNSEEN.sub("", text))
    composed = _DOTTED_LETTER.sub(lambda found: _DOTTED[found[0]], normalised("NFC", drawn))
    return _ACCENT.sub("", composed)


def indexed_form(text: str, language: Language = ENGLISH) -> str:
    """Return the normal form of a text with what the index's tokenizer does not do for a language.

    Korean writes endings at its words, and LanceDB has no stemmer for it: in multilingual tables a run of syllables
    becomes its pairs: "서울에서" is "서울 울에 에서". A Turkish dotted capital İ becomes I, which the index
    joins with i and ı.
    """
    normal = normal_form(text)
    if language == "turkish":
        return normal.replace("İ", "I")
    return _SYLLABLES.sub(_pairs, normal) if language == MULTILINGUAL else normal


def _pairs(run: re.Match[str]) -> str:
    return f" {' '.join(map(''.join, pairwise(run[0])))} "


def content_of(title: str, text: str, language: Language = ENGLISH) -> str:
    """Return what BM25 indexes of a passage: title, newline and text, as `indexed_form` writes them."""
    indexed = indexed_form(text, language)
    return f"{indexed_form(title, language)}\n{indexed}" if title else indexed


def origins(text: str) -> list[tuple[int, int]] | None:
    """Return the offsets (start, end) in a text of each character of its normal form.

    None where they cannot be traced, as for a letter with dozens of marks.
    """
    places: list[tuple[int, int]] = []
    start, normal = 0, ""
    for at, character in enumerate(text):
        if unicodedata.combining(character) or (_ODD.match(character) and not _FORMS.match(character)):
            continue
        if at - start > _LONGEST_LETTER:
            return None
        if at > start:
            normal, alone = normal_form(text[start:at]), normal_form(character)
            if normal_form(text[start : at + 1]) != normal + alone:
                continue
            places += [(start, at)] * len(normal)
            start = at
    places += [(start, len(text))] * len(normal_form(text[start:]))
    return places if len(places) == len(normal_form(text)) else None


def normalised(form: Literal["NFC", "NFD"], text: str) -> str:
    """Return a text in one of Unicode's forms, in linear time.

    Python's own function takes minutes for a letter with thousands of marks: it sorts them by insertion.
    """
    if unicodedata.is_normalized(form, text):
        return text
    return "".join(
        unicodedata.normalize(form, part if len(part) <= _LONG else _with_sorted_marks(part))
        for part in _PART.findall(text)
    )


def _with_sorted_marks(text: str) -> str:
    """Return the decomposed text with the marks of each letter in canonical order."""
    apart = "".join(unicodedata.normalize("NFD", character) for character in text)
    return "".join(
        "".join(sorted(run, key=unicodedata.combining) if marks else run)
        for marks, run in groupby(apart, key=lambda character: unicodedata.combining(character) > 0)
    )
