# ruff: noqa: ANN401 - rooms of the trainer are imported by name, on demand
"""Examples a second beside sentence-transformers' trainer, and the memory of a large batch."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from benchmarks import data, results
from benchmarks.train_parts import (
    LAYERS,
    MAX_TOKENS,
    SEED,
    examples_of,
    place_of,
    room,
    shallow_checkpoint,
    spread,
)

# Speed beside sentence-transformers

SPEED_STEPS = 8
SPEED_BATCH = 32
SPEED_ROUNDS = 3

Times: TypeAlias = tuple[float, float]
"""Seconds by the clock, and of CPU time."""


def run_speed(_: argparse.Namespace) -> dict[str, Any]:
    """Examples a second of ours in fp32 and as it comes, and of the peer with its defaults, interleaved."""
    train = examples_of(data.read("squad", "train"))
    order = np.random.default_rng(SEED).permutation(len(train.rows))[: SPEED_STEPS * SPEED_BATCH]
    rows = tuple(train.rows[int(at)] for at in order)
    names = {identity for row in rows for identity in row.positives}
    part = replace(train, rows=rows, passages={name: train.passages[name] for name in names})
    contenders: dict[str, Callable[[int], Times]] = {
        "dpr_lance": lambda steps: _our_seconds(part, steps, "auto"),
        "dpr_lance fp32": lambda steps: _our_seconds(part, steps, "fp32"),
        "sentence-transformers": lambda steps: _peer_seconds(part, steps),
    }
    for contender in contenders.values():
        contender(1)
    times: dict[str, list[Times]] = {name: [] for name in contenders}
    tokens = _mean_tokens(part)
    record: dict[str, Any] = {}
    for _round in range(SPEED_ROUNDS):
        for name, contender in contenders.items():
            times[name].append(contender(SPEED_STEPS))
            print(name, times[name][-1], flush=True)
        record = {
            "batch": SPEED_BATCH,
            "steps": SPEED_STEPS,
            "seconds": {name: [wall for wall, _ in found] for name, found in times.items()},
            "cpu_seconds": {name: [cpu for _, cpu in found] for name, found in times.items()},
            "load": os.getloadavg()[0],
            "tokens": tokens,
        }
        results.write("train", "speed", record)  # what is whole is kept, if a later round is cut off
    return {name: [round(ratio, 2) for ratio in ratios] for name, ratios in _speed_ratios(record["seconds"]).items()}


def _our_seconds(part: Any, steps: int, compute: str) -> Times:
    """Tokenising included."""
    config, batches = room("config"), room("batches")
    model = room("dual_encoder").DualEncoder(room("checkpoints.starting_point").starting_checkpoint(None, None))
    recipe = config.Recipe(
        batch_size=SPEED_BATCH, hard_negatives=0, compute=compute, evaluate_every=steps, seed=SEED, learning_rate=5e-5
    )
    corpus = batches.make_corpus([part])
    wall, cpu = time.perf_counter(), time.process_time()
    room("loop").Loop(model, corpus, recipe, steps=steps).run(corpus)
    return time.perf_counter() - wall, time.process_time() - cpu


def _peer_seconds(part: Any, steps: int) -> Times:
    """From its first step on: what its trainer does before (a model card) would not grow with the run."""
    datasets: Any = importlib.import_module("datasets")
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from transformers import TrainerCallback

    model = SentenceTransformer(str(room("checkpoints.starting_point").source_folder()), device="cpu")
    passages = [part.passages[row.positives[0]] for row in part.rows]
    pairs = {
        "anchor": [row.question for row in part.rows],
        "positive": [f"{one.title} {one.text}".strip() for one in passages],
    }
    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=SPEED_BATCH,
            max_steps=steps,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            seed=SEED,
        )
        trainer = SentenceTransformerTrainer(
            model, arguments, train_dataset=datasets.Dataset.from_dict(pairs), loss=MultipleNegativesRankingLoss(model)
        )
        started: list[Times] = []

        class Clock(TrainerCallback):
            def on_step_begin(self, *_: object, **__: object) -> None:
                started.append((time.perf_counter(), time.process_time()))

        trainer.add_callback(Clock())
        trainer.train()
        return time.perf_counter() - started[0][0], time.process_time() - started[0][1]


def _mean_tokens(part: Any) -> float:
    model_room, loop, config = room("dual_encoder"), room("loop"), room("config")
    model = model_room.DualEncoder(room("checkpoints.starting_point").starting_checkpoint(None, None))
    texts = loop.token_texts(model, room("batches").make_corpus([part]), config.Recipe())
    return float(texts["passage"].lengths.mean())


def _speed_ratios(seconds: dict[str, list[float]]) -> dict[str, list[float]]:
    peer = seconds["sentence-transformers"]
    return {
        f"{name} / sentence-transformers": [theirs / ours for theirs, ours in zip(peer, values, strict=True)]
        for name, values in seconds.items()
        if name != "sentence-transformers"
    }


def speed_table(record: dict[str, Any]) -> str:
    examples = record["steps"] * record["batch"]
    rows = [
        [name, *(spread([examples / one for one in record[kind][name]], 1) for kind in ("seconds", "cpu_seconds"))]
        for name in record["seconds"]
    ]
    ratios = [_speed_ratios(record[kind]) for kind in ("seconds", "cpu_seconds")]
    compared = [[name, spread(ratios[0][name], 2), spread(ratios[1][name], 2), "≥ 1.3"] for name in ratios[0]]
    return "\n\n".join(
        [
            f"**Speed**: all-MiniLM-L6-v2 on the same {examples} pairs of squad (passages of {record['tokens']:.0f} "
            f"tokens on average, at most 256), batches of {record['batch']}, dropout on, tokenising included. The peer "
            "is its own trainer with MultipleNegativesRankingLoss and its defaults; interleaved, minimum / **median** "
            f"/ maximum of {len(next(iter(record['seconds'].values())))} rounds. dpr_lance computes in bf16 where the "
            f"processor has instructions for it. Load average {record['load']:.1f}. {place_of(record)}",
            results.table(["", "examples a second", "a CPU second"], rows),
            results.table(["ratio", "examples a second", "a CPU second", "aim"], compared),
        ]
    )


# Memory of a large batch

MEMORY_BATCH = 512


def run_memory(_: argparse.Namespace) -> dict[str, Any]:
    """Peak memory of a process that takes one step of 512 questions, with and without cached gradients."""
    found = {}
    for name, above in (("loaded", -1), ("whole batch", 1 << 40), ("cached gradients", 0)):
        code = f"from benchmarks.train_speed import memory_step; memory_step({above})"
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
        print(name, found[name], flush=True)
    record = {"batch": MEMORY_BATCH, "max_tokens": MAX_TOKENS, "layers": LAYERS, "processes": found}
    results.write("train", "memory", record)
    return {name: round(values["peak_mib"]) for name, values in found.items()}


def memory_step(above: int) -> None:
    """Take one step with gradients cached above so many tokens (no step below 0), and print peak memory and time."""
    config, batches = room("config"), room("batches")
    train = examples_of(data.read("squad", "train"))
    model = room("dual_encoder").DualEncoder(
        room("checkpoints.description").read_checkpoint(
            room("checkpoints.locate").locate(shallow_checkpoint(LAYERS)),
            room("checkpoints.overrides").Overrides(title_style="joined", zero_token_types=True),
        )
    )
    corpus = batches.make_corpus([replace(train, rows=train.rows[:: len(train.rows) // 4000])])
    recipe = config.Recipe(
        batch_size=MEMORY_BATCH,
        hard_negatives=0,
        passage_tokens=MAX_TOKENS,
        cache_above_tokens=max(0, above),
        compute="fp32",
    )
    loop = room("loop").Loop(model, corpus, recipe, steps=1)
    started = time.perf_counter()
    if above >= 0:
        loop.run(corpus)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"peak_mib": peak, "seconds": seconds}))


def memory_table(record: dict[str, Any]) -> str:
    loaded = record["processes"]["loaded"]["peak_mib"]
    rows = [
        [name, f"{values['peak_mib']:,.0f}", "" if name == "loaded" else f"{values['peak_mib'] - loaded:,.0f}"]
        for name, values in record["processes"].items()
    ]
    return "\n\n".join(
        [
            f"**Memory**: one step of {record['batch']} questions and their passages of up to {record['max_tokens']} "
            f"tokens through {record['layers']} layers of MiniLM in fp32; a process each. {place_of(record)}",
            results.table(["", "peak MiB", "beyond the loaded model and data"], rows),
        ]
    )
