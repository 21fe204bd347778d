"""The hybrid score in numpy alone."""

import numpy as np
import pytest

from dpr_lance.fusion import fused_scores, ranking


def test_the_sum_of_the_paper():
    np.testing.assert_allclose(fused_scores(np.array([0.5, -1.0]), np.array([3.0, 0.0]), 1.1), [3.55, -1.1])


def test_a_passage_without_a_vector_stands_with_the_least_similar():
    scores = fused_scores(np.array([0.9, 0.2, np.nan]), np.array([0.0, 0.0, 1.0]), 10.0)
    np.testing.assert_allclose(scores, [9.0, 2.0, 3.0])


def test_without_any_vector_bm25_decides():
    np.testing.assert_allclose(fused_scores(np.array([np.nan, np.nan]), np.array([2.0, 1.0]), 40.0), [2.0, 1.0])


def test_order_is_by_score_then_id():
    assert ranking(np.array([1.0, 2.0, 2.0, 0.5]), ["a", "z", "b", "c"], 3) == [2, 1, 0]


@pytest.mark.parametrize("k", [1, 4, 9])
def test_no_more_than_there_are(k):
    assert len(ranking(np.zeros(4), list("abcd"), k)) == min(k, 4)
