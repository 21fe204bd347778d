"""How results are kept: compact, by part, from committed code only; and how the command line treats them."""

import argparse
import json

import pytest

from benchmarks import __main__ as runner
from benchmarks import machine, results
from benchmarks.__main__ import CASES, FORMS
from benchmarks.render import headlines, markdown, tables


@pytest.fixture
def committed(monkeypatch):
    """Code as it was committed, and a change of it."""
    state = {"now": ("abc", False)}
    monkeypatch.setattr(machine, "commit_state", lambda: state["now"])
    return state


@pytest.fixture
def places(tmp_path, monkeypatch, committed):
    """Both places of results in an empty folder, and one case that keeps the size that it is given."""

    class Case:
        """A case."""

        @staticmethod
        def add_options(parser):
            parser.add_argument("size", type=int)

        @staticmethod
        def run(options):
            results.write("sizes", "", {"size": options.size})
            return {"size": options.size}

    monkeypatch.setattr(results, "TRACKED", tmp_path / "tracked")
    monkeypatch.setattr(results, "QUICK", tmp_path / "quick")
    monkeypatch.setattr(tables, "PAGE", tmp_path / "README.md")
    marks = ("versions", "sizes")
    tables.PAGE.write_text("\n".join(f"<!-- {mark} --><!-- end of {mark} -->" for mark in marks), encoding="utf-8")
    for page in ("README", "MEASURED"):
        monkeypatch.setattr(headlines, page, tmp_path / "nowhere.md")
    monkeypatch.setattr(headlines, "blocks", dict)
    monkeypatch.setattr(runner, "CASES", {"sizes": Case})
    monkeypatch.setattr(runner, "FORMS", {"quick": {"sizes": ["3"]}, "long": {"sizes": ["9000"]}})
    monkeypatch.setattr(tables, "TABLES", {"sizes": lambda parts: [f"size {parts['']['size']}"]})
    return tmp_path


def sizes(folder):
    with results.within(folder):
        return {name: part["size"] for name, part in results.read("sizes").items()}


def test_a_part_replaces_its_earlier_result_and_leaves_the_others(places):
    results.write("sizes", "b", {"size": 1, "share": 1 / 3, "spread": [2 / 3, {"of": 1e-7 / 3}]})
    results.write("sizes", "a", {"size": 2})
    results.write("sizes", "a", {"size": 3})
    assert sizes(results.TRACKED) == {"a": 3, "b": 1}
    found = results.read("sizes")["b"]
    assert (found["share"], found["spread"]) == (0.333333, [0.666667, {"of": 3.33333e-08}])
    assert found["origin"]["commit"] == "abc"
    assert found["origin"]["versions"].startswith("Python 3")
    assert len((places / "tracked" / "sizes.json").read_text().splitlines()) == 12  # a field a line


def test_changed_code_writes_no_tracked_result(places, committed, capsys):
    committed["now"] = ("abc", True)
    with pytest.raises(results.UncommittedError, match="differs from commit abc: commit it first"):
        results.write("sizes", "", {"size": 1})
    assert runner.main(["sizes", "500"]) == 1  # and says so before it measures
    assert "commit it first" in capsys.readouterr().err
    assert not (places / "tracked").exists()
    assert runner.main(["quick"]) == 0
    assert sizes(results.QUICK) == {"": 3}


def test_the_quick_form_does_not_replace_a_larger_result(places, capsys):
    assert runner.main(["sizes", "500"]) == 0
    assert runner.main([]) == 0
    assert "size 500" in tables.PAGE.read_text(encoding="utf-8")
    assert (sizes(results.TRACKED), sizes(results.QUICK)) == ({"": 500}, {"": 3})
    shown = capsys.readouterr()
    assert "size 3" in shown.err
    assert shown.out.splitlines()[-1] == '{"sizes": {"size": 3}}'
    assert runner.main(["long"]) == 0
    assert "size 9000" in tables.PAGE.read_text(encoding="utf-8")


def test_a_form_of_an_unknown_case_is_refused(places, capsys):
    with pytest.raises(SystemExit):
        runner.main(["quick", "speed"])
    assert "unknown case 'speed'; known: sizes" in capsys.readouterr().err


@pytest.mark.parametrize("form", FORMS)
def test_the_forms_name_options_that_there_are(form):
    for name, chosen in FORMS[form].items():
        parser = argparse.ArgumentParser(exit_on_error=False)
        CASES[name].add_options(parser)
        options = parser.parse_args(chosen)
        if hasattr(CASES[name], "PARTS"):
            assert set(options.parts) <= set(CASES[name].PARTS)


def test_a_block_replaces_the_one_before_and_leaves_the_rest(tmp_path):
    page = tmp_path / "README.md"
    page.write_text("a\n<!-- one -->\nold\n<!-- end of one -->\nb\n", encoding="utf-8")
    for _ in range(2):
        markdown.put_between_marks("one", r"new \1", page)
    assert page.read_text(encoding="utf-8") == "a\n<!-- one -->\nnew \\1\n<!-- end of one -->\nb\n"
    with pytest.raises(ValueError, match="<!-- two -->"):
        markdown.put_between_marks("two", "new", page)


def test_an_origin_says_what_code_was_measured(committed):
    origin = machine.origin()
    assert markdown.source(origin) == "abc"
    assert markdown.source(origin | {"dirty": True, "note": "before 0.2"}) == "abc*, before 0.2"
    other = origin | {"machine": "another machine", "commit": "def"}
    assert markdown.where([{"origin": origin}, {"origin": other}]) == (
        f"Measured on {origin['machine']} (commit abc) and on another machine (commit def)."
    )


@pytest.mark.parametrize("path", sorted(results.TRACKED.glob("*.json")), ids=lambda path: path.stem)
def test_a_tracked_result_is_small_and_names_its_origin(path):
    assert path.stat().st_size < 10_000
    assert path.stem in tables.TABLES
    for part in json.loads(path.read_text(encoding="utf-8")).values():
        assert {"commit", "dirty", "date", "machine", "versions", "load"} <= part["origin"].keys()
