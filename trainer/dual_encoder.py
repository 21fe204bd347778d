"""The model in training: question and passage tower, or one for both, loaded from any checkpoint and saved as one."""

from __future__ import annotations

import copy
import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from dpr_lance.encoders.batches import length_batches
from dpr_lance.encoders.bundle import CARD
from dpr_lance.encoders.card import Side
from dpr_lance.errors import InvalidInputError

from .checkpoints.description import Checkpoint
from .checkpoints.locate import PASSAGE_FOLDER, QUESTION_FOLDER
from .checkpoints.sentence_transformers import MODULES
from .checkpoints.tokenizer import load_tokenizer
from .checkpoints.towers import TowerModel, load_tower, read_weights
from .resumable import Autocast, TrainableModule
from .tokens import TokenisedTexts

ENCODER = "encoder"
"""The folder of an encoder in the checkpoints of a run."""
ENCODE_TOKENS = 4096
"""Padded tokens of a chunk when no gradient is kept."""


class DualEncoder(TrainableModule):
    """E_Q and E_P (paper, section 3.1); `question` is `passage` where they share their weights."""

    part = ENCODER

    def __init__(self, checkpoint: Checkpoint, *, separate: bool = False, projection: int = 0) -> None:
        """Load the towers of `checkpoint`.

        `separate` gives question and passage weights of their own when the checkpoint shares them; `projection` adds a
        linear layer of that width after pooling.
        """
        super().__init__()
        self.checkpoint = checkpoint
        self.tokenizer: Tokenizer = load_tokenizer(checkpoint)
        self.passage = _tower(checkpoint, "passage", projection)
        if checkpoint.shared:
            self.question = copy.deepcopy(self.passage) if separate else self.passage
        else:
            self.question = _tower(checkpoint, "question", projection)
        for tower in self.towers.values():
            transformer: Any = tower.transformer
            transformer.set_attn_implementation("sdpa")

    @property
    def shared(self) -> bool:
        """Whether one set of weights encodes questions and passages."""
        return self.question is self.passage

    @property
    def towers(self) -> dict[str, TowerModel]:
        """The towers by the name of their folder in a saved checkpoint ("" for the one of both)."""
        if self.shared:
            return {"": self.passage}
        return {QUESTION_FOLDER: self.question, PASSAGE_FOLDER: self.passage}

    @property
    def dimension(self) -> int:
        """Width of the vectors."""
        linears = _linears(self.passage)
        return linears[-1].out_features if linears else self.checkpoint.passage.hidden

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def tower(self, side: Side) -> TowerModel:
        """Return the tower of one side."""
        return self.question if side == "question" else self.passage

    def forward(self, side: Side, inputs: dict[str, Tensor]) -> Tensor:
        """Return vectors [b, d] of one side."""
        vectors: Tensor = self.tower(side)(**inputs)
        return vectors

    @torch.no_grad()
    def encode(self, side: Side, texts: TokenisedTexts, autocast: Autocast = nullcontext) -> NDArray[np.float32]:
        """Return float32[n, d] in evaluation mode (no dropout), in length-sorted chunks."""
        training = self.training
        self.eval()
        try:
            with autocast():
                return self._encoded(side, texts)
        finally:
            self.train(training)

    def save(self, folder: Path) -> None:
        """Write the encoder to `folder`, see `save_encoder`."""
        save_encoder(self, folder)

    def restore(self, folder: Path) -> None:
        """Read the weights back, see `load_weights`."""
        load_weights(self, folder)

    def _encoded(self, side: Side, texts: TokenisedTexts) -> NDArray[np.float32]:
        found = np.empty((len(texts), self.dimension), dtype=np.float32)
        for chunk in length_batches(texts.lengths, ENCODE_TOKENS):
            found[chunk] = self(side, texts.inputs(chunk, self.device)).float().cpu().numpy()
        return found


def _tower(checkpoint: Checkpoint, side: Side, projection: int) -> TowerModel:
    described = getattr(checkpoint, side)
    tower = load_tower(checkpoint, described)
    if projection:
        new = nn.Linear(described.dimension, projection, bias=False)
        tower.head = nn.Sequential(*_flattened(tower.head), new)
    return tower


def _flattened(head: nn.Module) -> list[nn.Module]:
    if isinstance(head, nn.Sequential):
        return [layer for part in head for layer in _flattened(part)]
    return [] if isinstance(head, nn.Identity) else [head]


# Saving


