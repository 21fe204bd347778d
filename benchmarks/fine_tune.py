# ruff: noqa: ANN401 - modules of the trainer are imported by name, on demand
"""An encoder fine-tuned on a set's train questions, through a table."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data, results
from benchmarks.data import QuestionSet
from benchmarks.summaries import accuracies, gain, ranks_of
from benchmarks.train_parts import CACHE, KS, trainer_module
from dpr_lance.encoders.loading import DEFAULT_ENCODER

SHOWN_SETTINGS = ("epochs", "batch_size", "hard_negatives", "learning_rate", "passage_tokens")
CALIBRATED_ON = 500
"""Train questions, without their labels."""

Ranks = dict[str, list[int]]
"""Rank of each question's first labelled passage among 100 hits, 0 for none, by mode."""


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Every step is kept, so that an interrupted measurement goes on."""
    import dpr_lance

    config, journal = trainer_module("config"), trainer_module("log")
    train = data.read(options.set, "train")
    dev = data.read(options.set, "dev")
    whole = replace(dev, questions=(*dev.questions, *train.questions)).smaller(options.passages or len(dev.passages))
    place = CACHE / f"fine-tune-{options.set}-{len(whole.passages)}"
    place.mkdir(parents=True, exist_ok=True)
    rate = {} if options.learning_rate is None else {"learning_rate": options.learning_rate}
    recipe = config.Recipe(epochs=options.epochs, passage_tokens=options.tokens, evaluate_every=100, **rate)
    name = f"tuned-{recipe.epochs:g}-{recipe.learning_rate:g}"
    table, bundle, work = place / "table.lance", place / name, place / f"{name}-training"
    if not (place / "before.json").is_file():
        with dpr_lance.connect(table) as retriever:
            retriever.add((passage.document for passage in whole.passages), splitter=None)
            _keep(place / "before.json", _table_ranks(retriever, dev, ("bm25", "dense", "hybrid")))
    if not bundle.exists():
        # Checkpoints are chosen by held-out train questions: the dev ones measure, and nothing else.
        questions = place / "train.jsonl"
        lines = [json.dumps({"question": one.text, "positives": sorted(one.gold)}) for one in train.questions]
        questions.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        run = config.Run(
            out=str(bundle),
            questions=(str(questions),),
            table=str(table),
            encoder=DEFAULT_ENCODER,
            recipe=recipe,
            validation_passages=500,
        )
        trainer_module("training").train(run, say=lambda line: print(line, flush=True))
    if not (place / f"{name}.json").is_file():
        with dpr_lance.connect(table) as retriever:
            retriever.reembed(bundle)
            _keep(place / f"{name}.json", _table_ranks(retriever, dev, ("dense", "hybrid")))
    if not (place / f"{name}-calibrated.json").is_file():
        with dpr_lance.connect(table, encoder=str(bundle)) as retriever:
            asked = np.linspace(0, len(train.questions) - 1, CALIBRATED_ON, dtype=np.int64)
            weight = retriever.calibrate([train.questions[at].text for at in asked.tolist()]).hybrid_weight
            calibrated = {"weight": weight} | _table_ranks(retriever, dev, ("hybrid",))
            _keep(place / f"{name}-calibrated.json", calibrated)
    steps = [record for record in journal.read_log(work / journal.LOG) if record["kind"] == "step"]
    kept = ("before", name, f"{name}-calibrated")
    before, after, calibrated = (json.loads((place / f"{which}.json").read_text()) for which in kept)
    values = {
        "set": options.set,
        "passages": len(whole.passages),
        "of": len(dev.passages),
        "questions": len(dev.questions),
        "train_questions": len(train.questions),
        "recipe": {name: getattr(recipe, name) for name in SHOWN_SETTINGS},
        "steps": len(steps),
        "seconds": sum(step["seconds"] for step in steps),
        **compared(before, after, calibrated),
    }
    results.write("train", f"fine-tune-{options.set}", values)
    return {"fine_tune_dense_top5_gain": values["differences"]["dense, fine-tuned − dense, default"][1]}


def compared(before: Ranks, after: Ranks, calibrated: dict[str, Any]) -> dict[str, Any]:
    """What is kept of the ranks: accuracies, and paired differences at each k."""
    rows = {"bm25": before["bm25"]}
    rows |= {f"{mode}, default": before[mode] for mode in ("dense", "hybrid")}
    rows |= {f"{mode}, fine-tuned": after[mode] for mode in ("dense", "hybrid")}
    rows["hybrid, fine-tuned, calibrated"] = calibrated["hybrid"]
    pairs = (
        ("dense, fine-tuned", "dense, default"),
        ("hybrid, fine-tuned", "hybrid, default"),
        ("hybrid, fine-tuned, calibrated", "dense, fine-tuned"),
    )
    return {
        "weight": calibrated["weight"],
        "accuracy": {name: accuracies(ranks, KS) for name, ranks in rows.items()},
        "differences": {
            f"{first} − {second}": [gain(rows[first], rows[second], k) for k in KS] for first, second in pairs
        },
    }


def _keep(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values), encoding="utf-8")


def _table_ranks(retriever: Any, found: QuestionSet, modes: Sequence[str]) -> Ranks:
    """The rank of each question's first labelled passage among 100 hits, 0 for none, by mode."""
    ranks = {}
    for mode in modes:
        hits = retriever.search([question.text for question in found.questions], 100, mode=mode)
        ranks[mode] = ranks_of(hits, found.questions)
    return ranks
