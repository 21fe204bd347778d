"""Labelled questions in every form that they come in; what cannot be used is named with its line."""

import gzip
import json
import tracemalloc

import pytest

from dpr_lance.errors import InvalidInputError
from dpr_lance.inputs.questions import Context, LabelledQuestion, read_questions, read_records

PAIRS = [("who wrote hamlet?", ("Shakespeare", "William Shakespeare")), ("wo liegt Köln?", ("am Rhein",))]


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(source, **options):
    return list(read_questions(source, **options))


def pairs(source, **options):
    return [(question.text, question.answers) for question in read(source, **options)]


def failure(source, **options):
    with pytest.raises(InvalidInputError) as caught:
        read(source, **options)
    return str(caught.value)


class TestForms:
    LINES = "\n\n".join(json.dumps({"question": text, "answers": answers}) for text, answers in PAIRS)

    def test_json_lines(self, tmp_path):
        assert pairs(write(tmp_path / "q.jsonl", self.LINES)) == PAIRS
        assert pairs(write(tmp_path / "q.jsonl.gz", gzip.compress(self.LINES.encode()))) == PAIRS

    def test_fields_by_other_names(self, tmp_path):
        record = {"_id": 7, "text": "who?", "answer": "she", "labels": {"a": 2, "b#1": 1}, "other": None}
        (question,) = read(write(tmp_path / "q.ndjson", json.dumps(record)))
        assert (question.id, question.text, question.answers) == ("7", "who?", ("she",))
        assert question.labels == {"a": 2, "b#1": 1}

    def test_questions_without_ids_get_their_numbers(self, tmp_path):
        assert [question.id for question in read(write(tmp_path / "q.jsonl", self.LINES))] == ["1", "2"]

    @pytest.mark.parametrize("name", ["q.csv", "q.tsv", "Q.CSV"])
    def test_rows_of_dpr(self, tmp_path, name):
        rows = [
            """who wrote hamlet?\t['Shakespeare', "William Shakespeare"]""",
            "",
            'wo liegt Köln?\t["am Rhein"]',
            '''"a ""quoted"" one"\t"['the \\'\\'it\\'\\'', ""O'Neil""]"''',
        ]
        expected = [*PAIRS, ('a "quoted" one', ("the ''it''", "O'Neil"))]
        assert pairs(write(tmp_path / name, "\n".join(rows) + "\n")) == expected
        assert pairs(write(tmp_path / name, "question\tanswers\r\n" + "\r\n".join(rows))) == expected

    def test_regular_expressions_in_rows(self, tmp_path):
        (question,) = read(write(tmp_path / "trec.csv", "when?\t['17\\d\\d', '\\\\bMay\\\\b']"))
        assert question.answers == (r"17\d\d", r"\bMay\b")
        assert question.matcher(regex=True)("in 1756")

    def test_lists_of_dpr(self, tmp_path):
        contexts = [{"title": "t", "text": "x", "passage_id": "12"}, {"psg_id": 13}, {"title": "no id", "text": "y"}]
        records = [
            {"question": "who?", "answers": ["she"], "positive_ctxs": contexts, "negative_ctxs": [{"passage_id": "9"}]},
            {"question": "what?", "answers": ["it"], "positive_ctxs": []},
        ]
        for indent in (None, 2):
            found = read(write(tmp_path / "dev.json", json.dumps(records, indent=indent)))
            assert [question.labels for question in found] == [{"12": 1, "13": 1}, {}]
        assert [question.text for question in read(write(tmp_path / "one.json", json.dumps(records[0])))] == ["who?"]
        assert read(write(tmp_path / "none.json", " [ ] ")) == []

    def test_passages_that_training_reads(self, tmp_path):
        contexts = [{"title": "t", "text": "x", "passage_id": 12}, {"text": "y"}]
        record = {
            "question": "who?",
            "positive_ctxs": contexts,
            "hard_negatives": ["9"],
            "negative_ctxs": [{"id": "8"}],
        }
        path = write(tmp_path / "q.jsonl", f"{json.dumps(record)}\n{{}}\n")
        question, skipped = read_records(path, contexts=True)
        assert question.positives == (Context("12", "t", "x"), Context("", "", "y"))
        assert (question.hard_negatives, question.negatives, question.labels) == (("9",), ("8",), {"12": 1})
        assert (skipped.place, skipped.reason) == (f"{path}:2", "there is no 'question'; the fields are []")
        assert type(next(read_records(path))) is LabelledQuestion

    def test_mappings_and_questions(self):
        given = [{"question": "who?", "answers": ["she"]}, LabelledQuestion("b", "what?", labels={"x": 1})]
        assert [(question.id, question.text) for question in read(given)] == [("1", "who?"), ("b", "what?")]


