"""The demo: the docstrings of Python's standard library, each once, in the same order, and questions answered."""

import json
import subprocess
import sys
import warnings

import pytest

from dpr_lance import Document
from dpr_lance.cli import app as cli
from dpr_lance.cli import demo
from dpr_lance.cli.demo import MODULES, QUESTIONS, standard_library

FEW = ("gzip", "shutil", "random", "getpass", "subprocess", "os", "os.path", "json", "asyncio", "builtins")


@pytest.fixture(scope="module")
def corpus():
    return standard_library(FEW)


@pytest.fixture(scope="module")
def by_id(corpus):
    return {document.id: document for document in corpus.documents}


def test_modules_classes_functions_methods_and_properties_are_documents(by_id):
    import gzip

    kinds = {
        name: by_id[name].metadata["kind"] for name in ("gzip", "gzip.open", "gzip.GzipFile", "gzip.GzipFile.mtime")
    }
    assert kinds == {
        "gzip": "module",
        "gzip.open": "function",
        "gzip.GzipFile": "class",
        "gzip.GzipFile.mtime": "property",
    }
    assert by_id["shutil.rmtree"].metadata["module"] == "shutil"
    assert by_id["asyncio.Queue.put"].metadata["kind"] == "method"
    assert by_id["gzip.open"] == Document(
        by_id["gzip.open"].text,
        title="gzip.open",
        id="gzip.open",
        metadata={"kind": "function", "module": "gzip", "line": gzip.open.__code__.co_firstlineno},
    )
    assert by_id["gzip.open"].text.startswith("Open a gzip-compressed file in binary or text mode.\n\nThe filename")


def test_objects_are_named_as_people_know_them(by_id):
    assert {
        "os.listdir",
        "os.path.join",
        "json.JSONEncoder",
        "asyncio.run",
        "random.choice",
        "str.split",
        "len",
    } <= set(by_id)
    assert not [name for name in by_id if name.startswith(("posix", "genericpath", "builtins.", "asyncio.runners"))]


def test_nothing_is_listed_twice(corpus, by_id):
    assert len(by_id) == len(corpus.documents)
    assert "random.choice" in by_id
    assert "random.Random.choice" not in by_id  # the same function
    assert "shutil.fnmatch" not in by_id  # imported there from elsewhere
    assert "subprocess.threading" not in by_id


def test_private_names_and_empty_docstrings_are_left_out(corpus):
    assert not [document.id for document in corpus.documents if "._" in document.id]
    assert all(len(document.text.split()) >= 3 for document in corpus.documents)


def test_the_order_and_the_texts_are_the_same_in_another_process(corpus):
    code = (
        "import sys; from dpr_lance.cli.demo import standard_library\n"
        "for document in standard_library(sys.argv[1:]).documents: print(repr(document))"
    )
    command = [sys.executable, "-c", code, *reversed(FEW)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"})
    assert done.stdout.splitlines() == [repr(document) for document in corpus.documents]


def test_a_module_that_is_not_here_is_listed():
    corpus = standard_library(("json", "no_such_module"))
    assert (corpus.modules, corpus.left_out) == (("json",), ("no_such_module",))


def test_importing_is_silent(capfd):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        standard_library(("imp", "cgi", "asyncore", "json"))
    assert not caught
    assert capfd.readouterr() == ("", "")


def test_the_chosen_modules_are_here_and_few_enough_for_two_minutes():
    corpus = standard_library(MODULES)
    assert corpus.left_out == ()
    words = sum(len(document.text.split()) for document in corpus.documents)
    assert 3_000 < len(corpus.documents) < 5_000
    assert words < 200_000


def test_all_takes_what_imports_safely_and_contains_the_chosen_ones():
    code = (
        "import sys; from dpr_lance.cli.demo import standard_library\n"
        "corpus = standard_library()\n"
        "print(len(corpus.documents), *corpus.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()
    count, *modules = line.split()
    assert int(count) > 5_000
    assert set(MODULES) <= set(modules)
    assert not {"antigravity", "this", "idlelib", "test", "tkinter", "turtle"} & set(modules)
    assert not [name for name in modules if name.endswith("__main__")]


def test_the_command_indexes_answers_and_adds_nothing_the_second_time(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "MODULES", ("gzip", "shutil", "random", "getpass"))
    arguments = ["demo", "--path", str(tmp_path / "demo folder")]
    assert cli.run(arguments) == 0
    out, err = capsys.readouterr()
    for question in QUESTIONS:
        assert f"{question}  (hybrid: score = bm25 + " in out
    assert "gzip.open" in out
    assert "documents were added to" in err
    assert f"dpr-lance search '{tmp_path}/demo folder' " in err
    assert cli.run([*arguments, "--json", "choose a random element", "read a compressed file"]) == 0
    report, *found = map(json.loads, capsys.readouterr().out.splitlines())
    assert (report["documents_added"], report["passages_embedded"]) == (0, 0)
    assert report["documents_unchanged"] > 50
    assert [hits["question"] for hits in found] == ["choose a random element", "read a compressed file"]
    assert found[0]["hits"][0]["document_id"] == "random.choice"
    assert cli.run(arguments) == 0
    assert "nothing to add: all " in capsys.readouterr().err
