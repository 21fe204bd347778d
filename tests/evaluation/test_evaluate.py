"""Accuracy of a real table on labelled questions: worked by hand, paired, compared, written for trec_eval."""

import sys

import pytest

import dpr_lance
from dpr_lance.encoders.hash_encoder import HashEncoder
from dpr_lance.errors import EncoderError, InvalidInputError
from dpr_lance.evaluation.evaluate import evaluate
from dpr_lance.evaluation.metrics import bootstrap, hits_within, paired_test
from dpr_lance.evaluation.results import EvaluationProgress
from dpr_lance.text.splitter import WordSplitter
from tests.evaluation.questions import QUESTIONS, ranks
from tests.search.rerankers import Counting


class TestRows:
    def test_worked_by_hand(self, filled):
        found = evaluate(filled, QUESTIONS, modes=["bm25"], ks=[2, 1])
        assert (found.questions, found.with_answers, found.with_labels, found.ks) == (4, 3, 3, (1, 2))
        assert ranks(found, "answer") == {"q1": {"bm25": 1}, "q2": {"bm25": 0}, "q3": {"bm25": 1}, "q4": None}
        assert ranks(found, "label") == {"q1": {"bm25": 1}, "q2": {"bm25": 1}, "q3": None, "q4": {"bm25": 1}}
        (row,) = found.rows
        assert {k: interval.mean for k, interval in row.by_answer.items()} == pytest.approx({1: 2 / 3, 2: 2 / 3})
        assert {k: interval.mean for k, interval in row.by_label.items()} == {1: 1, 2: 1}
        assert row.measures["mrr@10"].mean == 1
        assert row.measures["recall@1"].mean == pytest.approx((1 + 1 + 0.5) / 3)  # q4 has two labels

    def test_three_modes_and_what_differs(self, filled):
        found = evaluate(filled, QUESTIONS)
        assert [(row.name, row.mode) for row in found.rows] == [(mode, mode) for mode in ("bm25", "dense", "hybrid")]
        assert found.ks == (1, 5, 20, 100)
        expected = {(first, second) for second, first in [("bm25", "dense"), ("bm25", "hybrid"), ("dense", "hybrid")]}
        assert {(pair.first, pair.second) for pair in found.pairs} == expected
        assert len(found.pairs) == 3 * 2 * 4
        for pair in found.pairs:
            rows = [outcome.ranks(pair.by) for outcome in found.outcomes]
            first, second = ([row[name] for row in rows if row] for name in (pair.first, pair.second))
            assert pair.test == paired_test(hits_within(first, pair.k), hits_within(second, pair.k))
        for row in found.rows:
            hits = [outcome.by_label[row.name] for outcome in found.outcomes if outcome.by_label]
            assert row.by_label[1] == bootstrap(hits_within(hits, 1))

    def test_the_ranks_are_those_of_the_search(self, filled):
        found = evaluate(filled, QUESTIONS)
        for outcome, question in zip(found.outcomes, QUESTIONS, strict=True):
            for mode in ("bm25", "dense", "hybrid"):
                hits = filled.search(question["question"], 100, mode=mode)
                names = [{hit.id, hit.document_id} & set(question.get("labels", ())) for hit in hits]
                if outcome.by_label is not None:
                    assert outcome.by_label[mode] == next((at for at, name in enumerate(names, 1) if name), 0)

    def test_the_title_is_no_answer(self, filled):
        filled.add([{"id": "t", "title": "Zugspitze", "text": "The highest mountain of Germany."}])
        found = evaluate(filled, [{"question": "zugspitze", "answers": ["Zugspitze"]}], modes=["bm25"])
        assert ranks(found, "answer") == {"1": {"bm25": 0}}

    def test_regular_expressions(self, filled):
        questions = [{"question": "mountain range", "answers": [r"eur\w+\.$"]}]
        assert evaluate(filled, questions, modes=["bm25"]).rows[0].by_answer[1].mean == 0
        assert evaluate(filled, questions, modes=["bm25"], regex=True).rows[0].by_answer[5].mean == 1
        with pytest.raises(InvalidInputError, match=r"questions\[0\]: the answer '\(' is not a regular expression"):
            evaluate(filled, [{"question": "x", "answers": ["("]}], regex=True)

    def test_a_label_of_a_document_stands_for_its_passages(self, retriever):
        retriever.add(
            [{"id": "long", "text": "one two three. four five six. seven river nine"}], splitter=WordSplitter(3)
        )
        retriever.add([{"id": "other", "text": "a river and another river"}])
        questions = [{"question": "river seven nine", "labels": ["long"]}, {"question": "seven", "labels": ["long#0"]}]
        found = evaluate(retriever, questions, modes=["bm25", "hybrid"], ks=[1, 10])
        assert ranks(found, "label")["1"]["bm25"] == 1
        assert ranks(found, "label")["2"]["bm25"] == 0
        # Each document counts once for recall, however many of its passages are found.
        assert found.rows[1].measures["recall@10"].mean == 1

    def test_batches_and_progress(self, filled):
        many = [{"question": f"river number {number}", "answers": ["river"]} for number in range(130)]
        reported = []
        found = evaluate(filled, many, modes=["bm25"], progress=reported.append)
        assert [advance.done for advance in reported] == [64, 128, 130]
        assert reported[-1] == EvaluationProgress("questions", 130, 130)
        assert found.questions == 130
        assert evaluate(filled, iter(many), modes=["bm25"]).questions == 130

    def test_without_the_extra_accuracy_is_measured_all_the_same(self, filled, monkeypatch):
        monkeypatch.setitem(sys.modules, "ir_measures", None)
        found = evaluate(filled, QUESTIONS, modes=["bm25"])
        assert found.rows[0].by_label[1].mean == 1
        assert not found.rows[0].measures
        assert "pip install 'dpr-lance[eval]'" in found.not_measured