class TestBeir:
    @pytest.fixture
    def folder(self, tmp_path):
        queries = [
            {"_id": name, "text": f"question {name}", "answers": [name] * (name != "q1")} for name in ("q1", "q2", "q3")
        ]
        write(tmp_path / "beir" / "queries.jsonl", "\n".join(map(json.dumps, queries)))
        write(
            tmp_path / "beir" / "qrels" / "dev.tsv",
            "query-id\tcorpus-id\tscore\nq2\ta\t2\nq2\tb\t0\nq1\tc\t1\nq3\ta\t0\n",
        )
        return tmp_path / "beir"

    def test_questions_with_a_label_above_zero(self, folder):
        found = {question.id: (question.answers, dict(question.labels)) for question in read(folder)}
        assert found == {"q1": ((), {"c": 1}), "q2": (("q2",), {"a": 2})}

    def test_compressed_queries(self, folder):
        lines = (folder / "queries.jsonl").read_bytes()
        (folder / "queries.jsonl").unlink()
        write(folder / "queries.jsonl.gz", gzip.compress(lines))
        assert [question.id for question in read(str(folder))] == ["q1", "q2"]

    def test_one_of_several_splits(self, folder):
        write(folder / "qrels" / "train.tsv", "query-id\tcorpus-id\tscore\nq3\tc\t1\n")
        assert failure(folder) == f"{folder / 'qrels'}: there is no split 'test'; choose one of dev, train"
        assert [question.id for question in read(folder, split="train")] == ["q3"]
        write(folder / "qrels" / "test.tsv", "query-id\tcorpus-id\tscore\nq1\tc\t1\n")
        assert [question.id for question in read(folder)] == ["q1"]

    def test_what_is_wrong_with_it(self, folder):
        dev = folder / "qrels" / "dev.tsv"
        write(dev, "query-id\tcorpus-id\tscore\nq1\tc\n")
        assert failure(folder).startswith(f"{dev}:2: a row is question id, tab, passage id, tab, whole score")
        write(dev, "q1\tc\t0.5\n")
        assert f"{dev}:1: a row is" in failure(folder)
        write(dev, "q1\tc\t0\n")
        assert failure(folder) == f"{dev}: no passage is labelled with a score above 0"
        write(dev, "q9\tc\t1\n")
        assert "1 labelled questions are missing, among them 'q9'" in failure(folder)
        write(dev, "q1\tc\t1\n")
        queries = (folder / "queries.jsonl").read_text()
        write(folder / "queries.jsonl", f"null\n{queries}")
        assert failure(folder).startswith(f"{folder / 'queries.jsonl'}:1: a labelled question is a JSON object")
        write(folder / "queries.jsonl", queries)
        dev.unlink()
        assert "a BEIR folder has qrels/SPLIT.tsv" in failure(folder)
        write(dev, "q1\tc\t1\n")
        (folder / "queries.jsonl").unlink()
        assert "a BEIR folder has queries.jsonl" in failure(folder)


