"""What an evaluation says of its questions, and gates."""

import pytest

from dpr_lance.errors import InvalidInputError
from dpr_lance.evaluation.evaluate import evaluate
from dpr_lance.evaluation.results import Gate
from tests.evaluation.questions import QUESTIONS, ranks
from tests.search.rerankers import Counting


def test_accuracy_over_k_and_disagreements(filled):
    found = evaluate(filled, QUESTIONS, ks=[1, 4])
    curve = found.accuracy_over_k("hybrid", "label")
    assert len(curve) == 4
    assert (curve[0], curve[-1]) == tuple(interval.mean for interval in found.rows[2].by_label.values())
    for outcome in found.disagreements("answer", 1):
        hits = {rank == 1 for rank in outcome.by_answer.values()}
        assert hits == {True, False}
    disagreeing = {outcome.id for outcome in found.disagreements("answer", 1)}
    agreeing = {outcome.id for outcome in found.outcomes} - disagreeing
    assert all(
        len({rank == 1 for rank in found.values()}) == 1 for found in map(ranks(found, "answer").get, agreeing) if found
    )


class TestGates:
    @pytest.mark.parametrize(
        ("text", "met"),
        [
            ("bm25.top1>=0.66", True),
            ("bm25.answer_top1 >= 0.67", False),
            ("bm25.label_top2>=1", True),
            ("bm25.label_top2>1.0", False),
            ("bm25.mrr@10<=1", True),
            ("bm25.recall@1<.8", False),
        ],
    )
    def test_bars(self, filled, text, met):
        found = evaluate(filled, QUESTIONS, modes=["bm25"], ks=[1, 2])
        assert Gate.parse(text).check(found).met is met

    @pytest.mark.parametrize(
        ("text", "met"),
        [("bm25+reader.top1>=0.3", True), (" bm25+reader.mrr@10 < 0.1", False), ("bm25.top1>=0.6", True)],
    )
    def test_a_re_ranked_row(self, filled, text, met):
        found = evaluate(filled, QUESTIONS, modes=["bm25", "bm25+reader"], ks=[1], rerank=Counting("South"))
        assert Gate.parse(text).check(found).met is met

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "hybrid",
            "hybrid.top20",
            "hybrid.top20>=80",
            "hybrid.top20=0.8",
            "a.b>=0.1",
            "__import__('os').top1>=0",
            "hybrid+.top1>=0",
        ],
    )
    def test_what_is_none(self, text):
        with pytest.raises(InvalidInputError, match=r"is not a gate: write ROW\.MEASURE>=SHARE"):
            Gate.parse(text)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("dense.top1>=0.1", "names a row that was not evaluated; there are bm25"),
            ("bm25.top5>=0.1", "names a measure that was not evaluated; there are answer_top1, label_top1, mrr@10"),
        ],
    )
    def test_what_was_not_measured(self, filled, text, said):
        found = evaluate(filled, QUESTIONS, modes=["bm25"], ks=[1])
        with pytest.raises(InvalidInputError, match=said):
            Gate.parse(text).check(found)
