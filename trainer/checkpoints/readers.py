"""What a reader's checkpoint is: a DPR reader, a cross-encoder, a question-answering model, or one trained here.

Needs no torch. The kind comes from `architectures` in config.json.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dpr_lance.encoders.bundle import MANIFEST
from dpr_lance.errors import EncoderError, InvalidInputError
from dpr_lance.reader.bundle import CARD
from dpr_lance.reader.card import ReaderCard

from .description import Tower, describe_tower, licence_of, max_tokens, read_config
from .locate import Located, read_json
from .sentence_transformers import MODULES, pipeline_modules

ReaderKind = Literal["dpr", "cross-encoder", "question-answering", "trained"]

TRAINED = "DprLanceReader"
"""Stands under `architectures` in the config.json of a reader that was trained here."""
READER_CONVERSION_VERSION = 2
"""Raised when the same checkpoint gives other scores than before."""
_CLASSIFIER, _EXTRACTOR = "ForSequenceClassification", "ForQuestionAnswering"
WITHOUT_HEADS = ("modernbert",)
"""Families whose heads differ from all others': only their encoders are supported."""
DPR_MAX_TOKENS = 350
"""Length of inputs at which the readers of the paper's authors were trained (their README)."""
CROSS_ENCODER_RETRIEVAL_WEIGHT = 0.25
"""Default weight of retrieval: the best of 0 to 3 for a cross-encoder of 12 layers over four sets."""
EXTRACTOR_MAX_TOKENS = 384
"""Length of inputs at which models are fine-tuned on squad since BERT's own script."""


@dataclass(frozen=True, slots=True)
class ReaderCheckpoint:
    """A reader as trained: its kind, its transformer, and its card, whose fingerprint is blank."""

    kind: ReaderKind
    tower: Tower
    card: ReaderCard


def reader_kind(folder: Path) -> ReaderKind | None:
    """Return the kind of the reader in `folder`; None for a checkpoint of something else."""
    named = read_json(folder / "config.json", None).get("architectures") or [""]
    architecture = str(named[0])
    if architecture == "DPRReader":
        return "dpr"
    if architecture == TRAINED:
        return "trained"
    if architecture.endswith(_EXTRACTOR):
        return "question-answering"
    if architecture.endswith(_CLASSIFIER) and "Pooling" not in _module_names(folder):
        return "cross-encoder"
    return None


def read_reader(located: Located, *, tokens: int | None = None, name: str | None = None) -> ReaderCheckpoint:
    """Read the description of a reader; `tokens` is the length of its inputs, where another than usual is wanted.

    Raises `EncoderError` when a file is missing, or when the architecture is not a reader or not supported;
    `InvalidInputError` when `tokens` is impossible.
    """
    folder = located.root
    if (folder / MANIFEST).is_file():
        raise EncoderError(f"{folder} is a bundle already: use it as it is")
    config = read_config(folder)
    architecture = str((config.get("architectures") or [None])[0])
    kind = reader_kind(folder)
    if kind is None:
        raise EncoderError(
            f"{folder}: {architecture} is not a reader; supported are DPRReader, {TRAINED}, and classes of the BERT "
            f"family that end in {_CLASSIFIER} (with one label) or {_EXTRACTOR}"
        )
    tower = describe_tower(folder, config, architecture)
    _check_heads(tower, kind, config)
    _check_modules(folder)
    card = _card(kind, tower, located)
    if tokens is not None:
        if not card.question_max_tokens < tokens <= tower.max_positions:
            raise InvalidInputError(
                f"max_tokens={tokens}: inputs must be longer than a question ({card.question_max_tokens} tokens) and "
                f"fit the {tower.max_positions} positions of {folder}"
            )
        card = dataclasses.replace(card, max_tokens=tokens)
    return ReaderCheckpoint(kind, tower, dataclasses.replace(card, name=name) if name else card)


def _check_heads(tower: Tower, kind: ReaderKind, config: dict[str, Any]) -> None:
    labels = len(config.get("id2label") or {}) or int(config.get("num_labels", 2))
    if kind == "cross-encoder" and labels != 1:
        raise EncoderError(
            f"{tower.folder}: a re-ranker has one label, this {tower.architecture} has {labels}: nothing says which of "
            "them means that a passage answers the question"
        )
    if kind == "question-answering" and labels != 2:
        raise EncoderError(
            f"{tower.folder}: {tower.architecture} has {labels} outputs for each token; start and end are two"
        )
    if tower.family in WITHOUT_HEADS and kind != "trained":
        raise EncoderError(f"{tower.folder}: {tower.architecture} is not supported: its heads are not those of BERT")
    if kind == "dpr" and tower.projection:
        raise EncoderError(
            f"{tower.folder}: a DPRReader with projection_dim {tower.projection} is not supported; it must be 0"
        )


def _check_modules(folder: Path) -> None:
    if names := [name for name in _module_names(folder) if name not in ("Transformer", "Dropout")]:
        raise EncoderError(f"{folder / MODULES}: the module {names[0]} after a cross-encoder is not supported")


def _module_names(folder: Path) -> list[str]:
    return [name for name, _ in pipeline_modules(folder)]


def _card(kind: ReaderKind, tower: Tower, located: Located) -> ReaderCard:
    if kind == "trained":
        path = tower.folder / CARD
        if not path.is_file():
            raise EncoderError(f"{path} is missing: it says how the reader was trained to read its input")
        card = ReaderCard.from_json(path.read_text(encoding="utf-8"), place=str(path))
        if card.max_tokens > tower.max_positions:
            raise EncoderError(
                f"{path}: max_tokens {card.max_tokens} is more than the {tower.max_positions} positions of the model"
            )
        return dataclasses.replace(card, source=card.source or located.source, fingerprint="")
    longest = {"dpr": DPR_MAX_TOKENS, "question-answering": EXTRACTOR_MAX_TOKENS}.get(kind, tower.max_positions)
    return ReaderCard(
        name=located.name,
        fingerprint="",
        licence=licence_of(tower.folder),
        source=located.source,
        selects=kind != "question-answering",
        extracts=kind != "cross-encoder",
        input_style="dpr" if kind == "dpr" else "pair",
        zero_token_types=kind == "dpr",
        final_separator=kind != "dpr",
        max_tokens=min(longest, max_tokens(tower)),
        retrieval_weight=CROSS_ENCODER_RETRIEVAL_WEIGHT if kind == "cross-encoder" else 0.0,
    )