class TestFaults:
    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("{", "not JSON"),
            ("[1]", "a labelled question is a JSON object"),
            ("null", "a labelled question is a JSON object"),
            ('{"answers": ["x"]}', "there is no 'question'; the fields are ['answers']"),
            ('{"question": 3, "answers": ["x"]}', "question must be a string, it is int (3)"),
            ('{"question": " ", "answers": ["x"]}', "the question is blank"),
            ('{"question": "who?"}', "the question has neither answers nor labels"),
            ('{"question": "who?", "answers": []}', "the question has neither answers nor labels"),
            (
                '{"question": "who?", "answers": ["x", " "]}',
                "an answer is blank (' '): it would be found in every text",
            ),
            ('{"question": "who?", "answers": [3]}', "an answer must be a string, it is int (3)"),
            ('{"question": "who?", "answers": {"a": 1}}', "'answers' is a list of strings, not dict"),
            ('{"question": "who?", "labels": "p1"}', "'labels' is a list of passage ids, or grades by id, not 'p1'"),
            ('{"question": "who?", "labels": {"a": 0}}', "a label's grade is a whole number above 0, not 0"),
            ('{"question": "who?", "labels": [" "]}', "a label is blank"),
            ('{"question": "who?", "positive_ctxs": 1}', "'positive_ctxs' is a list of objects"),
            ('{"question": "who?", "answers": ["x"], "id": "1"}', "the id '1' is that of an earlier question"),
        ],
    )
    def test_a_bad_line_is_named(self, tmp_path, line, said):
        path = write(tmp_path / "q.jsonl", f'{{"id": "1", "question": "who?", "answers": ["x"]}}\n\n{line}\n')
        assert failure(path).startswith(f"{path}:3: {said}")

    @pytest.mark.parametrize(
        ("row", "said"),
        [
            ("who?", "a row is the question, a tab and the list of its answers; this one has 1 cell ('who?')"),
            ("who?\tx\ty", "a row is the question, a tab and the list of its answers; this one has 3 cells"),
            ("who?\t['x'", "the answers are not a list of strings: \"['x'\""),
            ("who?\tx", "the answers are not a list of strings: 'x'"),
            ("who?\t'x'", "the answers are str, not a list of strings: \"'x'\""),
            ("who?\t[1]", "an answer must be a string, it is int (1)"),
            ("who?\t[]", "the question has neither answers nor labels"),
            ('"who\t[1]', "not CSV"),
            ("who?\t" + "[" * 100_000, "the answers are not a list of strings"),
        ],
    )
    def test_a_bad_row_is_named(self, tmp_path, row, said):
        path = write(tmp_path / "q.csv", f"why?\t['so']\n{row}\n")
        assert failure(path).startswith(f"{path}:2: {said}")

    def test_nothing_in_a_row_is_run(self, tmp_path):
        """The reference implementation calls `eval` on this cell."""
        made = tmp_path / "made"
        path = write(tmp_path / "q.csv", f"who?\t[open({str(made)!r}, 'w').name]\n")
        assert f"{path}:1: the answers are not a list of strings" in failure(path)
        assert not made.exists()

    @pytest.mark.parametrize(
        ("text", "line", "said"),
        [
            (
                '[{"question": "a", "answers": ["b"]},\n {"question": }]',
                2,
                "not JSON: Expecting value, line 2 column 15, at '}]'",
            ),
            ('[{"question": "a", "answers": ["b"]}\n\n {}]', 3, "not JSON: a comma or the end of the list is missing"),
            ('[{"question": "a", "answers": ["b"]},\n 7]', 2, "a labelled question is a JSON object"),
            (
                '[{"question": "a", "answers": ["b"]}',
                1,
                "not JSON: a comma or the end of the list is missing, line 1 column 37, where the text ends",
            ),
            (
                '[{"question": "a", "answers": ["b"]}]\nx',
                2,
                "not JSON: more text after its end, line 2 column 1, at 'x'",
            ),
            ('{"question": "a"', 1, "not JSON"),
            ("[" * 100_000, 1, "JSON that cannot be read"),
        ],
    )
    def test_a_bad_list_is_named(self, tmp_path, text, line, said):
        path = write(tmp_path / "q.json", text)
        assert failure(path).startswith(f"{path}:{line}: {said}")

    def test_a_bad_regular_expression_is_named(self, tmp_path):
        path = write(tmp_path / "q.jsonl", '\n{"question": "who?", "answers": ["(x"]}')
        (question,) = read(path)
        assert not question.matcher()("x")
        with pytest.raises(InvalidInputError, match=rf"^{path}:2: the answer '\(x' is not a regular expression"):
            question.matcher(regex=True)

    def test_files_that_cannot_be_read(self, tmp_path):
        assert (
            failure(tmp_path / "none.jsonl")
            == f"{tmp_path / 'none.jsonl'}: there is no such file or folder of questions"
        )
        assert "questions come as .jsonl, .ndjson, .json, .csv, .tsv" in failure(write(tmp_path / "q.xlsx", "x"))
        packed = gzip.compress(b'{"question": "who?", "answers": ["x"]}\n' * 1000)
        assert "damaged or cut short" in failure(write(tmp_path / "q.jsonl.gz", packed[:-9]))
        assert "not UTF-8" in failure(write(tmp_path / "q.json", b'[{"question": "\xff"}]'))
        assert "chooses the qrels of a BEIR folder" in failure(write(tmp_path / "a.jsonl", "{}"), split="dev")
        assert failure([3]).startswith("questions[0]: a labelled question is a JSON object, or a mapping")


@pytest.mark.parametrize("name", ["q.jsonl", "q.json", "q.csv"])
def test_a_large_file_is_read_in_little_memory(tmp_path, name):
    records = [
        {"question": f"question {number}?", "answers": ["x" * 500], "filler": "y" * 2_000} for number in range(4_000)
    ]
    with (tmp_path / name).open("w") as out:
        if name == "q.json":
            json.dump(records, out)
        else:
            for record in records:
                out.write(
                    json.dumps(record) + "\n" if name == "q.jsonl" else f"{record['question']}\t{record['answers']}\n"
                )
    del records
    tracemalloc.start()
    assert sum(1 for _ in read_questions(tmp_path / name)) == 4_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 << 20, peak  # the ids that have been seen, and a part of the file
