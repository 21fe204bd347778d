"""Every command that takes a table, at places where none can be opened: a message and an exit code, no traceback."""

import json

import pytest

from dpr_lance import HashEncoder, connect
from dpr_lance.cli import app as cli

COMMANDS = {
    "add": ["add", "{place}", "{text}", "--no-embed"],
    "embed": ["embed", "{place}"],
    "reembed": ["reembed", "{place}", "all-MiniLM-L6-v2"],
    "search": ["search", "{place}", "snow", "--mode", "bm25"],
    "info": ["info", "{place}"],
    "delete": ["delete", "{place}", "snow"],
    "optimize": ["optimize", "{place}"],
    "check": ["check", "{place}"],
    "eval": ["eval", "{place}", "{questions}", "--mode", "bm25"],
    "calibrate": ["calibrate", "{place}", "{questions}"],
    "import-vectors": ["import-vectors", "{place}", "{text}"],
}


def a_file(place):
    place.write_text("x")


def within_a_file(place):
    place.parent.write_text("x")


def a_bundle(place):
    place.mkdir()
    (place / "manifest.json").write_text("{")
    (place / "encoder.onnx").write_bytes(b"half")


def a_loop(place):
    place.symlink_to(place)


def a_table_that_is_empty(place):
    (place / "passages.lance").mkdir(parents=True)


def a_table_that_is_a_file(place):
    place.mkdir()
    (place / "passages.lance").write_text("x")


def a_damaged_table(place):
    with connect(place, encoder=HashEncoder(8)) as retriever:
        retriever.add([{"id": "snow", "text": "snow falls"}], embed=False)
    for manifest in (place / "passages.lance" / "_versions").iterdir():
        manifest.write_bytes(b"nonsense")


PLACES = {
    "missing": lambda place: None,
    "empty": lambda place: place.mkdir(),
    "a file": a_file,
    "within a file": within_a_file,
    "a damaged bundle": a_bundle,
    "a loop of links": a_loop,
    "an empty table": a_table_that_is_empty,
    "a file for a table": a_table_that_is_a_file,
    "a damaged table": a_damaged_table,
    "a name that is too long": None,
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_at_an_odd_place_ends_with_a_message(command, place, tmp_path, capsys):
    (tmp_path / "text.txt").write_text("text")
    (tmp_path / "questions.jsonl").write_text(json.dumps({"question": "snow", "answers": ["falls"]}))
    folder = tmp_path / "parent" / ("x" * 300 if PLACES[place] is None else "place")
    if place != "within a file":
        folder.parent.mkdir()
    if PLACES[place] is not None:
        PLACES[place](folder)
    names = {"place": folder, "text": tmp_path / "text.txt", "questions": tmp_path / "questions.jsonl"}
    code = cli.run([argument.format(**names) for argument in COMMANDS[command]] + ["--json"])
    out, err = capsys.readouterr()
    if place == "an empty table" or (command == "add" and place == "empty"):
        assert code in (0, 1)  # no version of it was ever committed: it holds nothing yet
        return
    if command == "add" and place == "missing":
        assert code == 0
        return
    assert code == 1
    assert out == ""
    assert json.loads(err)["error"]
