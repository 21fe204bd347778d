"""Where words and sentences begin and end, in any script.

A word is a run of characters without white space. Scripts that write no spaces between words (Chinese, Japanese, Thai,
Lao, Khmer, Burmese) count characters: a letter with its vowel signs, stacked consonants and the punctuation that
follows it is one word. A few rules find the ends of sentences (`_ends`); in doubt they do not cut, because two
sentences left together do less harm than a name or a number cut in two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_CJK = (
    "\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c\u3041-\u3096\u309d-\u309f\u30a1-\u30ff\u3105-\u312f"
    "\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9d\U00020000-\U0003ffff"
)
_THAI_LAO = "\u0e01-\u0e2e\u0e40-\u0e44\u0e81-\u0eae\u0ebd\u0ec0-\u0ec4\u0edc-\u0edf"
_KHMER = "\u1780-\u17b3\u17dc"
_BURMESE = "\u1000-\u102a\u103f\u1050-\u1055\u105a-\u105d\u1061\u1065\u1066\u106e-\u1070\u1075-\u1081\u108e"
UNSPACED = _CJK + _THAI_LAO + _KHMER + _BURMESE
"""Letters that each count as a word."""
_PREPOSED = "\u0e40-\u0e44\u0ec0-\u0ec4"
"""Thai and Lao vowels written before their consonant."""
_STACKING = "\u1039\u17d2"
"""Burmese virama and Khmer coeng: the next consonant is written below."""
_SIGNS = (
    "\u0e2f-\u0e3a\u0e45-\u0e4e\u0eaf-\u0ebc\u0ec6\u0ec8-\u0ece\u17b4-\u17d3\u17d7\u17dd"
    "\u102b-\u103e\u1056-\u1059\u105e-\u1060\u1062-\u1064\u1067-\u106d\u1071-\u1074\u1082-\u108d\u108f\u109a-\u109d"
    "\u3099\u309a\uff9e\uff9f\u200b-\u200d\ufe00-\ufe0f\U000e0100-\U000e01ef"
)
"""Signs of the letter before them: vowel signs, tones, voicing marks, variation selectors."""
_CLINGING = (
    "\u104a\u104b\u17d4-\u17d6\u3001-\u3003\u3009\u300b\u300d\u300f\u3011\u3015\u3017\u3019\u301b\u301e\u301f"
    "\uff01\uff09\uff0c\uff0e\uff1a\uff1b\uff1f\uff3d\uff5d\uff61\uff63\uff64\u2019\u201d\u2025\u2026.,!?;:)\\]}"
)
"""Punctuation that stays with the letter before it and does not count as a word."""
_OPENING = "\u3008\u300a\u300c\u300e\u3010\u3014\u3016\u3018\u301a\u301d\uff08\uff3b\uff5b\uff5f\uff62"
_INVISIBLE = (
    "\\x00-\\x08\\x0e-\\x1b\\x7f-\\x9f\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e0fff"
)
"""Control and format characters: part of a word inside one, not a word alone."""

_WORD = re.compile(
    f"[{_OPENING}]*(?:"
    f"[{_PREPOSED}]?[{UNSPACED}](?:[{_STACKING}][{UNSPACED}]|[{_SIGNS}])*[{_CLINGING}]*"
    f"|[^\\s{UNSPACED}{_OPENING}{_INVISIBLE}][^\\s{UNSPACED}{_OPENING}]*)"
    f"|[{_OPENING}]+"
)
_ASCII_WORD = re.compile(r"[^\s\x00-\x08\x0e-\x1b\x7f]\S*")
"""The same as `_WORD` for ASCII, several times as fast."""

_LINE = re.compile(r"[^\n]*\n|[^\n]+")

_STOPS = ".!?\u2026\u203c\u2047-\u2049\u0589\u061f\u06d4\u0964\u0965\u1362\u1367"
_FULL_STOPS = "\u3002\uff01\uff0e\uff1f\uff61\u104b\u17d4\u17d5"
"""Stops of scripts without spaces: no space needs to follow."""
_CLOSERS = "\"'\u2019\u201d\u00bb\u203a)\\]}\u300d\u300f\u3011\uff09\u300b\u3009*_"
_OPENERS = "\"'\u2018\u201c\u00ab\u2039(\\[{\u300c\u300e\u3010\uff08\u300a\u3008*_\u00bf\u00a1\u2013\u2014-"

_BREAK = re.compile(
    # The look-behind keeps long runs of dots from being tried from each of their dots.
    rf"(?<![{_STOPS}])(?P<stop>[{_STOPS}]+)[{_CLOSERS}]*(?:\[\w{{1,4}}\])*(?=\s|\Z)"
    rf"|(?P<full>[{_FULL_STOPS}][{_FULL_STOPS}{_STOPS}]*[{_CLOSERS}]*)"
    r"|\n\s*\n|\u2029"  # a paragraph ends
    r"|\n(?=[ \t]*(?:[-*+\u2022\u25e6\u2023][ \t]|\d{1,3}[.)][ \t]|\|))"  # a list item or a table row begins
    # Thai and Lao write no stops, but a space between clauses.
    "|(?<=[\u0e00-\u0eff])\\s+(?=[\u0e00-\u0eff])"
)
_NEXT = re.compile(rf"\s*[{_OPENERS}]*(.?)", re.DOTALL)
_HIRAGANA = re.compile("[\u3041-\u309f]")

_LOOK_BACK = 24
"""Characters before a full stop in which to look for an abbreviation."""

_ABBREVIATION = re.compile(
    "mrs?|ms|mx|dra?|prof|st|mt|ft|rev|hon|fr|gen|col|maj|capt|cmdr|lt|sgt|cpl|gov|sen|rep|pres|supt|messrs|mmes?|mlle|"
    "hr|frl|sra?|srta|vs|viz|cf|ca|approx|resp|incl|excl|al|eds?|trans|bzw|ggf|evtl|inkl|zzgl|vgl|sog"
)
"""Words whose full stop does not end the sentence, whatever follows."""
_NUMBERED = re.compile(
    "nos?|nr|figs?|tab|eqs?|vols?|ch|chap|sect?|art|pp?|pt|para|ver|v|ex|abs|bd|"
    "jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec"
)
"""Words whose full stop does not end the sentence when a number follows."""


def words(text: str, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """Yield the offsets (start, end) of every word between two offsets of a text, in order."""
    pattern = _ASCII_WORD if text.isascii() else _WORD
    return map(re.Match.span, pattern.finditer(text, start, len(text) if end is None else end))


def sentences(text: str, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """Yield the offsets (start, end) of every sentence between two offsets, in order and without gaps.

    A blank line, a list item and a table row also end a sentence. Closing quotes and brackets stay with their sentence.
    """
    end = len(text) if end is None else end
    small = text[start:end].islower()
    begin = start
    for found in _BREAK.finditer(text, start, end):
        if _ends(text, found, begin, end, small=small):
            yield begin, found.end()
            begin = found.end()
    if begin < end:
        yield begin, end


def lines(text: str, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """Yield the offsets (start, end) of every line between two offsets, its line feed included."""
    return map(re.Match.span, _LINE.finditer(text, start, len(text) if end is None else end))


def _ends(text: str, found: re.Match[str], begin: int, end: int, *, small: bool) -> bool:
    """Return whether a sentence ends at this break; `small`: the text has no capitals."""
    stop, full = found["stop"], found["full"]
    if full is not None:
        after = text[found.end() : found.end() + 1]
        if full == "\uff0e":  # also the decimal point of full-width numbers
            return not after.isdecimal()
        # 「行く。」と言った: the quotation is part of the sentence.
        return full[-1] in _FULL_STOPS or not _HIRAGANA.match(after)
    if stop is None:
        return True
    following = _NEXT.match(text, found.end(), end)
    after = following[1] if following else ""
    if after.islower() and not small:
        return False
    before = text[max(begin, found.start() - _LOOK_BACK) : found.start()]
    return stop != "." or not after or not _abbreviated(before, after)


def _abbreviated(before: str, after: str) -> bool:
    """Return whether a full stop between these is part of a word: initials, "e.g.", "Dr.", "No. 5", "3. Oktober"."""
    if not before or before[-1].isspace():
        return False
    word = before.rsplit(maxsplit=1)[-1].lstrip(f"{_OPENERS}/").casefold()
    if word.isdecimal():
        return len(word) <= 2
    parts = word.split(".")
    if all(len(part) <= 2 and part.isalpha() for part in parts) and (len(parts) > 1 or len(word) == 1):
        return word != word.upper()
    return bool(_ABBREVIATION.fullmatch(word) or (after.isdecimal() and _NUMBERED.fullmatch(word)))
