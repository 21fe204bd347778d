"""Answers in texts, matched as the reference implementation of DPR does it (`has_answer`)."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from dpr_lance.errors import InvalidInputError
from dpr_lance.text.normal_form import normalised

_END = "\0"
"""Around every token; as a control character it is part of none."""


def tokens(text: str) -> list[str]:
    """Return the lower-case tokens of a text in Unicode's form NFD.

    A token is a run of letters, digits and marks (categories L, N, M), or one other character that is neither a
    separator nor a control character (Z, C).
    """
    return [found.lower() for found in _token().findall(normalised("NFD", text))]


@dataclass(frozen=True, slots=True)
class AnswerMatcher:
    """Tells whether a text holds one of a question's answers; made once for a question by `answer_matcher`."""

    _phrases: tuple[str, ...] = ()
    _patterns: tuple[re.Pattern[str], ...] = ()

    def __call__(self, text: str) -> bool:
        """Return whether the text holds an answer."""
        if self._phrases:
            told = _joined(tokens(text))
            return any(phrase in told for phrase in self._phrases)
        normal = normalised("NFD", text) if self._patterns else ""
        return any(pattern.search(normal) is not None for pattern in self._patterns)


def answer_matcher(answers: Iterable[str], *, regex: bool = False) -> AnswerMatcher:
    """Return what tells whether a text holds one of these answers.

    An answer is found where its tokens stand next to each other in the text's tokens (see `tokens`): case and the way
    accents are encoded make no difference, accents themselves and punctuation do. An answer without any token, as "",
    is found in every text. With `regex` (the TREC questions) answers are regular expressions that are searched for
    anywhere, regardless of case, `^` and `$` at line breaks too; answers and texts in form NFD. Without an answer
    nothing matches.

    Raises `InvalidInputError` that names a regular expression which is none.
    """
    if not regex:
        return AnswerMatcher(_phrases=tuple(_joined(tokens(answer)) for answer in answers))
    return AnswerMatcher(_patterns=tuple(_pattern(answer) for answer in answers))


def _joined(parts: Sequence[str]) -> str:
    return _END + "".join(part + _END for part in parts)


def _pattern(answer: str) -> re.Pattern[str]:
    try:
        return re.compile(normalised("NFD", answer), re.IGNORECASE | re.MULTILINE)
    except (re.error, RecursionError, OverflowError) as error:
        raise InvalidInputError(f"the answer {answer!r} is no regular expression ({error})") from None


@cache
def _token() -> re.Pattern[str]:
    """Return the pattern of a token; `re` has no classes for Unicode categories, so they are listed."""
    word = _characters(lambda category: category[0] in "LNM")
    blank = _characters(lambda category: category[0] in "ZC")
    return re.compile(f"[{word}]+|[^{word}{blank}]")


def _characters(wanted: Callable[[str], bool]) -> str:
    """Return the characters of these categories as ranges of a regular expression's class."""
    ranges: list[str] = []
    start = None
    for code in range(sys.maxunicode + 2):
        inside = code <= sys.maxunicode and wanted(unicodedata.category(chr(code)))
        if inside and start is None:
            start = code
        elif not inside and start is not None:
            ranges.append(f"\\U{start:08x}-\\U{code - 1:08x}")
            start = None
    return "".join(ranges)
