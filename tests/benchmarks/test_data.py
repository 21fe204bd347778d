"""The question-answering sets as the benchmarks read them, with the library's readers."""

import gzip
import json

import pytest

from benchmarks import data, end_to_end


def write_set(place, corpus, queries, labels, split="dev"):
    """Write a set in the common form; labels are rows of question, passage and score."""
    (place / "qrels").mkdir(parents=True)
    for name, records in (("corpus", corpus), ("queries", queries)):
        with gzip.open(place / f"{name}.jsonl.gz", "wt", encoding="utf-8") as lines:
            lines.writelines(json.dumps(record) + "\n" for record in records)
    rows = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in labels)]
    (place / "qrels" / f"{split}.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """A set of three passages and two labelled questions."""
    passages = [{"_id": name, "title": "", "text": f"text of {name}"} for name in "abc"]
    questions = [{"_id": f"q{number}", "text": f"question {number}", "answers": []} for number in range(3)]
    write_set(tmp_path / "tiny", passages, questions, [("q2", "c", 1), ("q0", "b", 1), ("q0", "c", 1), ("q1", "a", 0)])
    monkeypatch.setenv(data.DATA_VARIABLE, str(tmp_path))
    return tmp_path


def test_a_set_has_the_questions_with_a_positive_label(sets):
    tiny = data.read("tiny", "dev")
    assert [(question.id, sorted(question.gold)) for question in tiny.questions] == [("q0", ["b", "c"]), ("q2", ["c"])]
    assert tiny.gold_rows == [{1, 2}, {2}]
    assert tiny.passages[0].document == {"id": "a", "title": "", "text": "text of a"}


def test_questions_of_one_set_are_asked_over_the_passages_of_two(sets):
    (sets / "more").mkdir()
    with gzip.open(sets / "more" / "corpus.jsonl.gz", "wt", encoding="utf-8") as lines:
        lines.write(json.dumps({"_id": "a", "title": "", "text": "another"}) + "\n")
    both = data.read("tiny+more", "dev")
    assert [passage.id for passage in both.passages] == ["more:a", "tiny:a", "tiny:b", "tiny:c"]
    assert [sorted(question.gold) for question in both.questions] == [["tiny:b", "tiny:c"], ["tiny:c"]]


def test_a_smaller_corpus_keeps_every_gold_passage(sets):
    tiny = data.read("tiny", "dev")
    assert [passage.id for passage in tiny.smaller(1).passages] == ["b", "c"]
    assert [passage.id for passage in tiny.smaller(3).passages] == ["a", "b", "c"]


def test_a_label_without_its_passage_or_question_is_named(sets):
    labels = sets / "tiny" / "qrels" / "test.tsv"
    labels.write_text("query-id\tcorpus-id\tscore\nq0\tzz\t1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="'zz' is labelled, but not in the corpus"):
        data.read("tiny", "test")
    labels.write_text("query-id\tcorpus-id\tscore\nq9\ta\t1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="'q9'"):
        data.read("tiny", "test")


def test_missing_data_is_reported_with_the_place_and_the_remedy(sets, monkeypatch):
    with pytest.raises(data.MissingDataError, match=r"dev\.tsv is missing"):
        data.read("other", "dev")
    monkeypatch.setenv(data.DATA_VARIABLE, str(sets / "nowhere"))
    with pytest.raises(data.MissingDataError, match=r"nowhere: set DPR_LANCE_DATA"):
        data.read("tiny", "dev")


def test_passages_of_a_hundred_words_are_cut_from_the_texts(sets):
    for name in ("squad", "nq-gold"):
        write_set(sets / name, [{"_id": "a", "title": name, "text": "word " * 250}], [], [("q", "a", 1)])
    found = data.hundred_word_passages(5)
    assert [title for title, _ in found] == ["squad", "squad", "nq-gold", "nq-gold", "squad"]
    assert {len(text.split()) for _, text in found} == {100}


def test_the_corpus_of_end_to_end_has_every_gold_passage_and_the_size_that_is_asked_for(tmp_path, monkeypatch):
    for name, split in end_to_end.SETS:
        corpus = [{"_id": str(number), "title": "", "text": f"{name} {number}"} for number in range(20)]
        queries = [{"_id": f"q{number}", "text": f"question {number}"} for number in range(10)]
        write_set(tmp_path / name, corpus, queries, [(f"q{number}", 19 - number, 1) for number in range(10)], split)
    monkeypatch.setenv(data.DATA_VARIABLE, str(tmp_path))
    passages, questions = end_to_end.corpus(30, 15)
    assert (len(passages), len(questions)) == (30, 15)
    assert {name.split("/")[0] for name in passages} == {name for name, _ in end_to_end.SETS}
    assert all(gold <= passages.keys() for _, gold in questions)
