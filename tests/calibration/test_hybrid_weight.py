"""Choosing weight and mode from judged candidates, in numpy alone."""

import numpy as np
import pytest

from dpr_lance.calibration import hybrid_weight as weighing
from dpr_lance.calibration.hybrid_weight import (
    JudgedCandidates,
    balanced_weight,
    choose,
    mutual_weight,
)
from dpr_lance.search.agreement import DOUBTS, EVEN_LOSSES, OVER_BALANCED, weight_in_scale


def judged(seed, count, *, weight=40.0, dense_noise=0.05, bm25_noise=2.0):
    """Questions whose answer is the candidate of the best hidden quality, seen by both legs with noise."""
    choose_from = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        quality = choose_from.normal(size=100)
        dense = 0.1 * quality + choose_from.normal(scale=dense_noise, size=100)
        bm25 = np.maximum(0.0, 0.1 * weight * quality + choose_from.normal(scale=bm25_noise, size=100) + 6)
        found.append(JudgedCandidates(dense, bm25, quality == quality.max()))
    return found


def mrr(questions, weight):
    scores = [each.bm25 + weight * each.dense for each in questions]
    ranks = [1 + (found > found[each.relevant]).sum() for found, each in zip(scores, questions, strict=True)]
    return np.mean(1 / np.array(ranks))


def test_a_weight_out_of_scale_is_found_again():
    questions, others = judged(0, 200), judged(1, 500)
    choice = choose(questions, 1.1, "hybrid", 20.0)
    assert choice.mode == "hybrid"
    assert mrr(others, choice.weight) > mrr(others, 1.1) + 0.05
    assert mrr(others, choice.weight) > max(mrr(others, weight) for weight in (5, 20, 40, 80, 160, 640)) - 0.01
    assert choice.after > choice.before == pytest.approx(mrr(questions, 1.1))
    curve = {point.weight: point.mrr for point in choice.curve}
    assert curve[1.1] == pytest.approx(choice.before)
    assert max(curve.values()) <= curve[choice.weight] + 0.02


@pytest.mark.parametrize("seed", range(20))
def test_twenty_questions_do_not_spoil_a_good_weight(seed):
    """Chosen on 20 questions, judged on 400 others: little is lost, whatever the 20 were."""
    choice = choose(judged(seed, 20), 40.0, "hybrid", 40.0)
    others = judged(1000 + seed, 400)
    assert mrr(others, choice.weight) > mrr(others, 40.0) - 0.03
    assert choice.after >= choice.before


@pytest.mark.parametrize(
    ("noise", "mode"),
    [({"dense_noise": 5.0, "bm25_noise": 0.1}, "bm25"), ({"dense_noise": 0.0, "bm25_noise": 500.0}, "dense")],
)
def test_a_leg_that_is_clearly_better_alone_becomes_the_mode(noise, mode):
    # The weights that are tried have nothing to offer against a leg of pure noise.
    choice = choose(judged(3, 200, **noise), 40.0, "hybrid", 40.0)
    assert choice.mode == mode
    assert choice.after > choice.before


def test_what_is_in_force_is_kept_where_nothing_is_better():
    questions = judged(4, 200)
    first = choose(questions, 1.1, "hybrid", 30.0)
    again = choose(questions, first.weight, first.mode, 30.0)
    assert (again.weight, again.mode) == (first.weight, first.mode)
    assert again.after == again.before


def test_questions_without_an_answer_among_the_candidates_decide_nothing():
    lost = [JudgedCandidates(each.dense, each.bm25, np.zeros(100, dtype=bool)) for each in judged(5, 30)]
    choice = choose(lost, 7.0, "hybrid", 40.0)
    assert (choice.weight, choice.mode, choice.before, choice.after) == (7.0, "hybrid", 0.0, 0.0)


def test_a_single_leg_in_force_is_left_for_a_better_hybrid():
    choice = choose(judged(6, 200), 40.0, "bm25", 40.0)
    assert choice.mode == "hybrid"
    assert choice.after > choice.before


