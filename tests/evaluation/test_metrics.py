"""Accuracy by hand, intervals and tests against exact ones, ir-measures."""

import sys
from math import comb

import numpy as np
import pytest

from dpr_lance.errors import InvalidInputError, MissingExtraError
from dpr_lance.evaluation.metrics import bootstrap, first_rank, hits_within, mcnemar, paired_test, ranking_measures


class TestAccuracy:
    def test_worked_by_hand(self):
        found = [[False, True], [True], [], [False] * 5 + [True]]
        ranks = [first_rank(hits) for hits in found]
        assert ranks == [2, 1, 0, 6]
        shares = [hits_within(ranks, k).mean() for k in (1, 2, 5, 6, 100)]
        assert shares == [0.25, 0.5, 0.5, 0.75, 0.75]

    def test_the_interval_is_that_of_the_binomial(self):
        """Resampled means of n hits and misses are binomial: the standard error is sqrt(p (1 - p) / n)."""
        values = np.repeat([1.0, 0.0], [300, 100])
        interval = bootstrap(values)
        error = (0.75 * 0.25 / 400) ** 0.5
        assert interval.mean == 0.75
        assert [interval.low, interval.high] == pytest.approx([0.75 - 1.96 * error, 0.75 + 1.96 * error], abs=0.004)
        assert bootstrap(values) == interval

    def test_the_interval_is_that_of_resampled_questions(self):
        values = np.random.default_rng(3).choice([0, 0.1, 0.5, 1.0], 60)
        random = np.random.default_rng(4)
        means = [values[random.integers(0, 60, 60)].mean() for _ in range(20_000)]
        interval = bootstrap(values, resamples=20_000)
        assert [interval.low, interval.high] == pytest.approx(np.quantile(means, [0.025, 0.975]).tolist(), abs=0.005)

    def test_no_question_has_no_mean(self):
        with pytest.raises(InvalidInputError, match="no question"):
            bootstrap(np.array([]))


class TestPairs:
    @pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (5, 5), (8, 2), (2, 8), (60, 31)])
    def test_mcnemar_is_the_coins_two_tails(self, wins, losses):
        throws = wins + losses
        tail = sum(comb(throws, heads) for heads in range(max(wins, losses), throws + 1)) / 2**throws
        assert mcnemar(wins, losses) == pytest.approx(min(1, 2 * tail))

    def test_mcnemar_of_very_many_questions(self):
        assert mcnemar(30_000, 29_800) == pytest.approx(0.4157, abs=0.001)  # normal approximation: z = 199 / sqrt(n)
        assert mcnemar(40_000, 10_000) == 0

    def test_wins_losses_and_difference(self):
        first, second = np.array([1.0, 1, 1, 0, 0, 1]), np.array([1.0, 0, 0, 1, 0, 0])
        paired = paired_test(first, second)
        assert (paired.wins, paired.losses, paired.p_value) == (3, 1, mcnemar(3, 1))
        assert paired.difference.mean == pytest.approx(2 / 6)
        assert paired.difference == bootstrap(first - second)

    def test_pairing_narrows_the_interval_of_rows_that_agree(self):
        first = np.tile([1.0, 0.0], 200)
        second = first.copy()
        second[0] = 0.0
        width = paired_test(first, second).difference
        alone = bootstrap(first)
        assert width.high - width.low < (alone.high - alone.low) / 5

    def test_other_questions_cannot_be_paired(self):
        with pytest.raises(InvalidInputError, match="3 questions cannot be paired with 2"):
            paired_test(np.ones(3), np.ones(2))


class TestRankingMeasures:
    LABELS = ({"a": 1, "b": 1}, {"c": 2, "d": 1}, {"e": 1}, {"f": 1})
    RANKINGS = (["x", "a", "b"], ["d", "c"], ["x", "y"], [])

    def test_worked_by_hand(self):
        found = ranking_measures(self.LABELS, self.RANKINGS, [1, 2, 20])
        log3 = np.log2(3)
        assert found["mrr@10"].tolist() == [0.5, 1, 0, 0]
        assert found["recall@1"].tolist() == [0, 0.5, 0, 0]
        assert found["recall@2"].tolist() == [0.5, 1, 0, 0]
        assert found["recall@20"].tolist() == [1, 1, 0, 0]
        ideal = [1 + 1 / log3, 2 + 1 / log3]
        assert found["ndcg@10"][:2] == pytest.approx([(1 / log3 + 1 / 2) / ideal[0], (1 + 2 / log3) / ideal[1]])
        assert found["ndcg@10"][2:].tolist() == [0, 0]

    def test_the_means_are_those_of_ir_measures(self):
        ir_measures = pytest.importorskip("ir_measures")
        random = np.random.default_rng(0)
        names = [f"p{number}" for number in range(60)]
        labels = [dict.fromkeys(random.choice(names, 4, replace=False).tolist(), 1) for _ in range(40)]
        rankings = [random.permutation(names)[:50].tolist() for _ in range(40)]
        qrels = [ir_measures.Qrel(str(q), name, grade) for q, row in enumerate(labels) for name, grade in row.items()]
        run = [
            ir_measures.ScoredDoc(str(q), name, 1 / (1 + at))
            for q, row in enumerate(rankings)
            for at, name in enumerate(row)
        ]
        wanted = {"mrr@10": "RR@10", "ndcg@10": "nDCG@10", "recall@5": "R@5", "recall@50": "R@50"}
        measures = {name: ir_measures.parse_measure(measure) for name, measure in wanted.items()}
        aggregate = ir_measures.calc_aggregate(list(measures.values()), qrels, run)
        found = ranking_measures(labels, rankings, [5, 50])
        assert {name: found[name].mean() for name in measures} == pytest.approx(
            {name: aggregate[measure] for name, measure in measures.items()}
        )

    def test_the_reciprocal_rank_and_the_first_hit_agree(self):
        ranks = [
            first_rank(name in labels for name in row) for labels, row in zip(self.LABELS, self.RANKINGS, strict=True)
        ]
        assert ranking_measures(self.LABELS, self.RANKINGS, [1])["mrr@10"].tolist() == [
            1 / rank if rank else 0 for rank in ranks
        ]

    def test_without_the_extra_it_is_said_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "ir_measures", None)
        with pytest.raises(MissingExtraError, match=r"MRR@10.*pip install 'dpr-lance\[eval\]'"):
            ranking_measures(self.LABELS, self.RANKINGS, [1])
