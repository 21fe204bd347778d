"""The form in which BM25 sees a text: one spelling for what people write, and files hold, in several.

It is Unicode's composed form (NFC), and a little more, which was found by what the index's tokenizer makes of it. Plain
text stays as it is, to the bit.

    decomposed letters              "e" and an accent are "é"; a Korean syllable's parts are the syllable
    what nobody sees in a word      soft hyphens, joiners and variation selectors go: they would cut the word in two
    accents that stay by themselves the index drops accents on letters; one that Unicode has no letter for would cut the
                                    word in two (the stress marks of Russian, the tones of Yoruba)
    letters as PDFs draw them       Arabic presentation forms, Kangxi radicals, half-width katakana are the letters
    letters that NFC takes apart    those of Hindi, Bengali, Panjabi and Odia with a dot stay one: the dot cuts words

NFKC would do more harm than good: "Windows™" would become the word "WindowsTM". The index itself takes care of
full-width letters and ligatures.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import groupby
from typing import Literal

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

_PART = re.compile("[\x00-\x7f]+[^\x00-\x7f]*|[^\x00-\x7f]+")
_LONG = 1_000
"""Characters of a part that Python normalises fast whatever they are."""
_LONGEST_LETTER = 32
"""Characters that one letter and its marks are looked for in."""


def normal_form(text: str) -> str:
    """Return a text as BM25 sees it, in the index and in questions."""
    if text.isascii() or (unicodedata.is_normalized("NFC", text) and not _ODD.search(text)):
        return text
    drawn = _FORMS.sub(lambda found: unicodedata.normalize("NFKC", found[0]), _UNSEEN.sub("", text))
    composed = _DOTTED_LETTER.sub(lambda found: _DOTTED[found[0]], normalised("NFC", drawn))
    return _ACCENT.sub("", composed)


def content_of(title: str, text: str) -> str:
    """Return what BM25 indexes of a passage: title, newline, text, in their normal form.

    Indexing the title is worth 11 points of top-20 on NQ. The table keeps title and text as they were given as well.
    """
    return f"{normal_form(title)}\n{normal_form(text)}" if title else normal_form(text)


def origins(text: str) -> list[tuple[int, int]] | None:
    """Return the offsets (start, end) in a text that each character of its normal form is made of.

    None where that cannot be told, as for a letter with dozens of marks.
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

    Python sorts the marks on a letter by insertion, which takes minutes for a letter with very many.
    """
    if unicodedata.is_normalized(form, text):
        return text
    return "".join(
        unicodedata.normalize(form, part if len(part) <= _LONG else _with_sorted_marks(part))
        for part in _PART.findall(text)
    )


def _with_sorted_marks(text: str) -> str:
    """Return the text taken apart, the marks on each letter in their canonical order."""
    apart = "".join(unicodedata.normalize("NFD", character) for character in text)
    return "".join(
        "".join(sorted(run, key=unicodedata.combining) if marks else run)
        for marks, run in groupby(apart, key=lambda character: unicodedata.combining(character) > 0)
    )
