"""The command line: results on standard output, everything else on standard error, and honest exit codes."""

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import pytest
import typer

from dpr_lance import connect
from dpr_lance.cli import app as cli
from dpr_lance.encoders.hash_encoder import HashEncoder
from dpr_lance.search.searcher import QUESTIONS_AT_ONCE

RECORDS = [
    {"id": "snow", "title": "Snow ❄", "text": "Snow falls in winter, 雪 in Japanese.", "year": 1999},
    {"id": "sand", "title": "Sand", "text": "Sand lies in hot deserts [bold]far[/bold] \x1b[31maway.", "year": 2005},
    {"id": "sea", "title": "Sea", "text": "Ships sail on the salty sea.", "year": None},
]


def command_names():
    return typer.main.get_command(cli.app).commands


def write_lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A folder with three documents, read only."""
    folder = tmp_path_factory.mktemp("cli")
    assert cli.run(["add", str(folder / "lib"), str(write_lines(folder / "a.jsonl", RECORDS))]) == 0
    return str(folder / "lib")


@pytest.fixture
def run(capsys, monkeypatch):
    """Run a command in this process; gives exit code, standard output and standard error."""

    def run_command(*arguments, stdin=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = cli.run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run_command


def start(*arguments, **options):
    """Start the command line in a process of its own."""
    command = [sys.executable, "-m", "dpr_lance.cli.app", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, **{"stderr": subprocess.PIPE, **options})


class TestAdd:
    def test_adding_twice_changes_nothing(self, run, tmp_path):
        source = write_lines(tmp_path / "a.jsonl", RECORDS)
        code, out, err = run("add", tmp_path / "lib", source, "--json")
        first = json.loads(out)
        assert (code, err) == (0, "")
        assert (first["documents_added"], first["passages_added"], first["passages_embedded"]) == (3, 3, 3)
        code, out, _ = run("add", tmp_path / "lib", source, "--json")
        again = json.loads(out)
        assert (code, again["documents_added"], again["documents_unchanged"]) == (0, 0, 3)

    def test_standard_input(self, run, tmp_path):
        lines = "".join(json.dumps(record) + "\n" for record in RECORDS).encode()
        for arguments in ([], ["-"]):
            code, out, _ = run("add", tmp_path / "lib", *arguments, "--no-embed", stdin=lines)
            assert code == 0
            assert "documents read        3" in out or "documents read    3" in out
        code, _, err = run("add", tmp_path / "lib", stdin=b'{"text": "x"}\nbad\n')
        assert code == 1
        assert "standard input:2: not JSON" in err

    def test_bad_records_are_named_or_skipped(self, run, tmp_path):
        source = write_lines(tmp_path / "a.jsonl", [RECORDS[0], {"title": "no text"}, RECORDS[1]])
        code, out, err = run("add", tmp_path / "lib", source, "--no-embed")
        assert (code, out) == (1, "")
        assert err.startswith(f"error: {source}:2: there is no field 'text'")
        code, out, err = run("add", tmp_path / "lib", source, "--on-error", "skip", "--no-embed", "--json")
        assert code == 0
        assert json.loads(out)["documents_skipped"] == 1
        assert f"skipped: {source}:2: there is no field 'text'" in err

    def test_folders_with_files_of_other_kinds(self, run, tmp_path):
        (tmp_path / "notes").mkdir()
        (tmp_path / "notes" / "snow.md").write_text("# Snow\nIt snows.")
        (tmp_path / "notes" / "photo.png").write_bytes(b"\x89PNG")
        code, _, err = run("add", tmp_path / "lib", tmp_path / "notes", "--no-embed")
        assert code == 0
        assert err == "left out: 1 files of unknown kind (.png)\n"
        _, out, _ = run("search", tmp_path / "lib", "snows", "--mode", "bm25", "--json")
        (hit,) = json.loads(out)["hits"]
        assert (hit["title"], hit["document_id"]) == ("Snow", "notes/snow.md")

    def test_splitting_and_field_names(self, run, tmp_path):
        record = {"url": "u", "body": "one two three four five six seven", "headline": "h"}
        source = write_lines(tmp_path / "a.jsonl", [record])
        names = ["--id-field", "url", "--text-field", "body", "--title-field", "headline", "--no-embed", "--json"]
        assert json.loads(run("add", tmp_path / "words", source, "--words", "3", *names)[1])["passages_added"] == 3
        assert json.loads(run("add", tmp_path / "whole", source, "--whole", *names)[1])["passages_added"] == 1
        named = ["--splitter", "words:2"]
        assert json.loads(run("add", tmp_path / "named", source, *named, *names)[1])["passages_added"] == 4
        hits = json.loads(run("search", tmp_path / "words", "four", "--mode", "bm25", "--json")[1])["hits"]
        assert [(hit["id"], hit["title"], hit["text"]) for hit in hits] == [("u#1", "h", "four five six")]

    def test_vectors_can_be_made_later(self, run, tmp_path):
        source = write_lines(tmp_path / "a.jsonl", RECORDS)
        run("add", tmp_path / "lib", source, "--no-embed")
        _, out, err = run("search", tmp_path / "lib", "snow")
        assert "(bm25)" in out
        assert "BM25 alone answered" in err
        code, out, _ = run("embed", tmp_path / "lib", "--json")
        assert (code, json.loads(out)["passages_embedded"]) == (0, 3)
        assert "(hybrid: score = bm25 + " in run("search", tmp_path / "lib", "snow")[1]

    def test_what_the_encoder_does_not_see_is_said(self, run, tmp_path):
        source = write_lines(tmp_path / "a.jsonl", [{"text": "word " * 600}])
        code, out, err = run("add", tmp_path / "lib", source, "--whole", "--json")
        assert code == 0
        assert json.loads(out)["truncated_passages"] == 1
        assert "dense search does not see" in err


class TestSearch:
    def test_a_table_for_people(self, run, library):
        code, out, err = run("search", library, "where does snow fall?", "-k", "2")
        assert (code, err) == (0, "")
        lines = out.splitlines()
        assert lines[0].startswith("where does snow fall?  (hybrid: score = bm25 + ")
        assert lines[1].split() == ["#", "score", "dense", "bm25", "passage"]
        assert lines[2].startswith("1")
        assert lines[2].endswith("Snow ❄  snow#0")
        assert lines[3].strip() == "Snow falls in winter, 雪 in Japanese."

    def test_explained(self, run, library):
        code, out, err = run("search", library, "snow in winter", "-k", "1", "--explain")
        assert (code, err) == (0, "")
        assert "dense #1 · bm25 #1 = " in out
        assert "winter " in out
        explained = out.splitlines()[-6:]
        assert explained[:2] == ["3 candidates of 3 dense + 1 bm25, 100 asked of each", "vectors searched exactly"]
        assert explained[2].startswith("3 passages outside the BM25 index")
        assert re.fullmatch(r"[\d.]+ ms: encode [\d.]+, dense [\d.]+ \(in parallel bm25 [\d.]+\), .*", explained[4])
        assert re.fullmatch(r"λ = [\d.]+ is from the encoder", explained[3])
        _, out, _ = run("search", library, "snow in winter", "-k", "1", "--explain", "--json")
        found = json.loads(out)
        assert {word["word"] for word in found["hits"][0]["explanation"]["words"]} == {"snow", "winter"}
        assert found["explanation"]["candidates"] == 3

    def test_stored_texts_cannot_style_or_drive_the_terminal(self, run, library):
        _, out, _ = run("search", library, "hot deserts", "-k", "1")
        assert "[bold]far[/bold] [31maway." in out
        assert "\x1b" not in out

    def test_json_has_a_line_for_each_question_with_exact_scores(self, run, library):
        code, out, err = run("search", library, "snow", "salty ships", "--json", "-k", "3")
        assert (code, err) == (0, "")
        snow, ships = map(json.loads, out.splitlines())
        assert (snow["question"], ships["question"]) == ("snow", "salty ships")
        assert ships["hits"][0]["document_id"] == "sea"
        for hit in snow["hits"] + ships["hits"]:
            fused = hit["bm25_score"] + snow["hybrid_weight"] * hit["dense_score"]
            assert hit["score"] == pytest.approx(fused, rel=1e-5)
        assert [hit["rank"] for hit in snow["hits"]] == [1, 2, 3]
        assert snow["hits"][0]["metadata"] == {"year": 1999}

    def test_questions_from_standard_input(self, run, library):
        questions = "snow\n\n  salty ships \r\n雪\n".encode()
        code, out, _ = run("search", library, "--json", "--mode", "bm25", stdin=questions)
        assert code == 0
        found = list(map(json.loads, out.splitlines()))
        assert [hits["question"] for hits in found] == ["snow", "salty ships", "雪"]
        assert [hits["hits"][0]["document_id"] for hits in found] == ["snow", "sea", "snow"]

    def test_more_questions_than_are_searched_at_once(self, run, library):
        count = 2 * QUESTIONS_AT_ONCE + 1
        code, out, _ = run("search", library, "--json", "--mode", "bm25", stdin=b"snow\n" * count)
        assert code == 0
        assert len(out.splitlines()) == count

    def test_a_question_that_is_not_utf8_is_named_by_its_line(self, run, library):
        code, _, err = run("search", library, "--mode", "bm25", stdin=b"snow\ncaf\xe9\n")
        assert code == 1
        assert "standard input:2: the question is not UTF-8" in err

    def test_no_questions_give_no_lines(self, run, library):
        assert run("search", library, "--json") == (0, "", "")

    def test_filters(self, run, library):
        _, out, _ = run("search", library, "snow", "--where", "year > 2000", "--json")
        assert [hit["document_id"] for hit in json.loads(out)["hits"]] == ["sand"]

    def test_pages_and_lowest_scores(self, run, library):
        whole = json.loads(run("search", library, "snow", "-k", "3", "--json")[1])["hits"]
        assert json.loads(run("search", library, "snow", "-k", "2", "--offset", "1", "--json")[1])["hits"] == whole[1:]
        least = str(whole[1]["score"])
        assert json.loads(run("search", library, "snow", "--min-score", least, "--json")[1])["hits"] == whole[:2]
        assert run("search", library, "snow", "--offset", "-1")[0] == 2
        code, _, err = run("search", library, "snow", "--min-score", "nan")
        assert (code, "the lowest score of a hit" in err) == (1, True)

    def test_nothing_found_is_no_failure(self, run, library):
        code, out, _ = run("search", library, "xyzzy", "--mode", "bm25")
        assert code == 0
        assert "no passage found" in out


class TestMaintenance:
    def test_info(self, run, library):
        code, out, err = run("info", library, "--json")
        found = json.loads(out)
        assert (code, err) == (0, "")
        assert (found["documents"], found["passages"], found["embedded"]) == (3, 3, 3)
        assert found["encoder"]["dimension"] == 384
        assert found["metadata"] == {"year": "int64"}
        code, out, _ = run("info", library)
        assert "documents       3\n" in out
        assert "year (int64)" in out

    def test_delete_by_id_and_by_filter(self, run, tmp_path):
        run("add", tmp_path / "lib", write_lines(tmp_path / "a.jsonl", RECORDS), "--no-embed")
        assert run("delete", tmp_path / "lib", "snow", "nowhere")[1] == "passages deleted   1\n"
        code, out, _ = run("delete", tmp_path / "lib", "--where", "year > 2000", "--json")
        assert (code, json.loads(out)) == (0, {"passages_deleted": 1})
        assert json.loads(run("info", tmp_path / "lib", "--json")[1])["passages"] == 1

    def test_optimize(self, run, tmp_path):
        run("add", tmp_path / "lib", write_lines(tmp_path / "a.jsonl", RECORDS), "--no-embed")
        code, out, err = run("optimize", tmp_path / "lib", "--json")
        assert (code, err) == (0, "")
        (index,) = json.loads(out)["indexes"]
        assert (index["indexed_rows"], index["unindexed_rows"]) == (3, 0)
        assert "FTS on content: 3 rows" in run("optimize", tmp_path / "lib")[1]

    def test_reembed(self, run, tmp_path):
        with connect(tmp_path / "lib", encoder=HashEncoder()) as retriever:
            retriever.add(RECORDS)
        code, out, err = run("reembed", tmp_path / "lib", "all-MiniLM-L6-v2", "--json")
        report = json.loads(out)
        assert (code, err) == (0, "")
        assert (report["encoder"]["name"], report["passages_embedded"]) == ("all-MiniLM-L6-v2", 3)
        assert json.loads(run("search", tmp_path / "lib", "snow", "--json")[1])["mode"] == "hybrid"
        code, out, _ = run("reembed", tmp_path / "lib", "all-MiniLM-L6-v2")
        assert code == 0
        assert "passages embedded    0\n" in out

    def test_several_tables(self, run, tmp_path):
        source = write_lines(tmp_path / "a.jsonl", RECORDS)
        run("add", tmp_path / "lib", source, "--table", "other", "--no-embed")
        assert json.loads(run("info", tmp_path / "lib", "--table", "other", "--json")[1])["documents"] == 3
        code, _, err = run("info", tmp_path / "lib")
        assert code == 1
        assert "hint: it has other: choose with --table" in err


class TestExport:
    def test_a_checkpoint_becomes_a_bundle_that_add_takes(self, run, tmp_path):
        pytest.importorskip("torch", reason="needs the train extra")
        from tests.trainer import checkpoints_made as checkpoints

        checkpoints.sentence_transformer(tmp_path / "checkpoint")
        code, out, err = run("export", tmp_path / "checkpoint", tmp_path / "bundle", "--precision", "fp32", "--json")
        found = json.loads(out)
        assert code == 0, err
        assert (found["bundle"], found["precision"], found["dimension"]) == (str(tmp_path / "bundle"), "fp32", 32)
        source = write_lines(tmp_path / "a.jsonl", RECORDS)
        assert run("add", tmp_path / "lib", source, "--encoder", tmp_path / "bundle")[0] == 0
        info = json.loads(run("info", tmp_path / "lib", "--json")[1])
        assert info["encoder"]["fingerprint"] == found["fingerprint"]

    def test_a_reader_is_recognised(self, run, tmp_path):
        pytest.importorskip("torch", reason="needs the train extra")
        from tests.trainer import readers_made as readers

        readers.cross_encoder(tmp_path / "checkpoint")
        options = ["--precision", "fp32", "--max-tokens", "200", "--name", "mine"]
        code, out, err = run("export", tmp_path / "checkpoint", tmp_path / "bundle", *options, "--json")
        assert code == 0, err
        found = json.loads(out)
        expected = {"kind": "reader", "selects": True, "extracts": False, "max_tokens": 200, "name": "mine"}
        assert {name: found[name] for name in expected} == expected
        source = write_lines(tmp_path / "a.jsonl", RECORDS)
        assert run("add", tmp_path / "lib", source)[0] == 0
        code, out, err = run("search", tmp_path / "lib", "sand", "--reranker", tmp_path / "bundle", "--json")
        assert code == 0, err
        code, _, err = run("export", tmp_path / "checkpoint", tmp_path / "other", "--question-prefix", "x", "--json")
        assert code == 1
        assert "question_prefix: settings of encoders" in json.loads(err)["error"]

    def test_late_interaction_is_recognised(self, run, tmp_path):
        pytest.importorskip("torch", reason="needs the train extra")
        from tests.trainer import late_interaction_made

        late_interaction_made.colbert(tmp_path / "checkpoint")
        code, out, err = run("export", tmp_path / "checkpoint", tmp_path / "bundle", "--precision", "fp32")
        assert code == 0, err
        assert "late-interaction" in out
        assert f"dpr-lance search URI QUESTION --reranker {tmp_path / 'bundle'}" in err

    def test_a_classifier_is_an_encoder_where_a_pooling_is_named(self, run, tmp_path):
        pytest.importorskip("torch", reason="needs the train extra")
        from tests.trainer import readers_made as readers

        readers.cross_encoder(tmp_path / "checkpoint")
        options = ["--precision", "fp32", "--pooling", "mean", "--normalise", "--json"]
        code, out, err = run("export", tmp_path / "checkpoint", tmp_path / "bundle", *options)
        assert code == 0, err
        assert (json.loads(out)["kind"], json.loads(out)["pooling"]) == ("encoder", "mean")

    @pytest.mark.parametrize(("option", "zero"), [("--zero-token-types", True), ("--token-types", False)])
    def test_token_types_are_the_users_choice(self, run, tmp_path, option, zero):
        pytest.importorskip("torch", reason="needs the train extra")
        from tests.trainer import checkpoints_made as checkpoints

        checkpoints.sentence_transformer(tmp_path / "checkpoint")
        options = ["--precision", "fp32", "--title-style", "pair", option, "--json"]
        code, out, err = run("export", tmp_path / "checkpoint", tmp_path / "bundle", *options)
        assert code == 0, err
        assert json.loads(out)["zero_token_types"] is zero

    def test_a_source_that_is_not_there(self, run, tmp_path):
        code, out, err = run("export", tmp_path / "nowhere", tmp_path / "bundle")
        assert (code, out) == (1, "")
        assert "nowhere" in err
        assert not (tmp_path / "bundle").exists()

    def test_a_place_that_is_taken(self, run, tmp_path):
        code, _, err = run("export", "some-model", tmp_path, "--json")
        assert code == 1
        assert "exists" in json.loads(err)["error"]


FAILURES = {
    "nothing there": (["search", "{tmp}/nowhere", "snow"], 1, "there is no such folder"),
    "nothing to show": (["info", "{tmp}/nowhere"], 1, "there is no such folder"),
    "nothing to delete from": (["delete", "{tmp}/nowhere", "x"], 1, "there is no such folder"),
    "nothing to optimize": (["optimize", "{tmp}/nowhere"], 1, "there is no such folder"),
    "nothing to re-embed": (["reembed", "{tmp}/nowhere", "all-MiniLM-L6-v2"], 1, "there is no such folder"),
    "nothing to embed": (["embed", "{tmp}/nowhere"], 1, "there is no such folder"),
    "a folder of other things": (["search", "{tmp}", "snow"], 1, "there is no table 'passages'"),
    "a file for a folder": (["search", "{tmp}/file", "snow"], 1, "that is a file"),
    "adding to a file": (["add", "{tmp}/file", "{tmp}/a.txt"], 1, "that is a file"),
    "adding among other things": (["add", "{tmp}", "{tmp}/a.txt"], 1, "holds other things"),
    "a missing file": (["add", "{tmp}/new", "{tmp}/missing.txt"], 1, "there is no such file or folder"),
    "an unknown kind": (["add", "{tmp}/new", "{tmp}/file"], 1, "a file of unknown kind; known are .jsonl"),
    "a blank question": (["search", "{library}", " "], 1, "is blank"),
    "a lone surrogate": (["search", "{library}", "snow\udce9"], 1, "lone surrogate"),
    "an unknown column": (["search", "{library}", "snow", "--where", "nope = 1"], 1, "nope"),
    "a broken filter": (["delete", "{library}", "--where", "year >"], 1, "year >"),
    "an unknown encoder": (["add", "{tmp}/new", "{tmp}/a.txt", "--encoder", "{tmp}/no-bundle"], 1, "no-bundle"),
    "a table name": (["add", "{tmp}/new", "{tmp}/a.txt", "--table", "a/b"], 1, "a/b"),
    "k of zero": (["search", "{library}", "snow", "-k", "0"], 2, "-k"),
    "an unknown mode": (["search", "{library}", "snow", "--mode", "fancy"], 2, "fancy"),
    "an unknown option": (["search", "{library}", "snow", "--fast"], 2, "--fast"),
    "an unknown command": (["serach", "{library}"], 2, "serach"),
    "no arguments": (["search"], 2, "URI"),
    "neither ids nor a filter": (["delete", "{library}"], 2, "exactly one of them"),
    "ids and a filter": (["delete", "{library}", "snow", "--where", "year > 1"], 2, "exactly one of them"),
    "words and whole": (["add", "{library}", "{tmp}/a.txt", "--words", "5", "--whole"], 2, "exclude each other"),
    "words and a splitter": (["add", "{library}", "--words", "5", "--splitter", "whole"], 2, "exclude each other"),
    "an unknown splitter": (["add", "{library}", "{tmp}/a.txt", "--splitter", "verses:3"], 1, "verses:3"),
    "no words": (["add", "{library}", "{tmp}/a.txt", "--words", "0"], 2, "--words"),
    "input among files": (["add", "{library}", "-", "{tmp}/a.txt"], 2, "cannot be combined"),
    "an unknown policy": (["add", "{library}", "{tmp}/a.txt", "--on-error", "cry"], 2, "cry"),
    "an unknown precision": (["export", "x", "{tmp}/y", "--precision", "int4"], 2, "int4"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failures_say_what_is_wrong_and_change_nothing(run, library, tmp_path, name):
    arguments, expected, said = FAILURES[name]
    (tmp_path / "file").write_text("x")
    (tmp_path / "a.txt").write_text("text")
    arguments = [argument.format(tmp=tmp_path, library=library) for argument in arguments]
    code, out, err = run(*arguments)
    assert (code, out) == (expected, "")
    assert said in err
    code, out, err = run(*arguments, "--json")
    assert (code, out) == (expected, "")
    assert said in json.loads(err)["error"]
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["a.txt", "file"]
    assert not (tmp_path / "nowhere").exists()
    assert json.loads(run("info", library, "--json")[1])["documents"] == 3


def test_a_hint_tells_how_to_go_on(run, tmp_path):
    _, _, err = run("search", tmp_path / "my lib", "snow", "--json")
    assert json.loads(err)["hint"] == f"dpr-lance add '{tmp_path}/my lib' FILE... makes it"
    _, _, err = run("search", "x", "y", "-k", "0", "--json")
    assert json.loads(err)["hint"] == "dpr-lance search --help"


def test_a_table_of_another_encoder_is_searched_by_bm25_and_refuses_additions(run, tmp_path):
    with connect(tmp_path / "lib", encoder=HashEncoder()) as retriever:
        retriever.add(RECORDS)
    code, out, err = run("search", tmp_path / "lib", "snow", "--json")
    assert code == 0
    assert json.loads(out)["mode"] == "bm25"
    assert json.loads(out)["fallback"]
    code, _, err = run("search", tmp_path / "lib", "snow", "--mode", "dense")
    assert code == 1
    code, _, err = run(
        "add", tmp_path / "lib", write_lines(tmp_path / "a.jsonl", RECORDS), "--encoder", "all-MiniLM-L6-v2"
    )
    assert code == 1
    assert "hash-64" in err


def test_values_that_json_lacks(run, tmp_path):
    from datetime import date

    with connect(tmp_path / "lib") as retriever:
        documents = [{"id": "a", "text": "snow", "day": date(2026, 1, 2), "share": float("nan"), "raw": b"\x00\xff"}]
        retriever.add(documents, embed=False)
    _, out, _ = run("search", tmp_path / "lib", "snow", "--mode", "bm25", "--json")
    (hit,) = json.loads(out, parse_constant=pytest.fail)["hits"]
    assert hit["metadata"] == {"day": "2026-01-02", "share": None, "raw": "AP8="}


class TestProcess:
    @pytest.mark.parametrize("command", sorted(command_names()))
    def test_help_shows_all_that_is_written(self, command, run, monkeypatch):
        """Also what stands in square brackets: defaults, and the extra to install."""
        monkeypatch.setenv("COLUMNS", "160")
        code, out, _ = run(command, "--help")
        shown = "".join(out.replace("│", "").split())
        entry = typer.main.get_command(cli.app).commands[command]
        written = [entry.help, *(option.help for option in entry.params if getattr(option, "help", None))]
        assert code == 0
        for text in written:
            assert "".join(text.replace("`", "").split()) in shown

    def test_help_imports_nothing_heavy(self):
        heavy = ["lancedb", "onnxruntime", "tokenizers", "torch", "transformers", "pyarrow", "numpy", "huggingface_hub"]
        code = (
            "import sys\nfrom dpr_lance.cli.app import run\n"
            "for command in [], ['add'], ['search'], ['demo'], ['export'], ['doctor']:\n"
            "    assert run([*command, '--help']) == 0\n"
            "assert run(['search', 'x', 'y', '-k', '0']) == 2\n"
            f"print([name for name in {heavy} if name in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]"
        assert "Usage: dpr-lance" in done.stdout

    def test_version_and_the_installed_script(self):
        from importlib.metadata import entry_points, version

        (script,) = entry_points(group="console_scripts", name="dpr-lance")
        assert script.load() is cli.main
        out, err = start("--version").communicate(timeout=60)
        assert (out.decode(), err) == (f"dpr-lance {version('dpr-lance')}\n", b"")

    def test_output_is_utf8_whatever_the_locale_and_free_of_anything_else(self, library):
        environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
        process = start("search", library, "❄ snow", "--json", env=environment)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, b"")
        found = json.loads(out.decode())
        assert found["question"] == "❄ snow"
        assert "雪" in found["hits"][0]["text"]
        assert "雪".encode() in out

    def test_no_progress_in_a_pipe(self, tmp_path):
        process = start("add", tmp_path / "lib", write_lines(tmp_path / "a.jsonl", RECORDS))
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, b"")
        assert b"\x1b" not in out

    def test_progress_on_a_terminal_leaves_the_results_alone(self, tmp_path):
        parent, child = pty.openpty()
        source = write_lines(tmp_path / "a.jsonl", RECORDS)
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
        process = start("add", tmp_path / "lib", source, "--json", stderr=child, env=environment)
        os.close(child)
        shown = read_terminal(parent)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert json.loads(out)["documents_added"] == 3
        assert b"adding" in shown
        assert b"3 passages embedded" in shown

    def test_an_interruption_keeps_what_was_finished(self, tmp_path):
        process = start("add", tmp_path / "lib", "--no-embed", stdin=subprocess.PIPE)
        lines = [json.dumps({"id": str(number), "text": f"passage {number}"}) for number in range(1_500)]
        process.stdin.write("\n".join(lines).encode() + b"\n")
        process.stdin.flush()  # and it stays open: the process waits for more
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not stored(tmp_path / "lib"):
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (130, b"")
        kept = stored(tmp_path / "lib")
        assert kept == 1_000
        said = "error: interrupted: 1,000 documents were finished and are kept; the same command does the rest\n"
        assert err.decode() == said

    def test_a_reader_that_goes_away_is_no_traceback(self, library):
        process = start("search", library, "--json", "--mode", "bm25", stdin=subprocess.PIPE)
        process.stdin.write(b"snow\n" * 2_000)
        process.stdin.close()
        process.stdout.readline()
        process.stdout.close()
        with process.stderr:
            assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 1


def stored(folder):
    """Return how many passages another process has committed so far."""
    if not (folder / "passages.lance").exists():
        return 0
    with connect(folder) as retriever:
        return len(retriever)


def read_terminal(descriptor):
    """Return what a terminal shows until its other end is closed."""
    shown = b""
    while select.select([descriptor], [], [], 60)[0]:
        try:
            shown += os.read(descriptor, 4096)
        except OSError:  # Linux's way of telling that the other end is closed
            break
    os.close(descriptor)
    return shown


@pytest.mark.parametrize(
    "arguments",
    [
        ["add", "t", "f", "--words", "0"],
        ["search", "t", "q", "-k", "0"],
        ["search", "t", "q", "-k", "1.5"],
        ["eval", "t", "q.jsonl", "-k", "0,5"],
        ["export", "here", "there", "--max-tokens", "7"],
        ["export", "here", "there", "--hybrid-weight", "-1"],
        ["train", "--questions", "q", "--out", "o", "--epochs", "-1"],
        ["train", "--questions", "q", "--out", "o", "--epochs", "nan"],
        ["train", "--questions", "q", "--out", "o", "--batch-size", "0"],
        ["train", "--questions", "q", "--out", "o", "--learning-rate", "inf"],
        ["train", "--questions", "q", "--out", "o", "--hard-negatives", "-1"],
        ["train", "--questions", "q", "--out", "o", "--rounds", "-1"],
        ["mine", "--table", "t", "--questions", "q", "--depth", "0"],
        ["mine", "--table", "t", "--questions", "q", "--margin", "2"],
    ],
)
def test_a_number_out_of_range_is_wrong_usage(arguments, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cli.run(arguments) == 2
    assert capsys.readouterr().out == ""
    assert not list(tmp_path.iterdir())


def test_an_encoder_that_was_named_is_never_replaced_by_bm25(run, library):
    code, out, err = run("search", library, "river", "--encoder", "no/such folder")
    assert (code, out) == (1, "")
    assert "all-MiniLM-L6-v2" in err