class TestReranked:
    def test_a_row_of_hybrid_hits_is_added(self, filled):
        found = evaluate(filled, QUESTIONS, rerank=Counting("South"))
        assert [row.name for row in found.rows] == ["bm25", "dense", "hybrid", "hybrid+reader"]
        assert [row.reranker for row in found.rows] == [None, None, None, "Counting"]
        assert found.rows[3].mode == "hybrid"
        assert {"mrr@10", "ndcg@10"} <= set(found.rows[3].measures)
        for outcome, question in zip(found.outcomes, QUESTIONS, strict=True):
            if outcome.by_label is not None:
                hits = filled.search(question["question"], 100, mode="hybrid", rerank=Counting("South"))
                names = [{hit.id, hit.document_id} & set(question["labels"]) for hit in hits]
                assert outcome.by_label["hybrid+reader"] == next((at for at, name in enumerate(names, 1) if name), 0)
        # The one passage that has the word is first.
        assert ranks(found, "label")["q2"]["hybrid+reader"] == 1
        assert ranks(found, "label")["q1"]["hybrid+reader"] > 1
        pairs = {(pair.first, pair.second) for pair in found.pairs}
        assert {("hybrid+reader", "hybrid"), ("hybrid+reader", "bm25")} <= pairs

    def test_the_rows_that_are_named(self, filled):
        found = evaluate(filled, QUESTIONS, modes=["bm25+reader", "dense"], ks=[1], rerank=Counting("South"))
        assert [row.name for row in found.rows] == ["bm25+reader", "dense"]
        assert [row.mode for row in found.rows] == ["bm25", "dense"]

    def test_how_many_are_re_scored(self, filled):
        found = evaluate(filled, QUESTIONS, modes=["hybrid"], rerank=Counting("South"), candidates=1)
        for outcome in found.outcomes:
            for by in (outcome.by_answer, outcome.by_label):
                assert by is None or by["hybrid"] == by["hybrid+reader"]

    def test_of_another_table_too_and_in_run_files(self, filled, documents, tmp_path):
        with dpr_lance.connect(tmp_path / "other", encoder=HashEncoder(8)) as other:
            other.add(documents[2:])
            found = evaluate(
                filled, QUESTIONS, modes=["bm25"], compare=other, rerank=Counting("South"), runs=tmp_path / "runs"
            )
        assert [row.name for row in found.rows] == ["bm25", "hybrid+reader", "other.bm25", "other.hybrid+reader"]
        lines = (tmp_path / "runs" / "hybrid+reader.run").read_text().splitlines()
        assert lines[0].split()[0] == "q1"
        assert lines[0].split()[2] == "andes#0"

    def test_what_cannot_be_measured(self, filled):
        with pytest.raises(InvalidInputError, match=r"^rerank=False: the row bm25\+reader needs a re-ranker"):
            evaluate(filled, QUESTIONS, modes=["bm25+reader"], rerank=False)
        with pytest.raises(InvalidInputError, match=r"^rerank=7: give True"):
            evaluate(filled, QUESTIONS, rerank=7)
        with pytest.raises(InvalidInputError, match=r"^candidates=0: re-score at least 1 hit"):
            evaluate(filled, QUESTIONS, rerank=Counting(), candidates=0)


