"""The checkpoint file of the original DPR project (`.cp`): unpacked into a pair of folders, like any other DPR pair."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from dpr_lance.errors import EncoderError, InvalidInputError

from .locate import PASSAGE_FOLDER, QUESTION_FOLDER, Located, Named, locate

_SIDES = (
    (QUESTION_FOLDER, "question_model.", transformers.DPRQuestionEncoder),
    (PASSAGE_FOLDER, "ctx_model.", transformers.DPRContextEncoder),
)
_UNUSED = ("pooler.", "embeddings.position_ids")
"""Unused in the file: DPR takes the [CLS] state, and positions are not weights."""
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json")


class _Inert:
    """Replaces classes of the training configuration in the pickle: takes any state and does nothing."""

    def __init__(self, *_: object) -> None:
        """Drop the arguments (a defaultdict's factory)."""

    def __setstate__(self, state: object) -> None:
        """Drop the state: the configuration is not needed."""


_CONFIGURATION = (
    *(f"omegaconf.base.{name}" for name in ("ContainerMetadata", "Metadata")),
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    *(f"omegaconf.nodes.{kind}Node" for kind in ("Any", "Boolean", "Float", "Integer", "String")),
    *(f"builtins.{name}" for name in ("bool", "dict", "float", "int", "list", "str")),
    "collections.defaultdict",
    "typing.Any",
)
"""Names in such a file besides tensors: since 2021 DPR pickles its settings with OmegaConf (2.0 to 2.3 tried)."""


def unpack(path: Path, base: Named | None, folder: Path, *, revision: str | None = None) -> Located:
    """Write the two encoders in the `.cp` file `path` to `folder` as DPR folders and return where they are.

    `base` is the folder or Hub name (at `revision`) of the BERT model that training started from: the file has neither
    its configuration nor its tokenizer. No code in the file is run (`torch.load(weights_only=True)`).
    Raises `EncoderError` when it cannot be read so, or when a weight is missing; `InvalidInputError` without `base`.
    """
    if base is None:
        raise InvalidInputError(
            f"{path} holds weights only: give `dpr-lance export` as `base` the model that it was trained from, whose "
            "config.json and tokenizer it needs (bert-base-uncased for the published ones)"
        )
    source = locate(base, revision=revision).question
    config = transformers.AutoConfig.from_pretrained(source, local_files_only=True)
    if config.model_type != "bert":
        raise EncoderError(f"{source} is {config.model_type!r}: original DPR checkpoints of BERT models only")
    state = _read(path)
    for name, prefix, cls in _SIDES:
        own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        if not own:
            raise EncoderError(f"{path} has no weights named {prefix}*: it is not a DPR bi-encoder checkpoint")
        _write_side(path, own, cls, config.to_dict(), folder / name)
        for file in _TOKENIZER_FILES:
            if (source / file).is_file():
                shutil.copyfile(source / file, folder / name / file)
    return Located(path.stem, str(path.resolve()), folder, folder / QUESTION_FOLDER, folder / PASSAGE_FOLDER)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        with torch.serialization.safe_globals([(_Inert, name) for name in _CONFIGURATION]):
            saved: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, AttributeError, TypeError) as error:
        raise EncoderError(
            f"{path} cannot be read as tensors only ({_reason(error)}), and a pickle that runs code is never loaded: "
            "in an environment that trusts the file, save its `model_dict` alone with torch.save"
        ) from error
    state = saved.get("model_dict", saved) if isinstance(saved, dict) else saved
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise EncoderError(f"{path} is not a DPR checkpoint: it has no state dict `model_dict`")
    return state


def _reason(error: Exception) -> str:
    """Return the line that names what is wrong; torch explains at length."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if "GLOBAL" in line or "nsupported" in line]
    return (named or lines or [type(error).__name__])[0][:200]


def _write_side(path: Path, state: dict[str, Tensor], cls: Any, base: dict[str, Any], folder: Path) -> None:  # noqa: ANN401
    projection = state.get("encode_proj.weight")
    settings = {key: value for key, value in base.items() if key not in ("architectures", "model_type")}
    config = transformers.DPRConfig(**settings | {"projection_dim": 0 if projection is None else len(projection)})
    model = cls(config)
    inner = f"{cls.base_model_prefix}."
    named = {
        f"{inner}{key}" if key.startswith("encode_proj.") else f"{inner}bert_model.{key}": value
        for key, value in state.items()
        if not key.startswith(_UNUSED)
    }
    try:
        model.load_state_dict(named)
    except RuntimeError as error:
        raise EncoderError(f"{path} does not fit the architecture of `base`: {error}") from error
    model.save_pretrained(folder)