def test_passages_without_a_vector_are_no_answers_of_dense_search():
    questions = judged(7, 50)
    for each in questions:
        each.dense[each.relevant] = np.nan
    choice = choose(questions, 40.0, "dense", 40.0)
    assert choice.mode != "dense"
    assert choice.before == 0.0


def test_the_balanced_weight_spreads_both_legs_equally():
    dense, bm25 = np.array([0.1, 0.2, np.nan, 0.3]), np.array([1.0, 3.0, 2.0, 6.0])
    assert balanced_weight([(dense, bm25)]) == pytest.approx(bm25.std() / np.std([0.1, 0.2, 0.3]))
    assert balanced_weight([(dense[:1], bm25[:1])]) is None
    assert balanced_weight([]) is None


@pytest.mark.parametrize("suggested", [10.0, 160.0])
def test_labels_lead_away_from_a_wrong_suggestion(suggested):
    choice = choose(judged(8, 400), suggested, "hybrid", suggested)
    assert 20 < choice.weight < 80
    others = judged(9, 500)
    assert mrr(others, choice.weight) > mrr(others, suggested)


def test_a_choice_varies_little_with_the_questions():
    """The likelihood's choice from 60 questions stays within a factor of 2, where the best rank's does not."""
    likeliest, best_ranked = [], []
    for seed in range(20):
        choice = choose(judged(100 + seed, 60), 1.1, "hybrid", 40.0)
        likeliest.append(choice.weight)
        best_ranked.append(max(choice.curve, key=lambda point: point.mrr).weight)
    assert max(likeliest) / min(likeliest) <= 2
    assert max(best_ranked) / min(best_ranked) > 2


def test_a_weight_goes_part_of_the_way_where_all_of_it_costs_rank():
    questions = judged(208, 60)
    choice = choose(questions, 40.0, "hybrid", 20.0)
    whole = choose(questions, 0.0, "hybrid", 20.0).weight  # from 0 there is only all of the way
    assert choice.weight == pytest.approx(40.0 * (whole / 40.0) ** 0.75)
    assert whole < choice.weight < 40.0
    assert choice.after > choice.before


def test_what_one_question_alone_would_change_stays():
    """It is judged by the choice of the others, which rank their answers first under any weight."""
    answer = np.array([True, False])
    content = JudgedCandidates(np.array([0.5, 0.4]), np.array([10.0, 5.0]), answer)
    alone = JudgedCandidates(np.array([0.6, 0.3]), np.array([0.0, 15.0]), answer)  # its answer is first from 50 on
    choice = choose([*[content] * 49, alone], 40.0, "hybrid", 40.0)
    assert (choice.weight, choice.after) == (40.0, choice.before)
    assert choose([*[content] * 40, *[alone] * 10], 40.0, "hybrid", 40.0).weight > 50.0


def test_the_likelihood_of_answers():
    """That of a softmax over the fused scores, for every weight and sharpness; of several answers the sum."""
    each = JudgedCandidates(np.array([0.3, 0.5, np.nan]), np.array([2.0, 1.0, 4.0]), np.array([True, True, False]))
    found = weighing.likelihoods_of(each, np.array([0.0, 10.0]))
    for row, weight in zip(found, (0.0, 10.0), strict=True):
        scores = np.outer(weighing.SHARPNESS, np.array([2.0, 1.0, 4.0]) + weight * np.array([0.3, 0.5, 0.3]))
        powers = np.exp(scores)
        np.testing.assert_allclose(row, np.log(powers[:, :2].sum(axis=1) / powers.sum(axis=1)), rtol=1e-5)


def test_several_answers_are_likely_together():
    """One answer that dense finds and one that BM25 finds: with the first alone dense gets more weight."""
    questions = judged(10, 200, dense_noise=0.1)
    both = []
    for each in questions:
        relevant = each.relevant.copy()
        relevant[each.bm25.argmax()] = True
        both.append(JudgedCandidates(each.dense, each.bm25, relevant))
    alone = choose(questions, 40.0, "hybrid", 40.0).weight
    assert choose(both, 40.0, "hybrid", 40.0).weight < alone


