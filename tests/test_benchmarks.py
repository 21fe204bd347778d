"""What the benchmarks compute with: ranks, intervals, corpora cut smaller, tables put in their place."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from benchmarks import data, results
from benchmarks.accuracy import Spread, bootstrap, first_rank, hits_within


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """A set of three passages and two labelled questions in the common form."""
    place = tmp_path / "tiny"
    (place / "qrels").mkdir(parents=True)
    passages = [{"_id": name, "title": "", "text": f"text of {name}"} for name in "abc"]
    questions = [{"_id": f"q{number}", "text": f"question {number}", "answers": []} for number in range(3)]
    for name, records in (("corpus", passages), ("queries", questions)):
        with gzip.open(place / f"{name}.jsonl.gz", "wt", encoding="utf-8") as lines:
            lines.writelines(json.dumps(record) + "\n" for record in records)
    labels = "query-id\tcorpus-id\tscore\nq2\tc\t1\nq0\tb\t1\nq0\tc\t1\nq1\ta\t0\n"
    (place / "qrels" / "dev.tsv").write_text(labels, encoding="utf-8")
    monkeypatch.setenv(data.DATA_VARIABLE, str(tmp_path))
    return tmp_path


def test_ranks_count_from_one_and_a_miss_is_never_a_hit():
    assert first_rank(["x", "a", "b"], {"b", "a"}) == 2
    assert first_rank(["x"], {"a"}) == 0
    assert hits_within([1, 5, 6, 0], 5).tolist() == [100, 100, 0, 0]


def test_the_interval_holds_the_mean_and_narrows_with_more_questions():
    few, many = bootstrap(np.array([0.0, 100.0] * 10)), bootstrap(np.array([0.0, 100.0] * 1000))
    assert few.mean == many.mean == 50
    assert few.low < many.low < 50 < many.high < few.high
    # The normal approximation: 1.96 · 50 / sqrt(2000) = 2.19 points each way.
    assert many.high - many.low == pytest.approx(2 * 2.19, abs=0.3)


def test_a_spread_is_minimum_median_maximum():
    assert str(Spread.of([3.0, 1.0, 2.0])) == "1.00 / **2.00** / 3.00"


def test_a_set_has_the_questions_with_a_positive_label(sets):
    tiny = data.read("tiny", "dev")
    assert [(question.id, sorted(question.gold)) for question in tiny.questions] == [("q0", ["b", "c"]), ("q2", ["c"])]
    assert tiny.gold_rows == [{1, 2}, {2}]


def test_a_smaller_corpus_keeps_every_gold_passage(sets):
    tiny = data.read("tiny", "dev")
    assert [passage.id for passage in tiny.smaller(1).passages] == ["b", "c"]
    assert [passage.id for passage in tiny.smaller(3).passages] == ["a", "b", "c"]


def test_a_label_without_its_passage_is_named(sets):
    (sets / "tiny" / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq0\tzz\t1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="'zz' is labelled, but not in the corpus"):
        data.read("tiny", "test")


def test_missing_data_is_said_with_the_place_and_the_remedy(sets, monkeypatch):
    with pytest.raises(data.MissingDataError, match=r"dev\.tsv is missing"):
        data.read("other", "dev")
    monkeypatch.setenv(data.DATA_VARIABLE, str(sets / "nowhere"))
    with pytest.raises(data.MissingDataError, match=r"nowhere: set DPR_LANCE_DATA"):
        data.read("tiny", "dev")


def test_a_table_replaces_the_one_before_and_leaves_the_rest(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- one -->\nold\n<!-- end of one -->\nb\n", encoding="utf-8")
    for _ in range(2):
        results.put_in_readme("one", r"new \1", readme=readme)
    assert readme.read_text(encoding="utf-8") == "a\n<!-- one -->\nnew \\1\n<!-- end of one -->\nb\n"
    with pytest.raises(ValueError, match="<!-- two -->"):
        results.put_in_readme("two", "new", readme=readme)
