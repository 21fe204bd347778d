"""Compares an answer that was found with the known ones, by the rules of SQuAD that DPR measures with (section 6)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable

_ARTICLE = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def plain_answer(answer: str) -> str:
    """Return an answer in lower case, without ASCII punctuation and the articles a, an, the, with single spaces."""
    return " ".join(_ARTICLE.sub(" ", answer.lower().translate(_NO_PUNCTUATION)).split())


def exact_match(found: str, answers: Iterable[str]) -> bool:
    """Return whether an answer is one of the known ones in its plain form (see `plain_answer`)."""
    plain = plain_answer(found)
    return any(plain_answer(answer) == plain for answer in answers)


def word_f1(found: str, answers: Iterable[str]) -> float:
    """Return the best F1 (0 to 1) of the words of an answer with those of a known one, both in their plain form."""
    return max((_f1(plain_answer(found).split(), plain_answer(answer).split()) for answer in answers), default=0.0)


def _f1(found: list[str], known: list[str]) -> float:
    common = sum((Counter(found) & Counter(known)).values())
    return 2 * common / (len(found) + len(known)) if common else 0.0
