"""What the case `reader` keeps of an evaluation, and its table."""

import pytest

import dpr_lance
from benchmarks import reader
from benchmarks.render import tables
from tests.tables import opened


class ByLength:
    """Prefers the shortest passage."""

    def score(self, question, passages):
        import numpy as np

        return np.array([-len(passage.text) for passage in passages], dtype=np.float32)


def test_a_set_is_summed_up_by_row(tmp_path):
    documents = [{"id": str(number), "text": "river " + "water " * number} for number in range(5)]
    questions = [dpr_lance.LabelledQuestion("q", "river water", labels={"1": 1})]
    with opened(tmp_path) as retriever:
        retriever.add(documents, splitter=None)
        found = dpr_lance.evaluate(retriever, questions, modes=reader.ROWS, ks=reader.KS, rerank=ByLength())
    kept = reader.summary_of(found)
    assert kept["questions"] == 1
    assert kept["reranker"] == "ByLength"
    assert list(kept["accuracy"]) == list(kept["ndcg@10"]) == list(reader.ROWS)
    top1 = {row: values[0][0] for row, values in kept["accuracy"].items()}
    assert kept["summary"]["top1"][0] == pytest.approx(top1["hybrid+reader"] - top1["hybrid"])
    assert all(values[2][0] == 100 for values in kept["accuracy"].values())


def test_the_table_shows_each_row_and_the_times():
    origin = {"commit": "c0ffee", "dirty": False, "machine": "2 cores"}
    three = [[50.0, 40.0, 60.0]] * 3
    quality = {
        "origin": origin,
        "split": "dev",
        "questions": 10,
        "passages": 20,
        "accuracy": dict.fromkeys(reader.ROWS, three),
        "ndcg@10": {key: [70.0, 60.0, 80.0] for key in reader.ROWS},
        "summary": {key: [5.0, 1.0, 9.0] for key in ("top1", "top5", "top20")},
    }
    times = {
        "origin": origin,
        "milliseconds": {key: {"10": [40, 50], "30": [90, 99]} for key in (reader.OURS, reader.TEACHER)},
        "summary": {"10": [0.1, 0.2, 0.3], "30": [0.1, 0.2, 0.3]},
    }
    shown = "\n".join(tables.TABLES["reader"]({"squad": quality, "speed": times}))
    assert "squad dev: 10 questions, 20 passages | 50.0 / 50.0 / 50.0; 70.0" in shown
    assert "+5.0 (+1.0 to +9.0)" in shown
    assert "40 / 50 | 90 / 99" in shown
