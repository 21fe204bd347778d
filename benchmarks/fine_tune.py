# ruff: noqa: ANN401 - rooms of the trainer are imported by name, on demand
"""An encoder fine-tuned on a set's train questions, through a table."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data, results
from benchmarks.data import QuestionSet
from benchmarks.train_parts import (
    CACHE,
    KS,
    accuracies,
    gain,
    place_of,
    room,
)
from dpr_lance.encoders.loading import DEFAULT_ENCODER
from dpr_lance.evaluation.metrics import hits_within

CALIBRATED_ON = 500
"""Train questions, without their labels."""


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Every step is kept, so that an interrupted measurement goes on."""
    import dpr_lance

    config, journal = room("config"), room("log")
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
            documents = ({"id": one.id, "title": one.title, "text": one.text} for one in whole.passages)
            retriever.add(documents, splitter=None)
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
        room("training").train(run, say=lambda line: print(line, flush=True))
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
    kept = (json.loads((place / f"{which}.json").read_text()) for which in ("before", name, f"{name}-calibrated"))
    before, after, calibrated = kept
    record = {
        "set": options.set,
        "passages": len(whole.passages),
        "of": len(dev.passages),
        "questions": len(dev.questions),
        "train_questions": len(train.questions),
        "recipe": dataclasses.asdict(recipe),
        "steps": len(steps),
        "seconds": sum(record["seconds"] for record in steps),
        "before": before,
        "after": after,
        "calibrated": calibrated,
    }
    results.write("train", f"fine-tune-{options.set}", record)
    return {"fine_tune_dense_top5_gain": gain(after["dense"], before["dense"], 5)}


def _keep(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values), encoding="utf-8")


def _table_ranks(retriever: Any, found: QuestionSet, modes: Sequence[str]) -> dict[str, list[int]]:
    """The rank of each question's first labelled passage among 100 hits, 0 for none, by mode."""
    ranks = {}
    for mode in modes:
        hits = retriever.search([question.text for question in found.questions], 100, mode=mode)
        ranks[mode] = [
            next((hit.rank for hit in one if hit.document_id in question.gold), 0)
            for question, one in zip(found.questions, hits, strict=True)
        ]
    return ranks


def table(record: dict[str, Any]) -> str:
    before, after, recipe = record["before"], record["after"], record["recipe"]
    rows = [
        [mode if mode == "bm25" else f"{mode}, default encoder", *accuracies(ranks)] for mode, ranks in before.items()
    ]
    rows += [[f"{mode}, fine-tuned", *accuracies(ranks)] for mode, ranks in after.items()]
    calibrated = record["calibrated"]
    rows.append([f"hybrid, fine-tuned, λ = {calibrated['weight']:.3g}", *accuracies(calibrated["hybrid"])])
    compared = {
        "dense, fine-tuned − dense, default": (after["dense"], before["dense"]),
        "hybrid, fine-tuned − hybrid, default": (after["hybrid"], before["hybrid"]),
        "hybrid − dense, both fine-tuned": (after["hybrid"], after["dense"]),
        "hybrid, fine-tuned − bm25": (after["hybrid"], before["bm25"]),
        f"hybrid, λ = {calibrated['weight']:.3g} − dense, both fine-tuned": (calibrated["hybrid"], after["dense"]),
    }
    differences = [[name, *(gain(first, second, k) for k in KS)] for name, (first, second) in compared.items()]
    passages = f"all {record['of']:,} passages"
    if record["passages"] < record["of"]:
        passages = f"{record['passages']:,} of {record['of']:,} passages (those labelled, and the first others)"
    epochs = f"{recipe['epochs']:g} epoch{'s' * (recipe['epochs'] != 1)}"
    return "\n\n".join(
        [
            f"**Fine-tuning on {record['set']}**: all-MiniLM-L6-v2 on {record['train_questions']:,} train questions "
            f"({epochs}, batches of {recipe['batch_size']}, {recipe['hard_negatives']} BM25 "
            f"negative, learning rate {recipe['learning_rate']:g}, passages cut to {recipe['passage_tokens']} tokens "
            f"while training; {record['steps']} steps in {record['seconds'] / 60:.1f} min on one busy core; the "
            "checkpoint chosen by held-out train questions), int8 bundle through `reembed`, "
            f"{record['questions']:,} dev questions over {passages}. λ is the default encoder's, in the last row that "
            f"which `calibrate` gives for {CALIBRATED_ON} train questions without their labels. {place_of(record)}",
            results.table(["", *(f"top-{k}" for k in KS)], rows),
            results.table(
                ["difference, paired (aim: ≥ 5 in the first row's top-5)", *(f"top-{k}" for k in KS)], differences
            ),
        ]
    )


def summary(record: dict[str, Any]) -> str:
    """What the main README says of it."""

    def shares(ranks: Sequence[int]) -> str:
        return " / ".join(f"{100 * hits_within(ranks, k).mean():.1f}" for k in (1, 5))

    before, after = record["before"], record["after"]
    return (
        f"On {record['set']}, with {record['train_questions']:,} train questions and {record['steps']} steps in "
        f"{record['seconds'] / 60:.0f} minutes of one busy core, top-1 / top-5 accuracy rose from "
        f"{shares(before['dense'])} to {shares(after['dense'])} % (dense) and from {shares(before['hybrid'])} to "
        f"{shares(after['hybrid'])} % (hybrid; {shares(record['calibrated']['hybrid'])} % with λ calibrated on train "
        f"questions without their labels; BM25: {shares(before['bm25'])} %), on {record['questions']:,} dev questions "
        f"over {record['passages']:,} passages."
    )
