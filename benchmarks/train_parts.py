# ruff: noqa: ANN401 - rooms of the trainer are imported by name, on demand
"""What the measurements of the trainer share: its rooms, a set's questions, a checkpoint, cells of tables."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data, machine
from benchmarks.data import QuestionSet
from dpr_lance.evaluation.metrics import bootstrap, hits_within, paired_test

KS = (1, 5, 20, 100)
CACHE = data.REPOSITORY / ".cache" / "benchmarks" / "train"
SEED = 1
LAYERS = 3
MAX_TOKENS = 96


def room(name: str) -> Any:
    return importlib.import_module(f"dpr_lance.trainer.{name}")


def examples_of(found: QuestionSet) -> Any:
    """The questions of a set as the trainer has them, with the whole corpus."""
    return room("examples").read_examples(data.folder() / found.name, split=found.split)


def shallow_checkpoint(layers: int) -> Path:
    """MiniLM's first layers, the last of them initialised anew: a body that was not trained for retrieval as it is."""
    import torch
    import transformers

    weights = room("checkpoints.starting_point").source_folder()
    place = CACHE / f"shallow-{layers}"
    if not (place / "modules.json").is_file():
        torch.manual_seed(SEED)
        model: Any = transformers.AutoModel.from_pretrained(weights, local_files_only=True)
        model.config.num_hidden_layers = layers
        model.encoder.layer = model.encoder.layer[:layers]
        model.encoder.layer[-1].apply(model._init_weights)
        model.save_pretrained(place)
        for name in ("tokenizer.json", "tokenizer_config.json", "modules.json", "1_Pooling/config.json"):
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_bytes((weights / name).read_bytes())
    return place


def accuracies(ranks: Sequence[int]) -> list[str]:
    cells = []
    for k in KS:
        found = bootstrap(hits_within(ranks, k))
        cells.append(f"{100 * found.mean:.1f} ({100 * found.low:.1f}–{100 * found.high:.1f})")
    return cells


def gain(first: Sequence[int], second: Sequence[int], k: int) -> str:
    """Points of top-k accuracy by which ranks are better than others of the same questions, with the 95 % interval."""
    found = paired_test(hits_within(first, k), hits_within(second, k)).difference
    return f"{100 * found.mean:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"


def place_of(record: dict[str, Any]) -> str:
    versions = record["machine"]["versions"]
    return f"Measured on {machine.sentence(record['machine'])}, torch {versions['torch']}."


def spread(values: Sequence[float], digits: int) -> str:
    low, middle, high = min(values), float(np.median(values)), max(values)
    return f"{low:.{digits}f} / **{middle:.{digits}f}** / {high:.{digits}f}"
