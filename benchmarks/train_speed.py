# ruff: noqa: ANN401 - modules of the trainer are imported by name, on demand
"""Examples a second next to sentence-transformers' trainer, and the memory of a large batch."""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from benchmarks import data, results
from benchmarks.peers.protocol import peak_mebibytes
from benchmarks.summaries import ratios, spread
from benchmarks.train_parts import LAYERS, MAX_TOKENS, SEED, examples_of, shallow_checkpoint, trainer_module

# Speed next to sentence-transformers

SPEED_STEPS = 8
SPEED_BATCH = 32
SPEED_ROUNDS = 3
PEER = "sentence-transformers"

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
        PEER: lambda steps: _peer_seconds(part, steps),
    }
    for contender in contenders.values():
        contender(1)
    times: dict[str, list[Times]] = {name: [] for name in contenders}
    tokens = _mean_tokens(part)
    for _round in range(SPEED_ROUNDS):
        for name, contender in contenders.items():
            times[name].append(contender(SPEED_STEPS))
            print(name, times[name][-1], flush=True)
    values = {"batch": SPEED_BATCH, "steps": SPEED_STEPS, "tokens": tokens, "rounds": SPEED_ROUNDS} | speeds(times)
    results.write("train", "speed", values)
    return dict(values["ratios"])


def speeds(times: dict[str, list[Times]]) -> dict[str, Any]:
    """What is kept of the times: pairs a second, by the clock and by CPU time, and ratios within a round."""
    pairs = SPEED_STEPS * SPEED_BATCH
    rates = {name: [[pairs / each[clock] for each in found] for clock in (0, 1)] for name, found in times.items()}
    return {
        "pairs_per_second": {name: spread(each[0]) for name, each in rates.items()},
        "pairs_per_cpu_second": {name: spread(each[1]) for name, each in rates.items()},
        "ratios": {
            name: [ratios(each[clock], rates[PEER][clock]) for clock in (0, 1)]
            for name, each in rates.items()
            if name != PEER
        },
    }


def _our_seconds(part: Any, steps: int, compute: str) -> Times:
    """Tokenising included."""
    config, batches = trainer_module("config"), trainer_module("batches")
    model = trainer_module("dual_encoder").DualEncoder(
        trainer_module("checkpoints.starting_point").starting_checkpoint(None, None)
    )
    recipe = config.Recipe(
        batch_size=SPEED_BATCH, hard_negatives=0, compute=compute, evaluate_every=steps, seed=SEED, learning_rate=5e-5
    )
    corpus = batches.make_corpus([part])
    wall, cpu = time.perf_counter(), time.process_time()
    trainer_module("loop").Loop(model, corpus, recipe, steps=steps).run(corpus)
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

    model = SentenceTransformer(str(trainer_module("checkpoints.starting_point").default_location().root), device="cpu")
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
    model_room, loop, config = trainer_module("dual_encoder"), trainer_module("loop"), trainer_module("config")
    model = model_room.DualEncoder(trainer_module("checkpoints.starting_point").starting_checkpoint(None, None))
    texts = loop.token_texts(model, trainer_module("batches").make_corpus([part]), config.Recipe())
    return float(texts["passage"].lengths.mean())


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
    peaks = {name: each["peak_mib"] for name, each in found.items()}
    values = {"batch": MEMORY_BATCH, "max_tokens": MAX_TOKENS, "layers": LAYERS, "peak_mib": peaks}
    results.write("train", "memory", values)
    return {name: round(values["peak_mib"]) for name, values in found.items()}


def memory_step(above: int) -> None:
    """Take one step with gradients cached above this many tokens (below 0: no step), and print peak memory and time."""
    config, batches = trainer_module("config"), trainer_module("batches")
    train = examples_of(data.read("squad", "train"))
    model = trainer_module("dual_encoder").DualEncoder(
        trainer_module("checkpoints.description").read_checkpoint(
            trainer_module("checkpoints.locate").locate(shallow_checkpoint(LAYERS)),
            trainer_module("checkpoints.overrides").Overrides(title_style="joined", zero_token_types=True),
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
    loop = trainer_module("loop").Loop(model, corpus, recipe, steps=1)
    started = time.perf_counter()
    if above >= 0:
        loop.run(corpus)
    seconds = time.perf_counter() - started
    peak = peak_mebibytes()
    print(json.dumps({"peak_mib": peak, "seconds": seconds}))
