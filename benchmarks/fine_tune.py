# ruff: noqa: ANN401 - rooms of the trainer are imported by name, on demand
"""An encoder fine-tuned on a set's train questions, through a table."""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import data, results
from benchmarks.data import QuestionSet
from benchmarks.train_parts import (
    CACHE,
    KS,
    accuracies,
    examples_of,
    place_of,
    room,
)
from dpr_lance.metrics import hits_within, paired_test


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Every step is kept, so that an interrupted measurement goes on."""
    import dpr_lance

    config = room("config")
    dev = data.read(options.set, "dev")
    place = CACHE / f"fine-tune-{options.set}"
    place.mkdir(parents=True, exist_ok=True)
    table, bundle = place / "table.lance", place / "tuned"
    recipe = config.Recipe(learning_rate=options.learning_rate, epochs=options.epochs, hard_negatives=1)
    with dpr_lance.connect(table) as retriever:
        retriever.add(({"id": one.id, "title": one.title, "text": one.text} for one in dev.passages), splitter=None)
        before = _kept(place / "before.json", lambda: _table_ranks(retriever, dev, ("bm25", "dense", "hybrid")))
    started = time.perf_counter()
    if not bundle.exists():
        # Checkpoints are chosen by held-out train questions: the dev ones measure, and nothing else.
        questions = place / "train.jsonl"
        rows = examples_of(replace(dev, split="train")).rows
        lines = [json.dumps({"question": row.question, "positives": row.positives}) for row in rows]
        questions.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        run = config.Run(out=str(bundle), questions=(str(questions),), table=str(table), recipe=recipe)
        report = room("training").train(run, say=lambda line: print(line, flush=True))
        (place / "seconds.json").write_text(json.dumps([report.steps, time.perf_counter() - started]))
    with dpr_lance.connect(table) as retriever:
        retriever.reembed(bundle)
        after = _kept(place / "after.json", lambda: _table_ranks(retriever, dev, ("dense", "hybrid")))
        card = retriever.info().encoder
    steps, seconds = json.loads((place / "seconds.json").read_text())
    record = {
        "set": options.set,
        "passages": len(dev.passages),
        "questions": len(dev.questions),
        "train_questions": len(examples_of(replace(dev, split="train")).rows),
        "recipe": dataclasses.asdict(recipe),
        "steps": steps,
        "seconds": seconds,
        "before": before,
        "after": after,
        "encoder": dataclasses.asdict(card) if card else None,
    }
    results.write("train", "fine-tune", record)
    gain = paired_test(hits_within(after["dense"], 5), hits_within(before["dense"], 5)).difference
    return {"fine_tune_dense_top5_gain": round(100 * gain.mean, 1)}


def _kept(path: Path, measure: Callable[[], dict[str, list[int]]]) -> dict[str, list[int]]:
    if not path.is_file():
        path.write_text(json.dumps(measure()))
    found: dict[str, list[int]] = json.loads(path.read_text())
    return found


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
    rows = [[f"{mode}, default encoder", *accuracies(ranks)] for mode, ranks in record["before"].items()]
    rows += [[f"{mode}, fine-tuned", *accuracies(ranks)] for mode, ranks in record["after"].items()]
    gain = paired_test(hits_within(record["after"]["dense"], 5), hits_within(record["before"]["dense"], 5)).difference
    recipe = record["recipe"]
    return "\n\n".join(
        [
            f"**Fine-tuning on {record['set']}**: all-MiniLM-L6-v2 on {record['train_questions']:,} train questions "
            f"({recipe['epochs']:g} passes, batches of {recipe['batch_size']}, {recipe['hard_negatives']} BM25 "
            f"negative, learning rate {recipe['learning_rate']:g}, {record['steps']} steps; "
            f"{record['seconds'] / 60:.0f} min with mining, validation and export on a busy machine), int8 bundle, "
            f"{record['questions']:,} dev questions over all {record['passages']:,} passages of the table. "
            f"{place_of(record)}",
            results.table(["", *(f"top-{k}" for k in KS)], rows),
            f"Dense top-5 {100 * gain.mean:+.1f} points ({100 * gain.low:+.1f} to {100 * gain.high:+.1f}; aim ≥ +5).",
        ]
    )
