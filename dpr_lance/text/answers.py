"""Finds answers in texts as the reference implementation of DPR does (`has_answer`)."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import groupby

from dpr_lance.errors import InvalidInputError
from dpr_lance.text.boundaries import UNSPACED
from dpr_lance.text.language import ENGLISH, MULTILINGUAL, Language
from dpr_lance.text.normal_form import normalised

_END = "\0"
"""Around every token; as a control character it is never part of one."""


def tokens(text: str, language: Language = ENGLISH) -> list[str]:
    """Return the lower-case tokens of a text in Unicode's form NFD.

    A token is a run of letters, digits and marks (categories L, N, M), or one other character that is neither a
    separator nor a control character (Z, C). In a multilingual table, a letter of a script without spaces is one.
    """
    return [found.lower() for found in _token(language == MULTILINGUAL).findall(normalised("NFD", text))]


def answer_matcher(
    answers: Iterable[str], *, regex: bool = False, language: Language = ENGLISH
) -> Callable[[str], bool]:
    """Return a function that reports whether a text contains one of these answers.

    An answer is found where its tokens follow one another in the text's tokens (see `tokens`): case and the encoding of
    accents make no difference, accents themselves and punctuation do. An answer without tokens, such as "", is found in
    every text. With `regex` (the TREC questions), answers are regular expressions; they are searched for anywhere,
    ignoring case, with `^` and `$` at line breaks too, and with answers and texts in form NFD. Without answers nothing
    matches.

    Raises `InvalidInputError` for an answer that is not a regular expression.
    """
    patterns = [_pattern(answer) for answer in answers] if regex else []
    phrases = [] if regex else [_joined(tokens(answer, language)) for answer in answers]

    def contains_answer(text: str) -> bool:
        if regex:
            normal = normalised("NFD", text) if patterns else ""
            return any(pattern.search(normal) for pattern in patterns)
        joined = _joined(tokens(text, language)) if phrases else ""
        return any(phrase in joined for phrase in phrases)

    return contains_answer


def answer_spans(text: str, answers: Iterable[str]) -> list[tuple[int, int]]:
    """Return the offsets (start, end) of every occurrence of these answers in a text, in order, each once.

    Answers are found as by `answer_matcher`; a span reaches from its first token to its last. An answer without tokens
    has no span.
    """
    phrases = {tuple(tokens(answer)) for answer in answers} - {()}
    if not phrases:
        return []
    normal, places = _decomposed(text)
    found = list(_token().finditer(normal))
    words = [match.group().lower() for match in found]
    spans = set()
    for phrase in phrases:
        for at in range(len(words) - len(phrase) + 1):
            if words[at] == phrase[0] and tuple(words[at : at + len(phrase)]) == phrase:
                last = found[at + len(phrase) - 1].end() - 1
                spans.add((places[found[at].start()][0], places[last][1]))
    return sorted(spans)


def _decomposed(text: str) -> tuple[str, Sequence[tuple[int, int]]]:
    """Return the text in form NFD, and for each of its characters the offsets of its letter with marks in the text."""
    if unicodedata.is_normalized("NFD", text):
        return text, [(at, at + 1) for at in range(len(text))]
    parts: list[str] = []
    places: list[tuple[int, int]] = []
    start = 0
    for end in range(1, len(text) + 1):
        # Marks are sorted within a run; where one begins, so does a part that is normalised by itself.
        if end < len(text) and unicodedata.combining(text[end]):
            continue
        parts.append(normalised("NFD", text[start:end]))
        places += [(start, end)] * len(parts[-1])
        start = end
    return "".join(parts), places


def _joined(parts: Sequence[str]) -> str:
    return _END + "".join(part + _END for part in parts)


def _pattern(answer: str) -> re.Pattern[str]:
    try:
        return re.compile(normalised("NFD", answer), re.IGNORECASE | re.MULTILINE)
    except (re.error, RecursionError, OverflowError) as error:
        raise InvalidInputError(f"the answer {answer!r} is not a regular expression ({error})") from None


@cache
def _token(apart: bool = False) -> re.Pattern[str]:
    """Return the pattern of a token; `re` has no classes for Unicode categories, so they are listed.

    `apart`: each letter of a script without spaces, with its marks, is a token.
    """
    word, blank = _characters("LNM"), _characters("ZC")
    if apart:
        return re.compile(f"[{UNSPACED}][{_characters('M')}]*|(?:(?![{UNSPACED}])[{word}])+|[^{word}{blank}]")
    return re.compile(f"[{word}]+|[^{word}{blank}]")


def _characters(categories: str) -> str:
    """Return the characters of these categories as ranges of a regular expression's class."""
    codes = [code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code))[0] in categories]
    # Consecutive codes differ from their positions by the same number.
    runs = [list(run) for _, run in groupby(enumerate(codes), key=lambda numbered: numbered[1] - numbered[0])]
    return "".join(f"\\U{run[0][1]:08x}-\\U{run[-1][1]:08x}" for run in runs)
