"""Plots of an evaluation; those of a calibration are tested with it."""

import sys

import pytest

import dpr_lance
from dpr_lance.errors import InvalidInputError
from dpr_lance.evaluation.evaluate import evaluate
from dpr_lance.evaluation.plot import plot_accuracy
from tests.evaluation.questions import QUESTIONS


def test_a_picture(filled, tmp_path):
    pytest.importorskip("matplotlib")
    found = evaluate(filled, QUESTIONS, modes=["bm25"])
    plot_accuracy(found, tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InvalidInputError, match=r"p\.docx: plots are written as .*\.png"):
        plot_accuracy(found, tmp_path / "p.docx")


def test_without_the_extra_it_is_said_what_to_install(filled, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(dpr_lance.MissingExtraError, match=r"a plot needs packages.*dpr-lance\[eval\]"):
        plot_accuracy(evaluate(filled, QUESTIONS, modes=["bm25"]), tmp_path / "p.png")
