# ruff: noqa: ANN401 - modules of the trainer are imported by name, on demand
"""What the measurements of the trainer share: its modules, a set's questions, a checkpoint."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from benchmarks import data
from benchmarks.data import QuestionSet

KS = (1, 5, 20, 100)
CACHE = data.REPOSITORY / ".cache" / "benchmarks" / "train"
SEED = 1
LAYERS = 3
MAX_TOKENS = 96


def trainer_module(name: str) -> Any:
    """Return a module of the trainer, by its name within the trainer."""
    return importlib.import_module(f"dpr_lance.trainer.{name}")


def examples_of(found: QuestionSet) -> Any:
    """The questions of a set as the trainer has them, with the whole corpus."""
    return trainer_module("examples").read_examples(data.folder() / found.name, split=found.split)


def shallow_checkpoint(layers: int) -> Path:
    """MiniLM's first layers, the last of them initialised again: a body that was not trained for retrieval."""
    import torch
    import transformers

    weights = trainer_module("checkpoints.starting_point").default_location().root
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
