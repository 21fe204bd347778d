"""The best spans, against cases worked by hand and against a search over all spans."""

import itertools

import numpy as np
import pytest

from dpr_lance.reader.spans import SpanTokens, WindowLogits, best_spans, characters, span_logits, span_tokens

LOW = -30.0
"""A logit whose share in a softmax is below 1e-12."""


def spans(windows, n, *, longest=10, count=10, overlapping=False, allowed=None):
    allowed = np.ones(n, dtype=bool) if allowed is None else np.array(allowed)
    tokens = SpanTokens(allowed, allowed, allowed)
    windows = [WindowLogits(at, np.array(start), np.array(end)) for at, start, end in windows]
    return best_spans(windows, tokens, longest=longest, count=count, overlapping=overlapping)


def test_a_probability_is_that_of_the_start_times_that_of_the_end():
    """P_start = softmax(ln 1, ln 3) = (1/4, 3/4), P_end = (1/5, 4/5)."""
    window = (0, np.log([1, 3]), np.log([1, 4]))
    found = spans([window], 2, overlapping=True)
    assert [(span.first, span.last) for span in found] == [(1, 1), (0, 1), (0, 0)]
    np.testing.assert_allclose([span.probability for span in found], [3 / 4 * 4 / 5, 1 / 4 * 4 / 5, 1 / 4 * 1 / 5])


def test_a_span_never_ends_before_it_begins():
    """The best start is behind the best end; the best span is another."""
    (best,) = spans([(0, [0, LOW, 5], [5, LOW, 0])], 3, count=1)
    assert (best.first, best.last) == (0, 0)
    assert best.probability == pytest.approx(np.exp(5) / (1 + np.exp(5)) ** 2)


def test_no_span_is_longer_than_allowed():
    window = (0, [9, 0, 0, 0], [0, 0, 0, 9])
    assert spans([window], 4, longest=4, count=1)[0][:2] == (0, 3)
    assert spans([window], 4, longest=3, count=1)[0][:2] == (0, 0)


def test_spans_do_not_overlap_unless_asked():
    window = (0, [4, 3, LOW, 2], [LOW, 4, LOW, 2])
    assert [span[:2] for span in spans([window], 4, count=2)] == [(0, 1), (3, 3)]
    assert [span[:2] for span in spans([window], 4, count=3, overlapping=True)] == [(0, 1), (1, 1), (0, 3)]


def test_tokens_that_are_not_allowed_have_no_part():
    window = (0, [9, 0, 0], [9, 0, 0])
    found = spans([window], 3, allowed=[False, True, True], overlapping=True)
    assert {span[:2] for span in found} == {(1, 1), (2, 2), (1, 2)}
    assert all(span.probability == pytest.approx(1 / 4) for span in found)
    assert spans([window], 3, allowed=[False] * 3) == []
    assert spans([], 0) == []


def test_a_token_of_two_windows_counts_once_with_its_best_logit():
    """Token 1 is in both windows; the second one is the surer of it."""
    windows = [(0, np.log([1, 1]), np.log([1, 1])), (1, np.log([2, 1]), np.log([2, 1]))]
    found = {span[:2]: span.probability for span in spans(windows, 3, overlapping=True)}
    # The best exponentials are 1, 2, 1: their sum is 4 on both sides.
    assert found == pytest.approx(
        {(1, 1): 2 / 4 * 2 / 4, (1, 2): 2 / 4 * 1 / 4, (2, 2): 1 / 16, (0, 0): 1 / 16, (0, 1): 1 / 16}
    )
    assert (0, 2) not in found  # no window holds both ends


def test_the_same_window_twice_changes_nothing():
    window = (0, [1.0, 2.0, 0.5], [0.0, 1.0, 3.0])
    assert spans([window], 3, overlapping=True) == spans([window, window], 3, overlapping=True)


