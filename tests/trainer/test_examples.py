"""Training examples: every form is read, every bad row is named with file, line and reason."""

import gzip
import json

import pytest
from dpr_lance.trainer.examples import KnownPassage, read_examples

from dpr_lance import InvalidInputError

ROW = {
    "dataset": "nq",
    "question": "who wrote Faust?",
    "answers": ["Goethe"],
    "positive_ctxs": [
        {"title": "Faust", "text": "Goethe wrote it.", "score": 1000, "title_score": 1, "passage_id": "7"}
    ],
    "negative_ctxs": [{"title": "", "text": "The sea is deep."}],
    "hard_negative_ctxs": [{"title": "Faust (opera)", "text": "Gounod composed it.", "psg_id": "9"}],
}


def written(tmp_path, *rows, name="rows.jsonl"):
    path = tmp_path / name
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def test_dpr_json_with_all_its_keys(tmp_path):
    path = tmp_path / "nq.json"
    path.write_text(json.dumps([ROW, ROW | {"question": "another"}], indent=4))
    found = read_examples(path)
    first = found.rows[0]
    assert (first.question, first.answers, first.place) == ("who wrote Faust?", ("Goethe",), f"{path}:2")
    assert first.positives == ("7",)
    assert first.hard_negatives == ("9",)
    assert found.passages["7"] == KnownPassage("7", "Faust", "Goethe wrote it.")
    assert [found.passages[name].text for name in first.negatives] == ["The sea is deep."]
    assert found.rows[1].place == f"{path}:{1 + len(json.dumps([ROW], indent=4).splitlines()) - 1}"


def test_the_last_line_of_json_lines_counts_and_so_do_compressed_files(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n".join(json.dumps(ROW | {"question": f"q{n}"}).encode() for n in range(3))))
    assert [row.question for row in read_examples(path).rows] == ["q0", "q1", "q2"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{", "not JSON"),
        ("[1]", "a labelled question is a JSON object"),
        (ROW | {"question": "  "}, "the question is blank"),
        (ROW | {"question": 3}, "question must be a string"),
        (ROW | {"positive_ctxs": [], "answers": []}, "neither answers nor labels"),
        (ROW | {"positive_ctxs": [{"title": "", "text": " "}]}, "'text' is blank"),
        (ROW | {"positive_ctxs": [{"title": 1, "text": "x"}]}, "a title is 1"),
        (ROW | {"positive_ctxs": [{"text": "x", "score": float("nan")}]}, "a score is nan"),
        (ROW | {"positive_ctxs": [["x"]]}, "neither a passage nor an id"),
        (ROW | {"teacher_scores": [1.0]}, "'teacher_scores' has scores by passage id"),
        (ROW | {"teacher_scores": {"7": "high"}}, "the score of '7' is 'high', which is not a number"),
        (ROW | {"teacher_scores": {"7": float("inf")}}, "the score of '7' is inf"),
        (ROW | {"positive_ctxs": "x"}, "'positive_ctxs' is a list"),
        (ROW | {"positive_ctxs": ["77"]}, "'77' is not stored"),
        (ROW | {"answers": {"1": "Goethe"}}, "'answers' is a list of strings"),
        (ROW | {"answers": [3]}, "an answer must be a string"),
        (ROW | {"answers": ["Goethe", " "]}, "an answer is blank (' '): it would be found in every text"),
    ],
)
def test_a_bad_row_is_named_or_skipped_and_counted(tmp_path, row, reason):
    path = written(tmp_path, ROW, row)
    with pytest.raises(InvalidInputError, match="1 bad rows") as caught:
        read_examples(path)
    assert f"{path}:2: " in str(caught.value)
    assert reason in str(caught.value)
    found = read_examples(path, on_error="skip")
    assert len(found.rows) == 1
    assert [(problem.place, reason in problem.reason) for problem in found.skipped] == [(f"{path}:2", True)]


def test_bytes_that_are_no_utf8_are_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(json.dumps(ROW).encode() + b"\n\xff\xfe\n")
    with pytest.raises(InvalidInputError, match=r"rows.jsonl:2: not UTF-8"):
        read_examples(path)


def test_a_file_without_a_usable_row_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="no question that can be used"):
        read_examples(written(tmp_path, "{}"), on_error="skip")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (json.dumps([ROW], indent=1)[:-1], r":\d+: not JSON: a comma or the end of the list is missing"),
        (json.dumps([ROW, ROW], indent=1)[:-9], r":\d+: not JSON"),
        (f"{json.dumps(ROW)}\n{json.dumps(ROW)}\n", r":2: not JSON: more text after its end.*named \.jsonl"),
    ],
)
def test_a_list_that_is_cut_off_or_none_is_refused_whole(tmp_path, text, reason):
    path = tmp_path / "rows.json"
    path.write_text(text)
    for on_error in ("raise", "skip"):  # what is missing cannot be counted
        with pytest.raises(InvalidInputError, match=reason):
            read_examples(path, on_error=on_error)


