"""The files of sentence-transformers: a pipeline of modules, prompts and the similarity, in old and new forms."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from dpr_lance.encoders.card import Pooling
from dpr_lance.errors import EncoderError

from .locate import read_json
from .overrides import Overrides

MODULES = "modules.json"
ACTIVATIONS = ("Identity", "Tanh", "GELU", "ReLU", "Sigmoid", "SiLU")
"""Classes of torch.nn that a dense layer may name."""


@dataclass(frozen=True, slots=True)
class DenseLayer:
    """A linear layer after pooling, as sentence-transformers stores it in a sub-folder."""

    folder: Path
    in_features: int
    out_features: int
    bias: bool
    activation: str


def pipeline_modules(folder: Path) -> list[tuple[str, Path]]:
    """Return the pipeline as (class name, folder) pairs, [] for a folder without modules.json."""
    path = folder / MODULES
    if not path.is_file():
        return []
    try:
        entries = sorted(json.loads(path.read_text(encoding="utf-8")), key=lambda entry: int(entry["idx"]))
        return [(str(entry["type"]).rsplit(".", 1)[-1], folder / entry["path"]) for entry in entries]
    except (ValueError, TypeError, KeyError) as error:
        raise EncoderError(f"{path} is not a list of sentence-transformers modules ({error!r})") from error


def _modules(folder: Path) -> list[tuple[str, Path]]:
    modules = pipeline_modules(folder)
    if not modules:
        return []
    names = [name for name, _ in modules if name != "Dropout"]
    # A pipeline is Transformer, Pooling, any Dense layers, and Normalize or not.
    if not re.fullmatch(r"Transformer Pooling( Dense)*( Normalize)?", " ".join(names)):
        raise EncoderError(
            f"{folder / MODULES}: the modules {', '.join(names)} are not supported; "
            "supported are Transformer, Pooling, Dense layers and Normalize, in this order"
        )
    return modules


def transformer_folder(folder: Path) -> Path:
    """Return where the transformer of the checkpoint `folder` lies: there, or in 0_Transformer/ (old pipelines)."""
    modules = _modules(folder)
    return modules[0][1] if modules else folder


def dense_layers(folder: Path) -> tuple[DenseLayer, ...]:
    """Return the dense layers of the pipeline in `folder`, in order."""
    return tuple(dense_layer(path) for name, path in _modules(folder) if name == "Dense")


def dense_layer(folder: Path, *, of: str = "sentence_embedding") -> DenseLayer:
    """Return the dense layer in `folder`; raises `EncoderError` when it works on anything else than `of`."""
    path = folder / "config.json"
    values = read_json(path, f"{path} is missing: the dense layer's sizes are not known")
    activation = str(values.get("activation_function", "Tanh")).rsplit(".", 1)[-1]
    if activation not in ACTIVATIONS:
        raise EncoderError(f"{path}: activation {activation!r} is not one of {', '.join(ACTIVATIONS)}")
    names = {values.get("module_input_name") or of, values.get("module_output_name") or of}
    if values.get("use_residual") or names != {of}:
        raise EncoderError(f"{path}: a dense layer that is residual or works on {sorted(names)} is not supported")
    return DenseLayer(
        folder, int(values["in_features"]), int(values["out_features"]), bool(values.get("bias", True)), activation
    )


def read_pipeline(folder: Path) -> Overrides:
    """Return the settings in the sentence-transformers files of `folder`, none for a folder without them.

    Raises `EncoderError` for a module, pooling, activation or similarity that is not supported.
    """
    modules = _modules(folder)
    if not modules:
        return Overrides()
    described = read_json(folder / "config_sentence_transformers.json", None)
    prompts = described.get("prompts") or {}
    default = prompts.get(described.get("default_prompt_name"))
    question_prefix = prompts.get("query", default)
    passage_prefix = next((prompts[name] for name in ("document", "passage", "corpus") if name in prompts), default)
    return Overrides(
        pooling=_pooling(modules[1][1], prompted=bool(question_prefix or passage_prefix)),
        normalise=_normalised(folder, modules[-1][0] == "Normalize", described.get("similarity_fn_name")),
        question_prefix=question_prefix,
        passage_prefix=passage_prefix,
    )


def _pooling(folder: Path, *, prompted: bool) -> Pooling:
    """Read 1_Pooling/config.json: `pooling_mode` in new files, one boolean for each mode in old ones."""
    path = folder / "config.json"
    values = read_json(path, f"{path} is missing: the pooling is not known")
    mode = values.get("pooling_mode")
    if mode is None:
        old = [
            key.removeprefix("pooling_mode_") for key, on in values.items() if key.startswith("pooling_mode_") and on
        ]
        mode = [{"cls_token": "cls", "mean_tokens": "mean"}.get(key, key) for key in old]
    modes = [mode] if isinstance(mode, str) else list(mode)
    if modes == ["cls"]:
        return "cls"
    if modes != ["mean"]:
        raise EncoderError(f"{path}: pooling {' + '.join(map(str, modes)) or 'nothing'} is not one of cls, mean")
    if prompted and not values.get("include_prompt", True):
        raise EncoderError(f"{path}: pooling that leaves out the prompt's tokens is not supported")
    return "mean"


def _normalised(folder: Path, module: bool, similarity: object) -> bool | None:
    """Return whether vectors have unit length: by inner product these rank as cosine does."""
    if module or similarity == "cosine":
        return True
    if similarity == "dot":
        return False
    if similarity is None:
        return None
    raise EncoderError(f"{folder}: similarity {similarity!r} is not supported; supported are cosine and dot")
