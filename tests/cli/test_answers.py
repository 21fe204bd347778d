"""`dpr-lance answer`, and the options of `search` that choose among its hits."""

import json

import pytest

from dpr_lance.cli import app as cli
from tests.reader.tiny_reader import tiny_reader

DOCUMENTS = [
    {"id": "fr", "title": "France", "text": "It is large. The capital of France is Paris. It is old."},
    {"id": "fr2", "title": "", "text": "paris is the capital of France"},
    {"id": "mouse", "title": "", "text": "a mouse is a mouse"},
]


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "documents.jsonl").write_text("\n".join(map(json.dumps, DOCUMENTS)))
    words = ["paris", "capital", "of", "france", "the", "is"]
    bundle = tiny_reader(tmp_path / "reader", words=words, starts={"paris": 9.0}, ends={"paris": 9.0})
    assert cli.run(["add", "lib", "documents.jsonl"]) == 0

    def run_command(command, *arguments):
        options = ["--reader", str(bundle)] if command == "answer" else []
        capsys.readouterr()
        code = cli.run([command, "lib", *arguments, *options])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run_command


def test_an_answer_is_shown_in_its_sentence(run):
    code, out, err = run("answer", "capital of france")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "capital of france"
    assert lines[1].lower().startswith("  paris  (")
    assert "**paris** is the capital of France" in out or "The capital of France is **Paris**." in out
    assert "and 1 more" in out


def test_json_has_all_sources(run):
    code, out, _ = run("answer", "capital of france", "mouse", "--json", "--most", "2")
    assert code == 0
    first, _ = map(json.loads, out.splitlines())
    assert first["answer"].lower() == "paris"
    assert {source["id"] for source in first["answers"][0]["sources"]} == {"fr#0", "fr2#0"}
    assert first["reason"] is None


def test_no_answer_is_no_failure(run):
    code, out, _ = run("answer", "capital of france", "--threshold", "1")
    assert code == 0
    assert "no answer: the best answer, " in out
    code, out, _ = run("answer", "capital of france", "--threshold", "1", "--json")
    assert json.loads(out)["answer"] is None


def test_search_groups_and_diversifies(run):
    code, out, _ = run("search", "capital", "--group-by", "document_id", "-k", "2", "--diversity", "0.5", "--json")
    assert code == 0
    assert len({hit["document_id"] for hit in json.loads(out)["hits"]}) == 2
    code, _, err = run("search", "capital", "--group-by", "nothing")
    assert code == 1
    assert "there is no such column" in err
