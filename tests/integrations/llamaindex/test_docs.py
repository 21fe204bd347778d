"""The page on LlamaIndex is true."""

from tests.pages import run_python


def test_the_python_of_the_page_runs_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_python("llamaindex.md")
