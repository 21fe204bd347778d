"""What a late-interaction checkpoint is: ColBERT's own layout, PyLate's, or sentence-transformers'. Needs no torch.

- ColBERT: config.json names `HF_ColBERT`, `artifact.metadata` has lengths, markers and punctuation, and the projection
  `linear.weight` is among the transformer's weights.
- PyLate: modules.json lists a transformer and dense layers, config_sentence_transformers.json has `query_prefix`,
  `document_prefix`, `query_length` and others.
- sentence-transformers (`MultiVectorEncoder`): the prefixes are prompts, lengths and augmentation are in
  sentence_bert_config.json, and modules for the mask and for unit length follow.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from dpr_lance.encoders.bundle_folder import MANIFEST
from dpr_lance.errors import EncoderError, InvalidInputError
from dpr_lance.reader.late_interaction_bundle import LateInteractionCard

from .description import Tower, describe_tower, licence_of, read_config
from .locate import Located, read_json
from .sentence_transformers import MODULES, DenseLayer, dense_layer, pipeline_modules

ARCHITECTURE = "HF_ColBERT"
METADATA = "artifact.metadata"
LATE_INTERACTION_CONVERSION_VERSION = 1
"""Raised when the same checkpoint gives other vectors than before."""
QUESTION_TOKENS = 32
"""Length of augmented questions where a checkpoint names none (paper, section 3.2)."""
PASSAGE_TOKENS = 300
"""Length of passages where a checkpoint names none, as in PyLate."""
RETRIEVAL_WEIGHT = 0.25
"""Default weight of retrieval: the best of 0, 0.25, 0.5, 1 and 2 for a ColBERT of 12 layers over three sets."""
PUNCTUATION = tuple(string.punctuation)
"""Tokens of passages that ColBERT and PyLate leave out unless a checkpoint says otherwise."""
_MODULES = ("Transformer", "Dense", "MultiVectorMask", "Normalize")
_MODEL_TYPES = ("ColBERT", "MultiVectorEncoder")


class _Settings(TypedDict):
    question_prefix: str
    passage_prefix: str
    question_max_tokens: int
    augmented_tokens: int
    augmentation: str
    attends_to_augmentation: bool
    passage_max_tokens: int
    skipped_tokens: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LateInteractionCheckpoint:
    """A late-interaction model as trained: transformer, projection, and card, whose fingerprint is blank.

    Without `dense` layers the projection is `linear.weight` among the transformer's weights.
    """

    tower: Tower
    dense: tuple[DenseLayer, ...]
    card: LateInteractionCard


def is_late_interaction(folder: Path) -> bool:
    """Return whether the checkpoint in `folder` is one of late interaction."""
    if read_json(folder / "config_sentence_transformers.json", None).get("model_type") in _MODEL_TYPES:
        return True
    return ARCHITECTURE in (read_json(folder / "config.json", None).get("architectures") or [])


def read_late_interaction(
    located: Located, *, tokens: int | None = None, name: str | None = None
) -> LateInteractionCheckpoint:
    """Read the description of a late-interaction checkpoint; `tokens` is the length of passages, if given.

    Raises `EncoderError` when a file is missing, or something is not supported; `InvalidInputError` for an impossible
    length.
    """
    root = located.root
    if (root / MANIFEST).is_file():
        raise EncoderError(f"{root} is a bundle already: use it as it is")
    if not is_late_interaction(root):
        raise EncoderError(
            f"{root} is not a late-interaction checkpoint: config.json names no {ARCHITECTURE}, and "
            f"config_sentence_transformers.json no model_type {' or '.join(_MODEL_TYPES)}"
        )
    modules = pipeline_modules(root)
    folder = modules[0][1] if modules else root
    config = read_config(folder)
    tower = describe_tower(folder, config, str((config.get("architectures") or [""])[0]))
    dense = _dense(root, modules)
    settings = _pylate(root, folder, dict(modules)) if modules else _colbert(root)
    settings["passage_max_tokens"] = min(settings["passage_max_tokens"], tower.max_positions)
    if tokens is not None:
        if not 8 <= tokens <= tower.max_positions:
            raise InvalidInputError(
                f"max_tokens={tokens}: passages have from 8 to {tower.max_positions} tokens, the positions of {folder}"
            )
        settings["passage_max_tokens"] = tokens
    card = LateInteractionCard(
        name=name or located.name,
        fingerprint="",
        dimension=dense[-1].out_features if dense else _inline_dimension(folder, tower, config),
        licence=licence_of(root),
        source=located.source,
        retrieval_weight=RETRIEVAL_WEIGHT,
        **settings,
    )
    if card.question_max_tokens > tower.max_positions:
        raise EncoderError(f"{root}: questions of {card.question_max_tokens} tokens exceed the positions of the model")
    return LateInteractionCheckpoint(tower, dense, card)


def _inline_dimension(folder: Path, tower: Tower, config: dict[str, Any]) -> int:
    """Return `dim` of ColBERT's config.json, else the number of rows of `linear.weight`."""
    if config.get("dim"):
        return int(config["dim"])
    shape = inline_projection_shape(folder)
    if shape[1] != tower.hidden:
        raise EncoderError(f"{folder}: linear.weight has {shape[1]} columns, the transformer {tower.hidden}")
    return shape[0]


