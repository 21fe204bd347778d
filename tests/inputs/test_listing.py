"""Files and folders on the command line: what is read of them, and the ids that their documents get."""

import json

import pytest

import dpr_lance
from dpr_lance.cli import app as cli


@pytest.fixture
def run(capsys):
    def run_command(*arguments):
        code = cli.run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run_command


def test_an_empty_file_is_named_and_the_others_are_added(tmp_path, run):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("")
    (tmp_path / "docs" / "b.md").write_text("text")
    code, out, err = run("add", tmp_path / "lib", tmp_path / "docs", "--no-embed", "--json")
    assert code == 0
    assert json.loads(out)["documents_added"] == 1
    assert json.loads(out)["documents_skipped"] == 1
    assert err == f"skipped: {tmp_path / 'docs' / 'a.md'}: the file is empty\n"


def test_hints_are_options(tmp_path, run):
    (tmp_path / "a.jsonl").write_text('{"text": " "}\n')
    code, _, err = run("add", tmp_path / "lib", tmp_path / "a.jsonl", "--no-embed")
    assert code == 1
    assert "--on-error skip" in err
    assert "on_error=" not in err
    (tmp_path / "b.txt").write_text("x" * 2_000)
    code, _, err = run("add", tmp_path / "lib", tmp_path / "b.txt", "--no-embed", "--max-document-bytes", "1000")
    assert code == 1
    assert "longer than 1,000 bytes" in err
    assert "--max-document-bytes" in err


def test_a_folder_is_stored_once_however_it_is_named(tmp_path, run, monkeypatch):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "a.md").write_text("text")
    monkeypatch.chdir(tmp_path)
    run("add", "lib", "docs", "--no-embed")
    monkeypatch.chdir(docs)
    for uri, source in (("../lib", "."), (str(tmp_path / "lib"), str(docs)), ((tmp_path / "lib").as_uri(), "a.md")):
        code, out, _ = run("add", uri, source, "--no-embed", "--json")
        assert code == 0
        assert json.loads(out)["documents_unchanged"] == 1
    with dpr_lance.connect(tmp_path / "lib") as retriever:
        assert [passage.document_id for passage in retriever.passages()] == ["docs/a.md"]


def test_a_beir_folder_is_its_corpus(tmp_path, run):
    folder = tmp_path / "set"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text('{"_id": "c", "text": "a river"}\n')
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "river"}\n')
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\tc\t1\n")
    code, out, err = run("add", tmp_path / "lib", folder, "--no-embed", "--json")
    assert (code, json.loads(out)["documents_added"]) == (0, 1)
    assert "is a BEIR folder: its corpus is added" in err


def test_a_record_of_thousands_of_fields_is_refused(tmp_path, run):
    record = {"text": "x", **{f"key{number}": number for number in range(20_000)}}
    (tmp_path / "a.jsonl").write_text(json.dumps(record) + '\n{"text": "good"}\n')
    code, _, err = run("add", tmp_path / "lib", tmp_path / "a.jsonl", "--no-embed")
    assert code == 1
    assert "a.jsonl:1: 20,001 fields" in err
    code, out, _ = run("add", tmp_path / "lib", tmp_path / "a.jsonl", "--no-embed", "--on-error", "skip", "--json")
    assert (code, json.loads(out)["documents_skipped"], json.loads(out)["documents_added"]) == (0, 1, 1)
