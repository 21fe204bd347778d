"""Pure numbers of retrieval: answer matching, top-k accuracy, bootstrap intervals, paired tests. No table, no files.

Ranks count from 1; 0 stands for "not found". Accuracies are shares from 0 to 1.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from dpr_lance.errors import InvalidInputError, MissingExtraError
from dpr_lance.normal_form import normalised

Values = NDArray[np.float64]

SEED = 2020
RESAMPLES = 2_000
"""Bootstrap samples behind an interval; its ends then vary by about a twentieth of its width."""
CONFIDENCE = 0.95
_END = "\0"
"""Around every token; as a control character it is part of none."""


# Answers in texts, as the reference implementation of DPR decides it (`has_answer`).


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


# Ranks and shares.


def first_rank(found: Iterable[bool]) -> int:
    """Return the rank of the first hit; 0 when there is none."""
    return next((rank for rank, hit in enumerate(found, start=1) if hit), 0)


def hits_within(ranks: Sequence[int] | NDArray[np.int64], k: int) -> Values:
    """Return float64[questions]: 1 where the first hit is among the first k, else 0. The mean is top-k accuracy."""
    found = np.asarray(ranks)
    return ((found >= 1) & (found <= k)).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over questions with its bootstrap interval."""

    mean: float
    low: float
    high: float


def bootstrap(
    values: Values, *, seed: int = SEED, resamples: int = RESAMPLES, confidence: float = CONFIDENCE
) -> Interval:
    """Return the mean of one value a question with the percentile interval over resampled questions.

    A sample is as many questions, drawn with replacement. Of `a - b`, two rows on the same questions, this is the
    paired bootstrap. Raises `InvalidInputError` without any value.
    """
    if not len(values):
        raise InvalidInputError("there is no question to take a mean over")
    distinct, counts = np.unique(values, return_counts=True)
    # How often a sample has each distinct value is multinomial: no need to draw questions one by one.
    drawn = np.random.default_rng(seed).multinomial(len(values), counts / len(values), size=resamples)
    means = drawn @ distinct / len(values)
    low, high = np.quantile(means, ((1 - confidence) / 2, (1 + confidence) / 2))
    return Interval(float(values.mean()), float(low), float(high))


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Two rows on the same questions: how the first differs from the second.

    `wins`: questions that only the first answers, `losses`: that only the second does. `difference` is the mean of
    first minus second with the interval of the paired bootstrap; `p_value` that of McNemar's exact test, two-sided: how
    often wins and losses would be at least so uneven if both rows were equally good.
    """

    wins: int
    losses: int
    difference: Interval
    p_value: float


def paired_test(first: Values, second: Values) -> PairedTest:
    """Compare two rows of hits (float64[questions] of 0 and 1, the same questions in the same order)."""
    if len(first) != len(second):
        raise InvalidInputError(f"{len(first)} questions cannot be paired with {len(second)}")
    wins, losses = int((first > second).sum()), int((first < second).sum())
    return PairedTest(wins, losses, bootstrap(first - second), mcnemar(wins, losses))


def mcnemar(wins: int, losses: int) -> float:
    """Return the two-sided p-value of McNemar's exact test: of a fair coin's `wins + losses` throws."""
    throws, fewer = wins + losses, min(wins, losses)
    term = total = 1  # the ways to have 0 of the rarer outcome, then up to 1, ...
    for taken in range(fewer):
        term = term * (throws - taken) // (taken + 1)
        total += term
    return min(1.0, 2 * total / (1 << throws))


# Measures of the field, by ir-measures.


def ranking_measures(
    labels: Sequence[Mapping[str, int]], rankings: Sequence[Sequence[str]], ks: Iterable[int]
) -> dict[str, Values]:
    """Return float64[questions] of MRR@10, nDCG@10 and recall at each k, by name: "mrr@10", "ndcg@10", "recall@20".

    `labels` has a question's relevant ids with their grades, `rankings` what was found for it, best first, each id
    once. Raises `MissingExtraError` where ir-measures is not installed.
    """
    try:
        import ir_measures  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtraError("MRR@10, nDCG@10 and recall@k (by ir-measures)", "eval") from error
    measures = {"mrr@10": ir_measures.RR @ 10, "ndcg@10": ir_measures.nDCG @ 10}
    measures |= {f"recall@{k}": ir_measures.R @ k for k in ks}
    qrels = {str(number): dict(grades) for number, grades in enumerate(labels)}
    run = {
        str(number): {name: float(-rank) for rank, name in enumerate(ranking)}
        for number, ranking in enumerate(rankings)
        if ranking
    }
    values = {name: np.zeros(len(labels)) for name in measures}
    names = {measure: name for name, measure in measures.items()}
    for found in ir_measures.iter_calc(list(names), qrels, run):
        values[names[found.measure]][int(found.query_id)] = found.value
    return values