def inline_projection_shape(folder: Path) -> tuple[int, int]:
    """Return the shape of `linear.weight`; raises `EncoderError` without it."""
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - of the train extra

    path = folder / "model.safetensors"
    if not path.is_file():
        raise EncoderError(f"{folder} has no weights: model.safetensors is missing")
    try:
        with safe_open(path, framework="np") as weights:
            if "linear.weight" in weights.keys():  # noqa: SIM118 - it is no mapping
                rows, columns = weights.get_slice("linear.weight").get_shape()
                return int(rows), int(columns)
    except (SafetensorError, ValueError) as error:
        raise EncoderError(f"{path} cannot be read: {error}") from error
    raise EncoderError(f"{path} has no linear.weight, the projection of a token's vector")


def _dense(root: Path, modules: list[tuple[str, Path]]) -> tuple[DenseLayer, ...]:
    names = [name for name, _ in modules if name != "Dropout"]
    if names and (names[0] != "Transformer" or set(names) - {*_MODULES} or names.count("Transformer") > 1):
        raise EncoderError(
            f"{root / MODULES}: the modules {', '.join(names)} are not supported; supported are {', '.join(_MODULES)}"
        )
    layers = tuple(dense_layer(path, of="token_embeddings") for name, path in modules if name == "Dense")
    if names and not layers:
        raise EncoderError(f"{root / MODULES} lists no Dense, the projection of a token's vector")
    return layers


def _colbert(root: Path) -> _Settings:
    found = read_json(root / METADATA, None)
    length = int(found.get("query_maxlen") or QUESTION_TOKENS)
    return _Settings(
        question_prefix=f"{found.get('query_token_id') or '[unused0]'} ",
        passage_prefix=f"{found.get('doc_token_id') or '[unused1]'} ",
        question_max_tokens=length,
        augmented_tokens=length,
        augmentation="[MASK]",
        attends_to_augmentation=bool(found.get("attend_to_mask_tokens")),
        passage_max_tokens=int(found.get("doc_maxlen") or PASSAGE_TOKENS),
        skipped_tokens=PUNCTUATION if found.get("mask_punctuation", True) else (),
    )


def _pylate(root: Path, folder: Path, modules: dict[str, Path]) -> _Settings:
    """Read the settings of PyLate and of sentence-transformers: the former's are flat, the latter's in its modules."""
    described = read_json(root / "config_sentence_transformers.json", None)
    own = described | read_json(folder / "sentence_bert_config.json", None)
    prompts = described.get("prompts") or {}
    prefixes = [
        described[key] + (prompts.get(name) or "").removeprefix(described[key])
        if described.get(key)
        else prompts.get(name) or ""
        for key, name in (("query_prefix", "query"), ("document_prefix", "document"))
    ]
    length = int(own.get("query_length") or QUESTION_TOKENS)
    expansion = own.get("query_expansion", _flat_expansion(described, length))
    if expansion is None:
        filled = 0
    else:
        filled = int(expansion.get("length") or length)
        length = (
            filled if expansion.get("strategy", "fixed") == "fixed" else max(filled, int(own.get("query_length") or 0))
        )
    skipped = described.get("skiplist_words")
    if "MultiVectorMask" in modules:
        mask = read_json(modules["MultiVectorMask"] / "config.json", None)
        skipped = mask.get("skiplist_words") or []
        if mask.get("keep_only_token_ids") or mask.get("skiplist_tasks", ["document"]) != ["document"]:
            raise EncoderError(f"{modules['MultiVectorMask']}: only a skiplist of passages is supported")
    return _Settings(
        question_prefix=prefixes[0],
        passage_prefix=prefixes[1],
        question_max_tokens=length,
        augmented_tokens=filled,
        augmentation=str((expansion or {}).get("token") or "[MASK]"),
        attends_to_augmentation=bool((expansion or {}).get("attend")),
        passage_max_tokens=int(own.get("document_length") or PASSAGE_TOKENS),
        skipped_tokens=PUNCTUATION if skipped is None else tuple(map(str, skipped)),
    )


def _flat_expansion(described: dict[str, Any], length: int) -> dict[str, Any] | None:
    if described.get("model_type") != "ColBERT" or described.get("do_query_expansion") is False:
        return None
    attend = described.get("attend_to_expansion_tokens", described.get("attend_to_mask_tokens"))
    return {"strategy": "fixed", "attend": bool(attend), "length": length}
