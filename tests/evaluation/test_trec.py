"""Run files in the form of TREC."""

import pytest

from dpr_lance.errors import InvalidInputError
from dpr_lance.evaluation.evaluate import evaluate
from tests.evaluation.questions import QUESTIONS


def test_they_rank_as_we_do(filled, tmp_path):
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


def test_ties_keep_their_order(retriever, tmp_path):
    retriever.add([{"id": f"d{number}", "text": "the same river"} for number in range(5)], splitter=None)
    evaluate(retriever, [{"question": "river", "labels": ["d3"]}], modes=["bm25"], runs=tmp_path)
    lines = [line.split() for line in (tmp_path / "bm25.run").read_text().splitlines()]
    scores = [float(line[4]) for line in lines]
    assert [line[2] for line in lines] == ["d0#0", "d1#0", "d2#0", "d3", "d4#0"]
    assert scores == sorted(set(scores), reverse=True)


def test_a_folder_that_cannot_be_made(filled, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInputError, match="run files cannot be written"):
        evaluate(filled, QUESTIONS, runs=tmp_path / "file" / "runs")
