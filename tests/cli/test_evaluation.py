"""`dpr-lance eval`: tables and JSON on standard output, gates in the exit code, files that are asked for."""

import json

import pytest

from dpr_lance import connect
from dpr_lance.cli import app as cli
from dpr_lance.encoders.hash_encoder import HashEncoder
from tests.reader.tiny_reader import tiny_reader

DOCUMENTS = [
    {"id": "alps", "title": "Alps", "text": "The Alps are a mountain range in Europe."},
    {"id": "rhine", "title": "Rhine", "text": "The Rhine is a river that rises in the Alps."},
]
QUESTIONS = [
    {"question": "mountain range", "answers": ["Europe"], "labels": ["alps"]},
    {"question": "unknown words", "answers": ["river"], "labels": ["rhine"]},
]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A folder with two documents and questions about them."""
    folder = tmp_path_factory.mktemp("eval")
    (folder / "documents.jsonl").write_text("\n".join(map(json.dumps, DOCUMENTS)))
    (folder / "q.jsonl").write_text("\n".join(map(json.dumps, QUESTIONS)))
    assert cli.run(["add", str(folder / "lib"), str(folder / "documents.jsonl")]) == 0
    assert (
        cli.run(["add", str(folder / "lib"), str(folder / "documents.jsonl"), "--table", "second", "--no-embed"]) == 0
    )
    return folder


@pytest.fixture
def run(capsys, library):
    def run_command(*arguments):
        code = cli.run(["eval", str(library / "lib"), str(library / "q.jsonl"), *map(str, arguments)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run_command


def test_the_tables(run):
    code, out, err = run("-k", "1,2")
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert out.startswith("% of 2 questions with an answer among the first k passages (95 % interval)")
    assert ["bm25", "50.0", "(0.0–100.0)", "50.0", "(0.0–100.0)"] in lines
    assert ["mrr@10", "ndcg@10", "recall@1", "recall@2"] in lines
    assert "hybrid − bm25 at top-2: +50.0 points" in out


def test_json(run):
    code, out, err = run("--json", "--mode", "bm25", "--gate", "bm25.top1>=0.5")
    assert (code, err) == (0, "gate met: bm25.top1>=0.5 (0.5000)\n")
    (line,) = out.splitlines()
    found = json.loads(line)
    assert (found["questions"], found["headline"]) == (2, {"by": "answer", "k": 20})
    assert [row["name"] for row in found["rows"]] == ["bm25"]
    assert found["rows"][0]["by_answer"]["20"]["mean"] == 0.5
    assert found["gates"] == [{"gate": "bm25.top1>=0.5", "value": 0.5, "met": True}]


def test_a_missed_gate_is_exit_code_1(run):
    code, out, err = run("--mode", "bm25", "--gate", "bm25.top1>=0.1", "--gate", "bm25.top20>=0.51")
    assert code == 1
    assert "gate met: bm25.top1>=0.1 (0.5000)\ngate missed: bm25.top20>=0.51 (0.5000)\n" in err
    assert "top-20" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--gate", "nonsense"], "'nonsense' is not a gate"),
        (["-k", "1,x"], "whole numbers of at least 1"),
        (["-k", "0"], "whole numbers of at least 1"),
        (["--mode", "sparse"], "choose from hybrid, dense, bm25"),
    ],
)
def test_wrong_usage_is_exit_code_2(run, arguments, said):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert said in " ".join(err.replace("│", " ").split())


def test_files(run, tmp_path):
    pytest.importorskip("matplotlib")
    written = ["--run", tmp_path / "runs", "--disagreements", tmp_path / "d.jsonl", "--plot", tmp_path / "p.png"]
    assert run(*written)[0] == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [
        "bm25.run",
        "dense.run",
        "hybrid.run",
        "qrels.txt",
    ]
    (line,) = (tmp_path / "d.jsonl").read_text().splitlines()
    disagreement = json.loads(line)
    assert (disagreement["question"], disagreement["by"], disagreement["k"]) == ("unknown words", "answer", 20)
    assert (disagreement["missed_by"], disagreement["ranks"]["bm25"]) == (["bm25"], None)
    assert disagreement["found_by"] == ["dense", "hybrid"]
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_a_bad_question_is_named_and_nothing_is_written(run, library, tmp_path, capsys):
    (tmp_path / "bad.jsonl").write_text('{"question": "who?", "answers": ["x"]}\n{"question": 1}\n')
    code = cli.run(["eval", str(library / "lib"), str(tmp_path / "bad.jsonl"), "--mode", "bm25"])
    out, err = capsys.readouterr()
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {tmp_path / 'bad.jsonl'}:2: question must be a string")


def test_compared_with_a_table_of_the_folder_a_folder_and_an_encoder(run, library, tmp_path):
    def names(compare, *arguments):
        code, out, _ = run("--compare", compare, "--json", *arguments)
        assert code == 0
        return [row["name"] for row in json.loads(out)["rows"]]

    assert names("second", "--mode", "bm25") == ["bm25", "other.bm25"]
    with connect(tmp_path / "far", encoder=HashEncoder(8)) as far:
        far.add(DOCUMENTS)
    assert names(tmp_path / "far", "--mode", "bm25") == ["bm25", "other.bm25"]
    assert names("all-MiniLM-L6-v2", "--mode", "dense") == ["dense", "other.dense"]
    code, _, err = run("--compare", "no-such-encoder-at-all", "--mode", "dense")
    assert code == 1
    assert "no-such-encoder-at-all" in err


def test_labels_that_are_not_stored_are_reported(library, tmp_path, capsys):
    def evaluated(labels):
        (tmp_path / "q.jsonl").write_text(json.dumps({"question": "river", "labels": labels}))
        code = cli.run(["eval", str(library / "lib"), str(tmp_path / "q.jsonl"), "--mode", "bm25"])
        return code, *capsys.readouterr()

    code, _, err = evaluated(["alps", "gone"])
    assert code == 0
    assert "1 of 2 labels are ids that are not stored" in err
    code, out, err = evaluated(["gone"])
    assert (code, out) == (1, "")
    assert "none of the 1 labels" in err


def test_answers_are_measured(run, tmp_path):
    bundle = tiny_reader(tmp_path / "r", words=["europe", "river"], starts={"europe": 9.0}, ends={"europe": 9.0})
    code, out, err = run("--answers", "-k", "1,2", "--mode", "bm25", "--reranker", bundle)
    assert (code, err) == (0, "")
    assert out.startswith("% of 2 questions, answered by tiny reader (95 % interval)")
    lines = [line.split() for line in out.splitlines()]
    assert ["bm25,", "k", "=", "2", "50.0", "(0.0–100.0)", "50.0", "(0.0–100.0)"] in lines
    code, out, _ = run("--answers", "-k", "1", "--mode", "dense", "--reranker", bundle, "--json")
    assert [(row["name"], row["k"]) for row in json.loads(out)["rows"]] == [("dense", 1), ("gold", 0)]
    code, _, err = run("--answers", "--gate", "bm25.top1>=0.5")
    assert code == 2
    assert "--answers excludes" in err
