"""Accuracy on real questions, through a real table: the three modes reach their bars.

The longer form with all sets, intervals and references made on the spot is `python -m benchmarks quality`.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks import data, quality
from benchmarks.summaries import hits_within

pytestmark = pytest.mark.data

SETS = (("xquad-en", "test"), ("nq-gold", "dev"))
K = (1, 5, 20)
STEP = 2
"""Every second question of a set is searched for, in hybrid mode every third of these: it is the slowest."""
HYBRID_STEP = 3
FP32 = {"xquad-en": {1: 87.90, 5: 98.15, 20: 99.66}, "nq-gold": {1: 93.45, 5: 99.38, 20: 99.88}}
"""The same weights in fp32 by sentence-transformers, exact search over whole passages: `quality.reference_ranks` of the
same questions. Encoding for it would take longer than all other tests of this module."""

Measured = tuple[data.QuestionSet, quality.RanksByRow]


@pytest.fixture(scope="module", params=SETS, ids=lambda pair: pair[0])
def measured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    try:
        questions = data.read(*request.param)
    except data.MissingDataError as missing:
        pytest.skip(str(missing))
    questions = replace(questions, questions=questions.questions[::STEP])
    ranks, _ = quality.our_ranks(questions, tmp_path_factory.mktemp("quality"), k=max(K), hybrid_step=HYBRID_STEP)
    return questions, ranks


def accuracy(ranks: list[int], k: int) -> float:
    return float(hits_within(ranks, k).mean())


def test_bm25_is_at_most_half_a_point_below_lucenes(measured: Measured) -> None:
    questions, ranks = measured
    lucene = quality.bm25s_ranks(questions, max(K))
    assert {k: accuracy(ranks["bm25"], k) - accuracy(lucene, k) >= -quality.TOLERANCE for k in K} == dict.fromkeys(
        K, True
    )


def test_bm25_is_lucenes_formula_on_the_same_tokens(measured: Measured) -> None:
    """What differs from bm25s above is LanceDB's longer list of stop words; ties may fall either way."""
    questions, ranks = measured
    same = quality.bm25s_ranks(questions, max(K), tokens_of_lancedb=True)
    different = sum(mine != theirs for mine, theirs in zip(ranks["bm25"], same, strict=True))
    assert different <= 0.01 * len(same)


def test_dense_int8_is_close_to_fp32(measured: Measured) -> None:
    questions, ranks = measured
    differences = {k: accuracy(ranks["dense"], k) - FP32[questions.name][k] for k in K}
    assert min(differences.values()) >= -quality.TOLERANCE, differences


def test_hybrid_is_not_below_the_better_leg(measured: Measured) -> None:
    _, ranks = measured
    legs = [accuracy(ranks[leg][::HYBRID_STEP], 20) for leg in ("bm25", "dense")]
    assert accuracy(ranks["hybrid"], 20) >= max(legs)
