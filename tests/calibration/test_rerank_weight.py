"""The weight of retrieval next to a re-ranker, chosen by made candidates."""

import numpy as np
import pytest

from dpr_lance.calibration.rerank_weight import RescoredCandidates, choose_rerank_weight
from dpr_lance.search.reranking import standardised


def made(retrieval_gain, reader_gain, *, scale=1.0, questions=200, seed=0):
    """Candidates one of which answers: each score is noise, and larger for the answer by a gain."""
    choose = np.random.default_rng(seed)
    judged = []
    for _ in range(questions):
        relevant = np.arange(30) == choose.integers(30)
        retrieval, scores = choose.normal(size=(2, 30)) + np.outer([retrieval_gain, reader_gain], relevant)
        judged.append(RescoredCandidates(standardised(retrieval), scale * scores, relevant))
    return judged


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_both_together_are_better_than_either(scale):
    found = choose_rerank_weight(made(1.5, 2.0, scale=scale), 0.0)
    assert found.combined > max(found.retrieval_alone, found.reader_alone) + 0.03
    assert 0.3 * scale < found.weight < 2.0 * scale
    assert found.pays
    assert [point.weight for point in found.curve] == sorted(point.weight for point in found.curve)
    assert max(point.mrr for point in found.curve) >= found.combined


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("retrieval", "reader"), [(0.0, 2.0), (2.0, 0.0), (1.0, 1.0), (0.0, 0.0), (3.0, 0.5)])
@pytest.mark.parametrize("usual", [0.0, 0.7])
def test_it_is_never_worse_than_either_alone_or_the_weight_in_force(seed, retrieval, reader, usual):
    judged = made(retrieval, reader, questions=60, seed=seed)
    found = choose_rerank_weight(judged, usual)
    now = next(point.mrr for point in found.curve if point.weight == usual)
    assert found.combined >= max(found.retrieval_alone, found.reader_alone, now)
    if not reader:
        assert not found.pays


def test_a_weight_in_force_stays_unless_another_is_better():
    judged = made(1.5, 2.0)
    chosen = choose_rerank_weight(judged, 0.0).weight
    assert choose_rerank_weight(judged, chosen).weight == chosen


def test_scores_that_say_nothing_choose_retrieval():
    judged = [RescoredCandidates(each.retrieval, np.zeros(30), each.relevant) for each in made(2.0, 0.0)]
    found = choose_rerank_weight(judged, 0.0)
    assert (found.combined, found.pays) == (found.retrieval_alone, False)
    assert found.weight > 0


def test_no_answer_among_the_candidates_changes_nothing():
    judged = [RescoredCandidates(each.retrieval, each.scores, np.zeros(30, dtype=bool)) for each in made(1.0, 1.0)]
    found = choose_rerank_weight(judged, 0.7)
    assert (found.weight, found.combined, found.pays) == (0.7, 0.0, False)
