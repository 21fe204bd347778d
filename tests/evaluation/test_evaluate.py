"""Accuracy of a real table on labelled questions: worked by hand, paired, compared, written for trec_eval."""

import sys

import pytest

import dpr_lance
from dpr_lance.encoders.hash_encoder import HashEncoder
from dpr_lance.errors import EncoderError, InvalidInputError
from dpr_lance.evaluation.evaluate import EvaluationProgress, evaluate
from dpr_lance.evaluation.gates import Gate
from dpr_lance.evaluation.metrics import bootstrap, hits_within, paired_test
from dpr_lance.evaluation.plot import plot_accuracy
from dpr_lance.text.splitter import WordSplitter

QUESTIONS = [
    {"id": "q1", "question": "mountain range in Europe", "answers": ["europe"], "labels": ["alps"]},
    {"id": "q2", "question": "range in South America", "answers": ["No such words"], "labels": ["andes#0"]},
    {"id": "q3", "question": "a river", "answers": ["in the Alps"]},
    {"id": "q4", "question": "compressed files", "labels": {"gzip": 2, "rhine": 1}},
]


@pytest.fixture
def filled(retriever, documents):
    retriever.add(documents)
    return retriever


def ranks(evaluation, by):
    return {outcome.id: found and dict(found) for outcome in evaluation.outcomes for found in [outcome.ranks(by)]}


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
        with pytest.raises(InvalidInputError, match=r"questions\[0\]: the answer '\(' is no regular expression"):
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
        told = []
        found = evaluate(filled, many, modes=["bm25"], progress=told.append)
        assert [advance.done for advance in told] == [64, 128, 130]
        assert told[-1] == EvaluationProgress("questions", 130, 130)
        assert found.questions == 130
        assert evaluate(filled, iter(many), modes=["bm25"]).questions == 130

    def test_accuracy_over_k_and_disagreements(self, filled):
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
            len({rank == 1 for rank in found.values()}) == 1
            for found in map(ranks(found, "answer").get, agreeing)
            if found
        )

    def test_without_the_extra_accuracy_is_measured_all_the_same(self, filled, monkeypatch):
        monkeypatch.setitem(sys.modules, "ir_measures", None)
        found = evaluate(filled, QUESTIONS, modes=["bm25"])
        assert found.rows[0].by_label[1].mean == 1
        assert not found.rows[0].measures
        assert "pip install 'dpr-lance[eval]'" in found.not_measured


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
        told = []
        found = evaluate(filled, QUESTIONS, compare=HashEncoder(8), progress=told.append)
        assert [row.name for row in found.rows] == ["bm25", "dense", "hybrid", "other.dense", "other.hybrid"]
        with dpr_lance.connect(tmp_path / "other", encoder=HashEncoder(8)) as other:
            other.add(documents)
            alone = evaluate(other, QUESTIONS)
        for by in ("answer", "label"):
            for name, found_ranks in ranks(found, by).items():
                assert found_ranks is None or {mode: found_ranks[f"other.{mode}"] for mode in ("dense", "hybrid")} == {
                    mode: ranks(alone, by)[name][mode] for mode in ("dense", "hybrid")
                }
        assert told[0] == EvaluationProgress("passages", 4, 4)
        assert filled.info().encoder.dimension == 64  # its own vectors stay


class TestRunFiles:
    def test_they_rank_as_we_do(self, filled, tmp_path):
        ir_measures = pytest.importorskip("ir_measures")
        filled.add([{"id": "spaced id", "text": "another river in the Alps"}])
        questions = [*QUESTIONS, {"id": "q 5", "question": "river in the alps", "labels": ["spaced id", "rhine"]}]
        found = evaluate(filled, questions, runs=tmp_path / "runs")
        qrels = list(ir_measures.read_trec_qrels(str(tmp_path / "runs" / "qrels.txt")))
        assert {(qrel.query_id, qrel.doc_id, qrel.relevance) for qrel in qrels} >= {
            ("q4", "gzip", 2),
            ("q%205", "rhine", 1),
        }
        names = {"mrr@10": ir_measures.RR @ 10, "ndcg@10": ir_measures.nDCG @ 10, "recall@5": ir_measures.R @ 5}
        for row in found.rows:
            run = list(ir_measures.read_trec_run(str(tmp_path / "runs" / f"{row.name}.run")))
            values = ir_measures.calc_aggregate(list(names.values()), qrels, run)
            assert {name: row.measures[name].mean for name in names} == pytest.approx(
                {name: values[measure] for name, measure in names.items()}
            )

    def test_ties_keep_their_order(self, retriever, tmp_path):
        retriever.add([{"id": f"d{number}", "text": "the same river"} for number in range(5)], splitter=None)
        evaluate(retriever, [{"question": "river", "labels": ["d3"]}], modes=["bm25"], runs=tmp_path)
        lines = [line.split() for line in (tmp_path / "bm25.run").read_text().splitlines()]
        scores = [float(line[4]) for line in lines]
        assert [line[2] for line in lines] == ["d0#0", "d1#0", "d2#0", "d3", "d4#0"]
        assert scores == sorted(set(scores), reverse=True)

    def test_a_folder_that_cannot_be_made(self, filled, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(InvalidInputError, match="run files cannot be written"):
            evaluate(filled, QUESTIONS, runs=tmp_path / "file" / "runs")


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
        "text",
        ["", "hybrid", "hybrid.top20", "hybrid.top20>=80", "hybrid.top20=0.8", "a.b>=0.1", "__import__('os').top1>=0"],
    )
    def test_what_is_none(self, text):
        with pytest.raises(InvalidInputError, match=r"is none: write ROW\.MEASURE>=SHARE"):
            Gate.parse(text)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("dense.top1>=0.1", "names no row that was evaluated: bm25"),
            ("bm25.top5>=0.1", "names nothing that was measured: answer_top1, label_top1, mrr@10"),
        ],
    )
    def test_what_was_not_measured(self, filled, text, said):
        found = evaluate(filled, QUESTIONS, modes=["bm25"], ks=[1])
        with pytest.raises(InvalidInputError, match=said):
            Gate.parse(text).check(found)


class TestPlot:
    def test_a_picture(self, filled, tmp_path):
        pytest.importorskip("matplotlib")
        found = evaluate(filled, QUESTIONS, modes=["bm25"])
        plot_accuracy(found, tmp_path / "p.png")
        assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
        with pytest.raises(InvalidInputError, match=r"p\.docx: plots are written as .*\.png"):
            plot_accuracy(found, tmp_path / "p.docx")

    def test_without_the_extra_it_is_said_what_to_install(self, filled, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        with pytest.raises(dpr_lance.MissingExtraError, match=r"a plot needs packages.*dpr-lance\[eval\]"):
            plot_accuracy(evaluate(filled, QUESTIONS, modes=["bm25"]), tmp_path / "p.png")
