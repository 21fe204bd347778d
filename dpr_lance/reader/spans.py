"""The best spans of a passage by the logits of their first and last tokens (paper, section 6.1, equations 3 and 4).

In a passage of several windows every token counts once in the softmax, with its best logit in any window; a span has
the probability of its best window, which must hold both of its ends. With one window these are the paper's equations.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

_END_OF_CYRILLIC = "\u0530"

Logits: TypeAlias = NDArray[np.floating]


class WindowLogits(NamedTuple):
    """Logits of the tokens of the text in one window, [n] each; `at` is the number of the first one in the text."""

    at: int
    start: Logits
    end: Logits


class SpanTokens(NamedTuple):
    """Which tokens of a text have part in its spans, bool[n] each."""

    visible: NDArray[np.bool_]
    """It stands for more than white space: it takes part in the softmax."""
    first: NDArray[np.bool_]
    """A span may begin with it."""
    last: NDArray[np.bool_]
    """A span may end with it."""


class TokenSpan(NamedTuple):
    """Tokens `first` to `last` of the text, both included, and the probability P_start(first) · P_end(last)."""

    first: int
    last: int
    probability: float


def best_spans(
    windows: Sequence[WindowLogits],
    tokens: SpanTokens,
    *,
    longest: int,
    count: int,
    overlapping: bool = False,
) -> list[TokenSpan]:
    """Return the `count` most probable spans of at most `longest` tokens, most probable first.

    Of spans that overlap the most probable is kept, or all of them when `overlapping`.
    """
    if not tokens.visible.any():
        return []
    scores = span_logits(windows, tokens, longest=longest)  # [n, longest]
    chances = scores - _log_sum(windows, tokens.visible, "start") - _log_sum(windows, tokens.visible, "end")
    found: list[TokenSpan] = []
    rows = np.arange(len(chances))[:, None]
    columns = np.arange(chances.shape[1])[None, :]
    while len(found) < count:
        first, further = np.unravel_index(int(chances.argmax()), chances.shape)
        best = chances[first, further]
        if best == -np.inf:
            break
        span = TokenSpan(int(first), int(first + further), float(np.exp(best)))
        found.append(span)
        if overlapping:
            chances[first, further] = -np.inf
        else:
            near = slice(max(0, span.first - len(columns[0]) + 1), span.last + 1)
            chances[near][rows[near] + columns >= span.first] = -np.inf
    return found


def span_logits(windows: Sequence[WindowLogits], tokens: SpanTokens, *, longest: int) -> NDArray[np.float64]:
    """Return float64[n, m]: the sum of the logits of the span from token i to i + j, its best in any window.

    -inf where no window holds both ends, or a span may not have one of them. m is `longest`, or less when n is.
    """
    longest = min(longest, len(tokens.first))
    scores = np.full((len(tokens.first), longest), -np.inf)
    for at, start, end in windows:
        starts = np.where(tokens.first[at : at + len(start)], start, -np.inf)
        ends = np.where(tokens.last[at : at + len(end)], end, -np.inf)
        for further in range(min(longest, len(starts))):
            place = scores[at : at + len(starts) - further, further]
            np.maximum(place, starts[: len(starts) - further] + ends[further:], out=place)
    return scores


def _log_sum(windows: Sequence[WindowLogits], allowed: NDArray[np.bool_], side: str) -> float:
    """Return the logarithm of the sum over all allowed tokens of the exponential of their best logit."""
    best = np.full(len(allowed), -np.inf)
    for window in windows:
        values: Logits = window.start if side == "start" else window.end
        place = best[window.at : window.at + len(values)]
        np.maximum(place, values, out=place)
    best = best[allowed]
    largest = best.max()
    return float(largest + np.log(np.exp(best - largest).sum()))


def span_tokens(text: str, offsets: Sequence[tuple[int, int]]) -> SpanTokens:
    """Return which tokens may begin and end spans: those at the borders of words and numbers.

    Only words of the Latin, Greek and Cyrillic scripts are kept whole: answers in other scripts often have no space
    around them, or share a word with a particle.
    """
    visible = np.array([begin < end and not text[begin:end].isspace() for begin, end in offsets], dtype=bool)
    pairs = itertools.pairwise(offsets)
    joined = [begin < end or (begin == end and _within_word(text[end - 1 : end + 1])) for (_, end), (begin, _) in pairs]
    first, last = visible.copy(), visible.copy()
    first[1:] &= ~np.array(joined, dtype=bool)
    last[:-1] &= ~np.array(joined, dtype=bool)
    return SpanTokens(visible, first, last)


def _within_word(two: str) -> bool:
    """Return whether two characters are neighbours in one word or number."""
    return (two.isalpha() and max(two) < _END_OF_CYRILLIC) or two.isdecimal()


def characters(text: str, offsets: Sequence[tuple[int, int]], first: int, last: int) -> tuple[int, int]:
    """Return begin and end in `text` of the tokens `first` to `last`, without white space at either end.

    Marks that the tokenizer drops (accents, joiners, variation selectors) stay with the character before them.
    """
    begin, end = offsets[first][0], max(offsets[last][1], offsets[first][1])
    limit = offsets[last + 1][0] if last + 1 < len(offsets) else len(text)
    while end < limit and (unicodedata.category(text[end]).startswith("M") or text[end] == "\u200d"):
        end += 1
    while begin < end and text[begin].isspace():
        begin += 1
    while begin < end and text[end - 1].isspace():
        end -= 1
    return begin, end
