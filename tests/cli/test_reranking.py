"""Re-ranking on the command line: `search`, `eval` and `calibrate` with a reader."""

import json
import re

import pytest

import dpr_lance
from dpr_lance.cli import app as cli
from dpr_lance.reader.loading import DEFAULT_READER
from tests.reader.tiny_reader import tiny_reader
from tests.tables import WORDS, random_documents


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A folder with a table, a reader that likes lanterns, and 60 questions whose answers have most of them."""
    folder = tmp_path_factory.mktemp("library")
    tiny_reader(folder, words=WORDS, bias={"lantern": 10.0})
    with dpr_lance.connect(folder / "lib") as retriever:
        retriever.add(random_documents(5, 60), splitter=None)
        asked = [f"{WORDS[at % 10]} {WORDS[at // 6]} {at}" for at in range(60)]
        lines = []
        for question, hits in zip(asked, retriever.search(asked, 30), strict=True):
            best = max(hits, key=lambda hit: [hit.title, *hit.text.split()].count("lantern"))
            lines.append(json.dumps({"question": question, "labels": [best.document_id]}))
    (folder / "q.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture
def run(capsys, library):
    def run_command(command, *arguments):
        code = cli.run([command, str(library / "lib"), *map(str, arguments)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run_command


def test_a_search(run, library):
    code, out, err = run("search", "river bridge", "-k", "3", "--reranker", library / "reader", "--candidates", 7)
    assert (code, err) == (0, "")
    assert "; first 7 re-ranked by tiny reader: score = rerank)" in out
    assert re.search(r"^# +score +rerank +dense +bm25 +passage", out, flags=re.MULTILINE)
    code, out, err = run("search", "river bridge", "--reranker", library / "reader", "--candidates", 2, "--explain")
    assert len(re.findall(r"retrieval #[12] \(", out)) == 2
    assert re.search(r" ms: .*rerank ", out)
    assert code == 0


def test_a_search_in_json(run, library):
    options = ["-k", "3", "--candidates", 2, "--rerank-within", "3600", "--json"]
    code, out, _ = run("search", "river bridge", "--reranker", library / "reader", *options)
    found = json.loads(out)
    assert (code, found["reranked"], found["reranker"]) == (0, 2, "tiny reader")
    assert [hit["rerank_score"] is None for hit in found["hits"]] == [False, False, True]
    _, out, _ = run("search", "river bridge", "--no-rerank", "--json")
    assert json.loads(out)["reranked"] == 0


def test_an_evaluation_with_a_gate(run, library):
    gates = ["--gate", "hybrid+reader.top1>=0.8", "--gate", "hybrid.top1<0.8"]
    options = ["--reranker", library / "reader", "--mode", "hybrid", "-k", "1,5"]
    code, out, err = run("eval", library / "q.jsonl", *options, *gates)
    assert code == 0
    assert "gate met: hybrid+reader.top1>=0.8" in err
    assert re.search(r"^hybrid\+reader +\d", out, flags=re.MULTILINE)
    assert "hybrid+reader − hybrid at top-5: +" in out
    assert run("eval", library / "q.jsonl", *options, "--gate", "hybrid+reader.top1<0.5")[0] == 1


def test_a_calibration_is_shown_and_used(run, library):
    code, out, err = run("calibrate", library / "q.jsonl", "--reranker", library / "reader")
    assert code == 0
    assert "tiny reader by default, retrieval weight " in out
    assert re.search(
        r"mean reciprocal rank 0\.\d+, retrieval alone 0\.\d+, reader alone \d\.\d+ \(of 60 questions\)", out
    )
    assert "tiny reader by default" in run("info")[1]
    assert "re-ranked by tiny reader" in run("search", "river bridge")[1]
    assert "re-ranked" not in run("search", "river bridge", "--no-rerank")[1]
    (library / "reader").rename(library / "elsewhere")
    _, out, err = run("search", "river bridge")
    (library / "elsewhere").rename(library / "reader")
    assert "re-ranked" not in out
    assert err.startswith("not re-ranked: ")
    assert run("calibrate", "--no-rerank")[0] == 0
    assert "re-ranked" not in run("search", "river bridge")[1]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--reranker", "a", "--no-rerank"], 2, "--reranker and --no-rerank exclude each other"),
        (["--rerank-within", "0"], 2, "--rerank-within 0: give more than 0 seconds"),
        (["--candidates", "0"], 2, "Invalid value for '--candidates'"),
        (["--reranker", "/missing/reader"], 1, "/missing/reader does not exist"),
        (["--reranker", " "], 1, "rerank=' ': give --rerank for the packaged reader, or --reranker with 'late-"),
    ],
)
def test_what_is_refused(run, arguments, code, said):
    found, _, err = run("search", "river bridge", *arguments)
    assert (found, said in " ".join(err.split())) == (code, True)


def test_the_packaged_reader(run):
    code, out, err = run("search", "river bridge", "-k", "2", "--rerank", "--json")
    found = json.loads(out)
    assert (code, err, found["reranker"], found["reranked"]) == (0, "", DEFAULT_READER, 30)
