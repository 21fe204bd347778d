"""The language of a table on the command line."""

import json

from dpr_lance.cli import app as cli


def test_add_takes_the_language_of_a_new_table(tmp_path, capsys):
    """Its snippets are marked in that language."""
    source = tmp_path / "a.jsonl"
    source.write_text(json.dumps({"id": "oak", "text": "Eine Eiche steht dort."}))
    place = str(tmp_path / "t")
    assert cli.run(["add", place, str(source), "--language", "german"]) == 0
    assert "the packaged encoder reads English" in capsys.readouterr().err
    assert cli.run(["info", place, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["language"] == "german"
    assert cli.run(["search", place, "welche Eichen", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mode"] == "bm25"
    assert cli.run(["add", place, str(source), "--language", "french"]) == 1
    assert "was created with language='german'" in capsys.readouterr().err
    assert cli.run(["add", place, str(source), "--language", "klingon"]) == 2
    assert "'multilingual'" in capsys.readouterr().err