def save_encoder(model: DualEncoder, folder: Path) -> None:
    """Write the encoder as a checkpoint that `export`, `read_checkpoint` and sentence-transformers read.

    Weights are fp32 safetensors; `encoder.json` holds everything else that vectors depend on.
    """
    checkpoint = model.checkpoint
    for name, tower in model.towers.items():
        _save_tower(model, tower, folder / name)
    card = replace(checkpoint.card(fingerprint="training"), dimension=model.dimension)
    (folder / CARD).write_text(card.to_json() + "\n", encoding="utf-8")


def load_weights(model: DualEncoder, folder: Path) -> None:
    """Put the weights that `save_encoder` wrote to `folder` into `model`, bit by bit."""
    for name, tower in model.towers.items():
        state = {f"transformer.{key}": value for key, value in read_weights(folder / name).items()}
        for number, layer in enumerate(_linears(tower)):
            linear = read_weights(folder / name / f"{number + 2}_Dense")
            layer.load_state_dict({key.removeprefix("linear."): value for key, value in linear.items()})
        loaded = tower.load_state_dict(state, strict=False)
        missing = [key for key in loaded.missing_keys if key.startswith("transformer.")]
        if missing or loaded.unexpected_keys:
            raise InvalidInputError(f"{folder / name} is not a checkpoint of this model: {missing or loaded}")


def _linears(tower: TowerModel) -> list[nn.Linear]:
    return [layer for layer in _flattened(tower.head) if isinstance(layer, nn.Linear)]


def _save_tower(model: DualEncoder, tower: TowerModel, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    transformer: Any = tower.transformer
    config = transformer.config
    if config.model_type == "dpr":  # its inner model is a plain BERT
        stated = {key: value for key, value in config.to_dict().items() if key not in ("model_type", "projection_dim")}
        config = transformers.BertConfig(**stated)
    config = copy.deepcopy(config)
    config.architectures = [type(transformer).__name__]
    config.save_pretrained(folder)
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in transformer.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model.tokenizer.save(str(folder / "tokenizer.json"))
    side: Side = "question" if folder.name == QUESTION_FOLDER and not model.shared else "passage"
    limit = model.checkpoint.max_tokens(side)
    described = {"model_max_length": limit, "tokenizer_class": "PreTrainedTokenizerFast"}
    normalizer = json.loads(model.tokenizer.to_str())["normalizer"] or {}
    if normalizer.get("type") == "BertNormalizer":
        described["do_lower_case"] = normalizer["lowercase"]
    _write(folder / "tokenizer_config.json", described)
    modules = ["Transformer", "Pooling", *_save_dense(tower, folder), *(["Normalize"] if tower.normalise else [])]
    paths = ["" if name == "Transformer" else f"{number}_{name}" for number, name in enumerate(modules)]
    prefix = "sentence_transformers.models"
    listed = [
        {"idx": number, "name": str(number), "path": path, "type": f"{prefix}.{name}"}
        for number, (name, path) in enumerate(zip(modules, paths, strict=True))
    ]
    _write(folder / MODULES, listed)
    _write(folder / "sentence_bert_config.json", {"max_seq_length": limit, "do_lower_case": False})
    pooling = {
        "word_embedding_dimension": model.checkpoint.passage.hidden,
        "pooling_mode_cls_token": tower.pooling == "cls",
        "pooling_mode_mean_tokens": tower.pooling == "mean",
    }
    _write(folder / "1_Pooling" / "config.json", pooling)


def _save_dense(tower: TowerModel, folder: Path) -> list[str]:
    """Write each linear layer after pooling with its activation; return a module's name for each."""
    layers = _flattened(tower.head)
    names: list[str] = []
    for at, layer in enumerate(layers):
        if not isinstance(layer, nn.Linear):
            continue
        after = layers[at + 1] if at + 1 < len(layers) and not isinstance(layers[at + 1], nn.Linear) else nn.Identity()
        path = folder / f"{len(names) + 2}_Dense"
        activation = f"torch.nn.modules.activation.{type(after).__name__}"
        if isinstance(after, nn.Identity):
            activation = "torch.nn.modules.linear.Identity"
        _write(
            path / "config.json",
            {
                "in_features": layer.in_features,
                "out_features": layer.out_features,
                "bias": layer.bias is not None,
                "activation_function": activation,
            },
        )
        state = {f"linear.{name}": value.detach().cpu().contiguous() for name, value in layer.state_dict().items()}
        save_file(state, path / "model.safetensors", metadata={"format": "pt"})
        names.append("Dense")
    return names


def _write(path: Path, values: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
