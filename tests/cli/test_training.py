"""From questions to a better table: `train`, `reembed`, `search`, on the documentation inside Python."""

import json

import pytest
from dpr_lance.trainer.bundles.export import export
from dpr_lance.trainer.config import Mining, Recipe, Run
from dpr_lance.trainer.training import train

import dpr_lance
from dpr_lance.cli import app as cli
from dpr_lance.cli.demo import standard_library
from tests.trainer.checkpoints_made import plain

MODULES = ("json", "shutil", "textwrap", "statistics", "heapq")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A table under an untrained encoder, and questions: what a function's title says, answered by its docstring."""
    folder = tmp_path_factory.mktemp("library")
    plain(folder / "tiny", "bert")
    export(folder / "tiny", folder / "untrained", precision="fp32", pooling="mean", normalise=True)
    documents = standard_library(MODULES).documents[:90]
    with dpr_lance.connect(folder / "docs.lance", encoder=folder / "untrained") as retriever:
        retriever.add([{"id": one.id, "text": one.text} for one in documents], splitter=None)
    rows = [{"question": " ".join(one.text.split()[:8]), "positives": [one.id]} for one in documents]
    questions = folder / "questions.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in {row["question"]: row for row in rows}.values()))
    return folder


def top_5(folder):
    rows = [json.loads(line) for line in (folder / "questions.jsonl").read_text().splitlines()]
    with dpr_lance.connect(folder / "docs.lance") as retriever:
        found = retriever.search([row["question"] for row in rows], 5, mode="dense")
    hits = [any(hit.document_id == row["positives"][0] for hit in one) for row, one in zip(rows, found, strict=True)]
    return sum(hits) / len(hits)


def settings(folder, *, replace=False):
    return Run(
        out=str(folder / "mine"),
        questions=(str(folder / "questions.jsonl"),),
        table=str(folder / "docs.lance"),
        encoder=str(folder / "tiny"),
        precision="fp32",
        rounds=1,
        validation_questions=12,
        validation_passages=60,
        recipe=Recipe(epochs=6, batch_size=16, learning_rate=2e-3, evaluate_every=10, passage_tokens=64),
        mining=Mining(depth=20),
        replace=replace,
    )


def test_a_trained_encoder_finds_more_than_the_untrained_one(library, capsys):
    before = top_5(library)
    # A checkpoint that names its pooling, as trained ones do.
    card = (library / "untrained" / "encoder.json").read_text()
    (library / "tiny" / "encoder.json").write_text(card)
    told = []
    report = train(settings(library), say=told.append)
    assert [(row.name, row.mode) for row in report.accuracies] == [
        ("untrained", "bm25"), ("untrained", "dense"), ("untrained", "hybrid"),
        ("trained", "dense"), ("trained", "hybrid"),
    ]  # fmt: skip
    assert report.card.name == "mine"
    assert report.dev_passages == 60
    work = library / "mine-training"
    assert {path.name for path in work.glob("*")} >= {"log.jsonl", "best.json", "report.json"}
    assert any(line.startswith("round 1: ") for line in told)
    # The serving vectors are as they were until they are changed on purpose.
    assert top_5(library) == before
    assert cli.run(["reembed", str(library / "docs.lance"), str(library / "mine")]) == 0
    assert top_5(library) > before
    # Asked again, it goes on where it was: nothing is left to do, and the bundle is the same.
    again = train(settings(library, replace=True))
    assert again.steps == report.steps
    assert again.card == report.card
    with pytest.raises(dpr_lance.InvalidInputError, match="exists: choose another place"):
        train(settings(library))


def test_the_commands_say_what_is_missing(library, capsys):
    assert cli.run(["train"]) == 2
    assert "--questions" in capsys.readouterr().err
    assert cli.run(["train", "--questions", "none.jsonl", "--out", str(library / "new")]) == 1
    assert "none.jsonl does not exist" in capsys.readouterr().err
    assert cli.run(["mine", "--table", str(library / "no.lance"), "--questions", "x.jsonl"]) == 1
    assert "has no table 'passages'" in capsys.readouterr().err


def test_mine_tells_what_each_filter_left_out(library, capsys):
    table, questions = str(library / "docs.lance"), str(library / "questions.jsonl")
    assert cli.run(["mine", "--table", table, "--questions", questions, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["table"] == "passages_negatives"
    assert report["dropped"]["positive"] > 0
    assert report["negatives"] > report["questions"]
