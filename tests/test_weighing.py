"""Choosing weight and mode from judged candidates, in numpy alone."""

import numpy as np
import pytest

from dpr_lance.weighing import Judged, balanced_weight, choose, unlabelled_weight


def judged(seed, count, *, weight=40.0, dense_noise=0.05, bm25_noise=2.0):
    """Questions whose answer is the candidate of the best hidden quality, seen by both legs with noise."""
    choose_from = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        quality = choose_from.normal(size=100)
        dense = 0.1 * quality + choose_from.normal(scale=dense_noise, size=100)
        bm25 = np.maximum(0.0, 0.1 * weight * quality + choose_from.normal(scale=bm25_noise, size=100) + 6)
        found.append(Judged(dense, bm25, quality == quality.max()))
    return found


def mrr(questions, weight):
    scores = [each.bm25 + weight * each.dense for each in questions]
    ranks = [1 + (found > found[each.relevant]).sum() for found, each in zip(scores, questions, strict=True)]
    return np.mean(1 / np.array(ranks))


def test_a_weight_out_of_scale_is_found_again():
    questions, others = judged(0, 200), judged(1, 500)
    choice = choose(questions, 1.1, "hybrid")
    assert choice.mode == "hybrid"
    assert mrr(others, choice.weight) > mrr(others, 1.1) + 0.05
    assert mrr(others, choice.weight) > max(mrr(others, weight) for weight in (5, 20, 40, 80, 160, 640)) - 0.01
    assert choice.after > choice.before == pytest.approx(mrr(questions, 1.1))
    curve = dict(choice.curve)
    assert curve[1.1] == pytest.approx(choice.before)
    assert max(curve.values()) <= curve[choice.weight] + 0.02


@pytest.mark.parametrize("seed", range(20))
def test_twenty_questions_do_not_spoil_a_good_weight(seed):
    """Chosen on 20 questions, judged on 400 others: little is lost, whatever the 20 were."""
    choice = choose(judged(seed, 20), 40.0, "hybrid")
    others = judged(1000 + seed, 400)
    assert mrr(others, choice.weight) > mrr(others, 40.0) - 0.03
    assert choice.after >= choice.before


@pytest.mark.parametrize(
    ("noise", "mode"),
    [({"dense_noise": 5.0, "bm25_noise": 0.1}, "bm25"), ({"dense_noise": 0.0, "bm25_noise": 500.0}, "dense")],
)
def test_a_leg_that_is_clearly_better_alone_becomes_the_mode(noise, mode):
    # The weights that are tried have nothing to offer against a leg of pure noise.
    choice = choose(judged(3, 200, **noise), 40.0, "hybrid")
    assert choice.mode == mode
    assert choice.after > choice.before


def test_what_is_in_force_is_kept_where_nothing_is_better():
    questions = judged(4, 200)
    first = choose(questions, 1.1, "hybrid")
    again = choose(questions, first.weight, first.mode)
    assert (again.weight, again.mode) == (first.weight, first.mode)
    assert again.after == again.before


def test_questions_without_an_answer_among_the_candidates_decide_nothing():
    lost = [Judged(each.dense, each.bm25, np.zeros(100, dtype=bool)) for each in judged(5, 30)]
    choice = choose(lost, 7.0, "hybrid")
    assert (choice.weight, choice.mode, choice.before, choice.after) == (7.0, "hybrid", 0.0, 0.0)


def test_a_single_leg_in_force_is_left_for_a_better_hybrid():
    choice = choose(judged(6, 200), 40.0, "bm25")
    assert choice.mode == "hybrid"
    assert choice.after > choice.before


def test_passages_without_a_vector_are_no_answers_of_dense_search():
    questions = judged(7, 50)
    for each in questions:
        each.dense[each.relevant] = np.nan
    choice = choose(questions, 40.0, "dense")
    assert choice.mode != "dense"
    assert choice.before == 0.0


def test_the_balanced_weight_spreads_both_legs_equally():
    dense, bm25 = np.array([0.1, 0.2, np.nan, 0.3]), np.array([1.0, 3.0, 2.0, 6.0])
    assert balanced_weight([(dense, bm25)]) == pytest.approx(bm25.std() / np.std([0.1, 0.2, 0.3]))
    assert balanced_weight([(dense[:1], bm25[:1])]) is None
    assert balanced_weight([]) is None


@pytest.mark.parametrize(("current", "expected"), [(60, 60), (8, 8), (119, 119), (1.1, 30), (121, 30), (7, 30)])
def test_without_labels_only_a_weight_out_of_scale_is_changed(current, expected):
    assert unlabelled_weight(current, 30) == expected
    assert unlabelled_weight(current, None) == current
