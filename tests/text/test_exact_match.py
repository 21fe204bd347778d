"""Exact match and F1 by SQuAD's rules."""

import pytest

from dpr_lance.text.exact_match import exact_match, plain_answer, word_f1


@pytest.mark.parametrize(
    ("answer", "plain"),
    [
        ("The  Rhine.", "rhine"),
        ("an A-Team", "ateam"),
        ("U.S.A.", "usa"),
        ("theatre", "theatre"),
        ("the", ""),
        ("Łódź, “a” city", "łódź “ ” city"),  # ASCII punctuation alone goes
    ],
)
def test_plain_answers(answer, plain):
    assert plain_answer(answer) == plain


def test_any_known_answer_matches():
    assert exact_match("The Rhine", ["the Danube", "Rhine."])
    assert not exact_match("Rhine river", ["Rhine"])
    assert not exact_match("Rhine", [])


def test_f1_counts_common_words():
    assert word_f1("the river Rhine", ["Rhine"]) == pytest.approx(2 / 3)
    assert word_f1("Rhine Rhine", ["Rhine"]) == pytest.approx(2 / 3)
    assert word_f1("a", ["b", "Rhine"]) == 0
    assert word_f1("Rhine", []) == 0