@pytest.mark.parametrize(
    ("current", "expected"), [(60, 60), (14, 14), (209, 209), (1.1, 30 * OVER_BALANCED), (211, 30 * OVER_BALANCED)]
)
def test_a_weight_out_of_scale_is_put_right(current, expected):
    assert weight_in_scale(current, 30) == expected
    assert weight_in_scale(current, None) == current


def outstanding(seed, count, *, dense=3.0, bm25=3.0):
    """Questions whose answer is one candidate that stands out of the others' noise by so much in each leg.

    A unit of noise is 0.1 in dense scores and 4 in BM25's: 40 balances the legs.
    """
    choose_from = np.random.default_rng(seed)
    answer = np.arange(100) == 0
    return [
        JudgedCandidates(
            0.1 * (choose_from.normal(size=100) + dense * answer),
            np.maximum(0.0, 4.0 * (choose_from.normal(size=100) + bm25 * answer) + 6.0),
            answer,
        )
        for _ in range(count)
    ]


def pairs(questions):
    return [(each.dense, each.bm25) for each in questions]


@pytest.mark.parametrize(
    ("answer", "better"), [({"dense": 2.0}, "bm25"), ({"dense": 0.0}, "bm25"), ({"bm25": 2.0}, "dense")]
)
def test_the_leg_that_errs_less_gains_weight_without_labels(answer, better):
    questions, others = outstanding(12, 300, **answer), outstanding(13, 1_000, **answer)
    weight = mutual_weight(pairs(questions), 40.0)
    assert (weight < 40.0) if better == "bm25" else (weight > 40.0)
    assert mrr(others, weight) > mrr(others, 40.0)


def test_what_the_legs_lose_on_each_others_favourites():
    """Dense's favourite is 2 behind in BM25, of a spread of 4; BM25's is 0.06 behind in dense, of a spread of 0.09."""
    dense, bm25 = np.array([0.5, 0.44, np.nan, 0.3]), np.array([10.0, 12.0, 2.0, 4.0])
    losses = (0.06 / np.std([0.5, 0.44, 0.3, 0.3])) / (2.0 / np.std([10.0, 12.0, 2.0, 4.0]))
    many = [(dense, bm25)] * 1_000
    expected = 60.0 * (losses / EVEN_LOSSES) ** (1_000 / (1_000 + DOUBTS))
    assert 90 < expected < 150
    assert mutual_weight(many, 60.0) == pytest.approx(expected)
    assert mutual_weight([(3 * dense, 7 * bm25)] * 1_000, 60.0) == pytest.approx(expected)
    tells_nothing = [(np.array([0.1, 0.9]), np.zeros(2)), (np.full(2, np.nan), np.array([0.0, 1.0]))]
    assert mutual_weight(many + tells_nothing * 100, 60.0) == pytest.approx(expected)
    assert 60.0 < mutual_weight(many[:2], 60.0) < mutual_weight(many[:20], 60.0) < expected


def test_a_weight_goes_no_further_than_four_times():
    dense, bm25 = np.array([1.0, 0.0, 0.1]), np.array([9.99, 10.0, 0.0])
    assert mutual_weight([(dense, bm25)] * 1_000, 60.0) == 240.0
    assert mutual_weight([(bm25, dense)] * 1_000, 60.0) == 15.0


@pytest.mark.parametrize(
    "candidates",
    [
        [],
        [(np.array([0.9, 0.1]), np.array([5.0, 0.0]))],
        [(np.array([0.1, 0.9]), np.array([0.0, 0.0]))],
        [(np.array([np.nan, np.nan]), np.array([0.0, 1.0]))],
        [(np.array([]), np.array([]))],
    ],
    ids=["none", "agreed", "no word found", "no vector", "nothing found"],
)
def test_questions_that_tell_nothing_about_the_legs(candidates):
    assert mutual_weight(candidates, 60.0) == 60.0