class TestRefusals:
    @pytest.mark.parametrize("modes", [[], ["sparse"], "bm25", ["bm25", "bm25"]])
    def test_modes(self, filled, modes):
        with pytest.raises(InvalidInputError, match="modes="):
            evaluate(filled, QUESTIONS, modes=modes)

    @pytest.mark.parametrize("ks", [[], [0], [1.5], [True]])
    def test_ks(self, filled, ks):
        with pytest.raises(InvalidInputError, match="ks="):
            evaluate(filled, QUESTIONS, ks=ks)

    def test_no_question(self, filled):
        with pytest.raises(InvalidInputError, match="there is no question to evaluate with"):
            evaluate(filled, [])

    def test_a_fallback_is_not_measured_as_hybrid(self, retriever, documents):
        retriever.add(documents, embed=False)
        assert evaluate(retriever, QUESTIONS, modes=["bm25"]).questions == 4
        with pytest.raises(EncoderError, match=r"hybrid cannot be measured, bm25 alone would answer: no passage has a"):
            evaluate(retriever, QUESTIONS, modes=["hybrid"])


class TestComparison:
    def test_with_another_table(self, filled, documents, tmp_path):
        with dpr_lance.connect(tmp_path / "other", encoder=HashEncoder(8)) as other:
            other.add(documents[2:])
            found = evaluate(filled, QUESTIONS, modes=["bm25", "dense"], compare=other)
        assert [row.name for row in found.rows] == ["bm25", "dense", "other.bm25", "other.dense"]
        assert ranks(found, "label")["q1"]["other.bm25"] == 0
        assert ranks(found, "label")["q4"]["other.bm25"] == 1
        assert len(found.pairs) == 6 * 2 * 4

    def test_with_an_encoder_the_passages_are_embedded_again(self, filled, documents, tmp_path):
        reported = []
        found = evaluate(filled, QUESTIONS, compare=HashEncoder(8), progress=reported.append)
        assert [row.name for row in found.rows] == ["bm25", "dense", "hybrid", "other.dense", "other.hybrid"]
        with dpr_lance.connect(tmp_path / "other", encoder=HashEncoder(8)) as other:
            other.add(documents)
            alone = evaluate(other, QUESTIONS)
        for by in ("answer", "label"):
            for name, found_ranks in ranks(found, by).items():
                assert found_ranks is None or {mode: found_ranks[f"other.{mode}"] for mode in ("dense", "hybrid")} == {
                    mode: ranks(alone, by)[name][mode] for mode in ("dense", "hybrid")
                }
        assert reported[0] == EvaluationProgress("passages", 4, 4)
        assert filled.info().encoder.dimension == 64  # its own vectors stay


class TestLabels:
    @pytest.fixture
    def rivers(self, retriever):
        retriever.add([{"id": str(number), "text": f"river number {number}"} for number in range(3)])
        return retriever

    @pytest.mark.parametrize("count", [1, 3])
    def test_none_that_is_stored_is_an_error(self, rivers, count):
        questions = [{"question": f"river {number}", "labels": [f"doc-{number}"]} for number in range(count)]
        with pytest.raises(
            InvalidInputError, match=rf"none of the {count} labels .* is stored here, for example 'doc-0'"
        ):
            evaluate(rivers, questions)

    def test_some_are_counted(self, rivers):
        questions = [{"question": "river", "labels": ["0", "gone"]}, {"question": "number", "labels": ["1#0", "lost"]}]
        found = evaluate(rivers, questions)
        assert (found.labels, found.labels_missing) == (4, 2)

    def test_answers_can_be_judged_without_labels(self, rivers):
        found = evaluate(rivers, [{"question": "river", "labels": ["gone"], "answers": ["river"]}])
        assert (found.labels, found.labels_missing) == (1, 1)
        assert found.rows[0].by_answer[1].mean == 1.0
