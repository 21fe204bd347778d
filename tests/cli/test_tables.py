"""The commands about whole tables: `tables`, `adopt`, `drop` and snapshots."""

import json
import subprocess
import sys

import lancedb
import pytest

from dpr_lance import HashEncoder, __version__, connect, load_encoder
from dpr_lance.cli import app


@pytest.fixture
def run(capsys):
    def run_command(*arguments):
        code = app.run(list(map(str, arguments)))
        return code, *capsys.readouterr()

    return run_command


@pytest.fixture
def folder(tmp_path):
    for name in ("passages", "other"):
        with connect(tmp_path / "lib", encoder=HashEncoder(16), table=name) as retriever:
            retriever.add([{"id": "a", "text": "a river"}])
    return tmp_path / "lib"


def test_tables_and_drop(run, folder):
    assert run("tables", folder) == (0, "other\npassages\n", "")
    code, _, err = run("drop", folder)
    assert code == 2
    assert "confirm with --yes" in err
    assert json.loads(run("drop", folder, "--table", "other", "--yes", "--json")[1]) == {"dropped": "other"}
    assert json.loads(run("tables", folder, "--json")[1]) == {"tables": ["passages"]}
    code, _, err = run("drop", folder, "--table", "other", "--yes")
    assert (code, "does not exist: `dpr-lance tables` lists" in err) == (1, True)


def test_dump_and_add(run, folder, tmp_path):
    path = tmp_path / "dump.parquet"
    assert json.loads(run("dump", folder, path, "--json")[1]) == {"passages": 1, "file": str(path)}
    code, _, err = run("dump", folder, path)
    assert (code, "the file exists; pass --overwrite" in err) == (1, True)
    assert run("dump", folder, path, "--overwrite")[0] == 0
    copy = tmp_path / "copy"
    assert json.loads(run("add", copy, path, "--json")[1])["passages_added"] == 1
    assert json.loads(run("info", copy, "--json")[1])["embedded"] == 1
    (tmp_path / "other.jsonl").write_text('{"text": "x"}')
    code, _, err = run("add", copy, path, tmp_path / "other.jsonl")
    assert (code, "add it alone" in err) == (2, True)
    assert run("add", copy, path, "--whole")[0] == 1


def test_the_module_is_the_command_line():
    command = [sys.executable, "-m", "dpr_lance", "--version"]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    assert found.stdout == f"dpr-lance {__version__}\n"


def test_adopt(run, tmp_path):
    vector = load_encoder("all-MiniLM-L6-v2").encode_passages([("", "a river")])[0].tolist()
    table = lancedb.connect(tmp_path).create_table("notes", [{"key": "a", "body": "a river", "vector": vector}])
    code, out, err = run("adopt", tmp_path, "--table", "notes", "--id", "key", "--text", "body", "--json")
    assert (code, "does not say what made its vectors" in err) == (1, True)
    named = ("--id", "key", "--text", "body", "--encoder", "all-MiniLM-L6-v2")
    code, out, err = run("adopt", tmp_path, "--table", "notes", *named, "--json")
    assert (code, json.loads(out)["passages"]) == (0, 1)
    assert run("search", tmp_path, "river", "--table", "notes")[0] == 0
    assert run("check", tmp_path, "--table", "notes")[0] == 0
    table.checkout_latest()
    table.add([{"id": "b#0", "text": "a bridge"}])
    assert "incomplete, until embed or optimize" in run("info", tmp_path, "--table", "notes")[1]


def test_snapshots(run, folder):
    code, out, err = run("snapshot", folder, "before", "--json")
    assert (code, err) == (0, "")
    taken = json.loads(out)
    assert (taken["name"], taken["passages"]) == ("before", 1)
    run("delete", folder, "a")
    assert json.loads(run("snapshots", folder, "--json")[1]) == taken
    lines = run("snapshots", folder)[1].splitlines()
    assert (lines[0].split(), lines[1].split()[:2]) == (["snapshot", "passages", "created", "version"], ["before", "1"])
    assert "passages   1\n" in run("restore", folder, "before")[1]
    assert json.loads(run("info", folder, "--json")[1])["passages"] == 1
    assert run("snapshot", folder, "before")[0] == 1
    assert run("snapshot", folder, "before", "--delete")[0] == 0
    assert run("snapshots", folder) == (0, "", "")
    code, _, err = run("restore", folder, "before")
    assert (code, "has no snapshot of this name" in err) == (1, True)
