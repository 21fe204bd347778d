"""From questions and a table to a reader's bundle: it learns on a real table, continues, and says what it gained."""

import json
from dataclasses import replace

import pytest
from dpr_lance.trainer.config import Mining
from dpr_lance.trainer.reader.config import ReaderRecipe, ReaderRun, make_reader_run
from dpr_lance.trainer.reader.training import train_reader

import dpr_lance
from dpr_lance.cli import app as cli
from dpr_lance.reader.loading import load_reader
from dpr_lance.reader.reranker import PassageText
from tests.trainer.checkpoints_made import plain
from tests.trainer.tiny_runs import TOKENS

THINGS = TOKENS[:14]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A table in which two passages have the word of each question; the answer is in the longer one."""
    folder = tmp_path_factory.mktemp("library")
    plain(folder / "tiny", "bert")
    documents = []
    for at, word in enumerate(THINGS):
        documents.append({"id": f"right-{at}", "text": f"{word} is {at} , the tower of question , what"})
        documents.append({"id": f"wrong-{at}", "text": f"{word} of {word}"})
    with dpr_lance.connect(folder / "table.lance", encoder=dpr_lance.HashEncoder()) as retriever:
        retriever.add(documents, splitter=None)
    rows = [
        {"question": f"{word} {word}", "answers": [str(at)], "labels": [f"right-{at}"]}
        for at, word in enumerate(THINGS)
    ]
    rows[3].pop("answers")
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def settings(library, out, **changes):
    recipe = ReaderRecipe(
        steps=40, batch_size=6, passages=3, learning_rate=3e-3, evaluate_every=20, compute="fp32", dropout=0.0,
        span_questions=2, title_dropout=0.2,
    )  # fmt: skip
    given = {
        "out": str(out),
        "questions": (str(library / "questions.jsonl"),),
        "dev": str(library / "questions.jsonl"),
        "table": str(library / "table.lance"),
        "base": str(library / "tiny"),
        "max_tokens": 64,
        "question_max_tokens": 16,
        "title_max_tokens": 8,
        "validation_questions": 4,
        "validation_passages": 6,
        "precision": "fp32",
        "recipe": recipe,
        "mining": Mining(depth=8),
    }
    return ReaderRun(**(given | changes))


def test_a_trained_reader_orders_better_and_finds_more_answers(library, tmp_path):
    said = []
    report = train_reader(settings(library, tmp_path / "mine"), say=said.append)
    searched, untrained, trained = report.accuracies[:3]
    assert (searched.name, untrained.name, trained.name) == ("hybrid search", "untrained reader", "trained reader")
    assert trained.top[1].mean > max(searched.top[1].mean, untrained.top[1].mean)
    assert searched.exact_match is None
    assert trained.exact_match > untrained.exact_match
    assert report.dev_questions == 4
    assert report.train_questions == 10
    assert any(line.startswith("trained reader: top-1 ") for line in said)
    work = tmp_path / "mine-training"
    assert {path.name for path in work.glob("*")} >= {"log.jsonl", "best.json", "report.json"}
    # The bundle is a reader like any other.
    reader = load_reader(tmp_path / "mine")
    assert reader.card == report.card
    assert reader.card.name == "mine"
    right, wrong = PassageText("", "paris is 0 , the tower of question , what"), PassageText("", "paris of paris")
    scores = reader.score("paris paris", [right, wrong])
    assert scores[0] > scores[1]
    # Asked again, it goes on where it was: nothing is left to do, and the bundle is the same.
    again = train_reader(settings(library, tmp_path / "mine", replace=True))
    assert (again.steps, again.card) == (report.steps, report.card)


def test_the_command_trains_from_a_reader_as_its_own_teacher(library, tmp_path, capsys):
    first = settings(library, tmp_path / "first")
    train_reader(replace(first, recipe=replace(first.recipe, steps=2)))
    table, questions = str(library / "table.lance"), str(library / "questions.jsonl")
    options = [
        "--base",
        str(tmp_path / "first-training" / "step-00000002" / "reader"),
        "--teacher",
        str(tmp_path / "first"),
    ]
    options += [
        "--layers",
        "0",
        "--span-layers",
        "1",
        "--steps",
        "2",
        "--batch-size",
        "4",
        "--passages",
        "3",
        "--max-tokens",
        "64",
    ]
    config = tmp_path / "small.toml"
    config.write_text("question_max_tokens = 16\ntitle_max_tokens = 8\nvalidation_questions = 4\n[mining]\ndepth = 8\n")
    out = tmp_path / "second"
    command = ["train-reader", table, questions, "--out", str(out), "--config", str(config), *options, "--json"]
    assert cli.run(command) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["card"]["name"] == "second"
    assert "trained reader: top-1 " in shown.err
    assert (tmp_path / "second-training" / "teacher-scores.jsonl").stat().st_size > 0
    assert cli.run([*command[:-1], "--layers", "one"]) == 2
    assert "layers='one'" in capsys.readouterr().err
    assert cli.run([*command[:-1], "--replace", "--layers", "7"]) == 1
    assert "layers=[7]: name some of the 2 layers" in capsys.readouterr().err


def test_settings_of_a_reader_are_checked(tmp_path):
    with pytest.raises(dpr_lance.InvalidInputError, match="name its folder"):
        make_reader_run(out="o", questions=("q",))
    with pytest.raises(dpr_lance.InvalidInputError, match="passages=1: at least 2"):
        make_reader_run(out="o", questions=("q",), table="t", passages=1)
    with pytest.raises(dpr_lance.InvalidInputError, match="nothing to learn"):
        ReaderRecipe(selection_weight=0, span_weight=0, kl_weight=0)
    run = make_reader_run(out="o", questions=("q",), table="t", passages=8, depth=10)
    assert (run.recipe.passages, run.mining.depth) == (8, 10)
