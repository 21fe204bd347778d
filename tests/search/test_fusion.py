"""The hybrid score in numpy alone."""

import numpy as np
import pytest

from dpr_lance.search.fusion import fused_scores, leading


def test_the_sum_of_the_paper():
    np.testing.assert_allclose(fused_scores(np.array([0.5, -1.0]), np.array([3.0, 0.0]), 1.1), [3.55, -1.1])


def test_a_passage_without_a_vector_stands_with_the_least_similar():
    scores = fused_scores(np.array([0.9, 0.2, np.nan]), np.array([0.0, 0.0, 1.0]), 10.0)
    np.testing.assert_allclose(scores, [9.0, 2.0, 3.0])


def test_without_any_vector_bm25_decides():
    np.testing.assert_allclose(fused_scores(np.array([np.nan, np.nan]), np.array([2.0, 1.0]), 40.0), [2.0, 1.0])


def test_the_best_come_with_those_that_are_as_good_as_the_last():
    assert leading(np.array([1.0, 2.0, 2.0, 0.5]), 3) == [1, 2, 0]
    assert leading(np.array([1.0, 0.5, 2.0, 1.0, 1.0]), 2) == [2, 0, 3, 4]


@pytest.mark.parametrize("k", [1, 4, 9])
def test_no_more_than_there_are(k):
    assert len(leading(np.array([4.0, 3.0, 2.0, 1.0]), k)) == min(k, 4)