def test_a_negative_that_is_also_a_positive_is_left_out_and_counted(tmp_path):
    row = ROW | {"hard_negative_ctxs": [{"title": "", "text": "goethe  WROTE it."}, {"title": "", "text": "other"}]}
    found = read_examples(written(tmp_path, row))
    assert [found.passages[name].text for name in found.rows[0].hard_negatives] == ["other"]
    assert found.oddities["a negative passage that is a positive too: left out"] == 1


def test_the_same_question_twice_is_one_with_all_passages(tmp_path):
    second = {"question": ROW["question"], "positives": [{"text": "It is by Goethe."}], "negatives": ["7"]}
    found = read_examples(written(tmp_path, ROW, second))
    assert len(found.rows) == 1
    assert len(found.rows[0].positives) == 2
    assert "7" not in found.rows[0].negatives


def test_passages_by_id_are_looked_up_at_once(tmp_path):
    asked = []

    def find(names):
        asked.append(list(names))
        parts = [KnownPassage(f"d#{at}", "D", f"part {at}") for at in range(2)]
        return {"d": parts, "p": [KnownPassage("p", "", "a passage")]}

    rows = [{"question": "one", "positives": ["d"]}, {"question": "two", "positives": ["p"], "hard_negatives": ["d"]}]
    found = read_examples(written(tmp_path, *rows), find=find)
    assert asked == [["d", "p"]]
    assert [row.positives for row in found.rows] == [("d#0", "d#1"), ("p",)]
    assert found.rows[1].hard_negatives == ("d#0", "d#1")


def test_questions_that_eval_measures_with_are_trained_on_too(tmp_path):
    def find(names):
        return {name: [KnownPassage(f"{name}#0", "", name)] for name in names}

    rows = [{"question": "one", "labels": ["a", "b"]}, {"text": "two", "labels": {"b": 2}}]
    found = read_examples(written(tmp_path, *rows), find=find)
    assert [(row.question, row.positives) for row in found.rows] == [("one", ("a#0", "b#0")), ("two", ("b#0",))]


def test_a_beir_folder_keeps_its_whole_corpus(tmp_path):
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text('{"_id": "a", "title": "", "text": "x"}\n{"_id": "b", "text": "y"}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "1", "text": "which?"}\n{"_id": "2", "text": "unlabelled"}\n')
    (tmp_path / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\n1\tb\t1\n1\ta\t0\n")
    found = read_examples(tmp_path)
    assert [(row.question, row.positives) for row in found.rows] == [("which?", ("b",))]
    assert set(found.passages) == {"a", "b"}
    with pytest.raises(InvalidInputError, match="there is no split 'dev'; choose one of train"):
        read_examples(tmp_path, split="dev")
    (tmp_path / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\n1\tb\t1\n9\ta\t1\n2\tzz\t1\n")
    with pytest.raises(InvalidInputError) as caught:
        read_examples(tmp_path)
    assert "1 labelled questions are missing, among them '9'" in str(caught.value)
    assert "queries.jsonl:2: the positive passage 'zz' is not stored" in str(caught.value)


def test_rows_of_dpr_with_answers_alone_are_read_too(tmp_path):
    (tmp_path / "nq.csv").write_text("who wrote Faust?\t['Goethe', 'J. W. Goethe']\n")
    (row,) = read_examples(tmp_path / "nq.csv").rows
    assert (row.question, row.answers, row.positives) == ("who wrote Faust?", ("Goethe", "J. W. Goethe"), ())


def test_scores_of_a_teacher_belong_to_the_passages_of_their_ids(tmp_path):
    stored = {"alps": [KnownPassage("alps#0", "", "the Alps"), KnownPassage("alps#1", "", "high")]}
    rows = [
        ROW | {"teacher_scores": {"7": 5, "9": -1.5, "unknown": 3.0}},
        {"question": "where", "labels": ["alps"], "teacher_scores": {"alps": 2.0}},
    ]
    first, second = read_examples(written(tmp_path, *rows), find=lambda names: stored).rows
    assert first.teacher_scores == {"7": 5.0, "9": -1.5}
    assert second.teacher_scores == {"alps#0": 2.0, "alps#1": 2.0}