@pytest.mark.parametrize("seed", range(5))
def test_the_best_spans_are_those_of_a_search_over_all(seed):
    random = np.random.default_rng(seed)
    n, longest = 12, 4
    start, end = random.normal(size=(2, n)) * 3
    first, last = (np.exp(values) / np.exp(values).sum() for values in (start, end))
    every = {(i, j): first[i] * last[j] for i, j in itertools.product(range(n), range(n)) if 0 <= j - i < longest}
    ordered = sorted(every, key=lambda span: -every[span])
    found = spans([(0, start, end)], n, longest=longest, count=99, overlapping=True)
    assert [span[:2] for span in found] == ordered
    np.testing.assert_allclose([span.probability for span in found], [every[span] for span in ordered])
    kept = []
    for i, j in ordered:
        if all(j < a or i > b for a, b in kept):
            kept.append((i, j))
    found = spans([(0, start, end)], n, longest=longest, count=99)
    assert [span[:2] for span in found] == kept


def test_a_long_answer_length_is_cut_to_the_text():
    window, all_of_them = WindowLogits(0, np.zeros(2), np.zeros(2)), np.ones(2, dtype=bool)
    assert span_logits([window], SpanTokens(*[all_of_them] * 3), longest=50).shape == (2, 2)


@pytest.mark.parametrize(
    ("pieces", "first", "last"),
    [
        (["Johannes", " ", "Dio", "dato", "."], [0, 2, 4], [0, 3, 4]),
        (["18", "89", "-", "1", "8", "90", "km"], [0, 2, 3, 6], [1, 2, 5, 6]),
        (["Чай", "ков", "ский", " ", "Ό", "μηρος"], [0, 4], [2, 5]),
        (["東", "京", "タワー"], [0, 1, 2], [0, 1, 2]),
        (["서울", "에서"], [0, 1], [0, 1]),
        (["ال", "قاهرة"], [0, 1], [0, 1]),
        (["\u00a0", "a", " \n"], [1], [1]),
        (["unit", "ed"], [0], [1]),
    ],
)
def test_spans_begin_and_end_at_the_borders_of_words(pieces, first, last):
    """In scripts that put spaces between words, and no particles."""
    ends = list(itertools.accumulate(map(len, pieces)))
    tokens = span_tokens("".join(pieces), list(zip([0, *ends], ends, strict=False)))
    assert np.flatnonzero(tokens.first).tolist() == first
    assert np.flatnonzero(tokens.last).tolist() == last
    assert tokens.visible.tolist() == [not piece.isspace() for piece in pieces]


def test_the_bytes_of_one_character_are_not_parted():
    tokens = span_tokens("a😀", [(0, 1), (1, 2), (1, 2), (1, 2)])
    assert tokens.first.tolist() == [True, True, False, False]
    assert tokens.last.tolist() == [True, False, False, True]


def test_inner_tokens_of_a_word_have_part_in_the_softmax():
    """P = 1/3 · 1/3 for the whole word, though no other span is offered."""
    window = WindowLogits(0, np.zeros(3), np.zeros(3))
    tokens = span_tokens("United", [(0, 2), (2, 4), (4, 6)])
    assert best_spans([window], tokens, longest=5, count=9) == [(0, 2, pytest.approx(1 / 9))]
    assert best_spans([window], tokens, longest=2, count=9) == []
    assert span_tokens("", []).visible.shape == (0,)


@pytest.mark.parametrize(
    ("text", "offsets", "span", "expected"),
    [
        ("in Paris, 1889", [(0, 2), (3, 8), (8, 9), (10, 14)], (1, 2), "Paris,"),
        ("cafe\u0301 x", [(0, 4), (6, 7)], (0, 0), "cafe\u0301"),  # the tokenizer drops the accent
        ("xx\u0301y", [(0, 2), (3, 4)], (0, 0), "xx\u0301"),
        ("हि", [(0, 1), (1, 2)], (0, 0), "ह"),  # the vowel sign is a token of its own
        ("a\u200d", [(0, 1)], (0, 0), "a\u200d"),
        (" a  b ", [(0, 2), (2, 5)], (0, 1), "a  b"),  # tokens with the space before them
        ("😀😀", [(0, 1), (0, 1), (1, 2)], (1, 2), "😀😀"),  # a token for some bytes of a character
    ],
)
def test_the_characters_of_a_span(text, offsets, span, expected):
    begin, end = characters(text, offsets, *span)
    assert text[begin:end] == expected
