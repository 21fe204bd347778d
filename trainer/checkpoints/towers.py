"""The towers as torch modules: token ids in, one vector out."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor, nn

from dpr_lance.encoders.card import Pooling
from dpr_lance.errors import EncoderError

from .description import FAMILIES, Checkpoint, Tower
from .sentence_transformers import DenseLayer

_IGNORED = "position_ids"
"""A buffer, not a weight, that older checkpoints carry."""


class TowerModel(nn.Module):
    """One side: transformer, pooling, projection or dense layers, and normalisation."""

    def __init__(self, transformer: nn.Module, head: nn.Module, *, pooling: Pooling, normalise: bool) -> None:
        super().__init__()
        self.transformer = transformer
        self.head = head
        self.pooling = pooling
        self.normalise = normalise

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Return vectors [b, d] for ids, mask and (where the model has them) token types of shape [b, s]."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        states: Tensor = self.transformer(**inputs).last_hidden_state  # [b, s, h]
        if self.pooling == "cls":
            pooled = states[:, 0]
        else:
            mask = attention_mask.unsqueeze(-1).to(states.dtype)
            pooled = (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1e-9)
        vector: Tensor = self.head(pooled)
        return nn.functional.normalize(vector, dim=-1) if self.normalise else vector


def load_tower(checkpoint: Checkpoint, tower: Tower) -> TowerModel:
    """Load one side in fp32 with eager attention, in evaluation mode.

    Raises `EncoderError` when a weight is missing, has another shape, or cannot be read: none stays random.
    """
    model, head = (
        _dpr(tower) if tower.family == "dpr" else (load_transformer(transformers.AutoModel, tower), nn.Identity())
    )
    for layer in tower.dense:
        head = nn.Sequential(head, load_dense(layer))
    loaded = TowerModel(model, head, pooling=checkpoint.pooling, normalise=checkpoint.normalise)
    return loaded.eval()


def _dpr(tower: Tower) -> tuple[nn.Module, nn.Module]:
    cls = getattr(transformers, tower.architecture)
    model: Any = load_transformer(cls, tower)
    encoder = model.question_encoder if tower.architecture == "DPRQuestionEncoder" else model.ctx_encoder
    return encoder.bert_model, encoder.encode_proj if tower.projection else nn.Identity()


def load_transformer(cls: Any, tower: Tower, *, bare: bool = True) -> nn.Module:  # noqa: ANN401
    """Load a class of transformers in fp32 with eager attention; `bare` leaves out the pooler of an `AutoModel`.

    Raises `EncoderError` when a weight is missing, has another shape, or cannot be read.
    """
    options = {"add_pooling_layer": False} if bare and FAMILIES[tower.family].pooler else {}
    try:
        with _quiet():
            model, info = cls.from_pretrained(
                tower.folder,
                attn_implementation="eager",
                dtype=torch.float32,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # found below, by name
                weights_only=True,
                **options,
            )
    except (OSError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        raise EncoderError(f"{tower.folder}: the weights cannot be loaded: {error}") from error
    missing = sorted(name for name in info["missing_keys"] if not name.endswith(_IGNORED))
    wrong = sorted(str(found[0] if isinstance(found, tuple) else found) for found in info["mismatched_keys"])
    if missing or wrong:
        names = [*missing, *wrong]
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        raise EncoderError(
            f"{tower.folder}: {len(names)} weights of {type(model).__name__} are missing or misshapen ({shown}): "
            "the files are of another architecture, or incomplete"
        )
    loaded: nn.Module = model
    return loaded


def load_dense(layer: DenseLayer) -> nn.Module:
    """Load a dense layer with its activation; raises `EncoderError` when its weights do not fit."""
    linear = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias)
    state = {name.removeprefix("linear."): value.float() for name, value in read_weights(layer.folder).items()}
    try:
        linear.load_state_dict(state)
    except RuntimeError as error:
        raise EncoderError(f"{layer.folder}: the dense layer's weights do not fit its config.json: {error}") from error
    activation: nn.Module = getattr(nn, layer.activation)()
    return nn.Sequential(linear, activation)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of `model.safetensors`, else of `pytorch_model.bin` read as tensors only."""
    safe, pickled = folder / "model.safetensors", folder / "pytorch_model.bin"
    if safe.is_file():
        return load_file(safe)
    if not pickled.is_file():
        raise EncoderError(f"{folder} has no weights: model.safetensors is missing")
    try:
        state: dict[str, Tensor] = torch.load(pickled, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise EncoderError(f"{pickled} cannot be read as tensors only: {error}") from error
    return state


@contextmanager
def _quiet() -> Iterator[None]:
    """Switch off transformers' load report, and its progress bar unless standard error is a terminal."""
    logs: Any = transformers.utils.logging
    level, shown = logs.get_verbosity(), logs.is_progress_bar_enabled()
    logs.set_verbosity_error()
    if not sys.stderr.isatty():
        logs.disable_progress_bar()
    try:
        yield
    finally:
        logs.set_verbosity(level)
        if shown:
            logs.enable_progress_bar()
