"""What a reader's training starts from: a reader, or a transformer with new heads."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import nn

from dpr_lance.reader.card import ReaderCard

from ..batches import seed_of
from ..checkpoints.description import read_checkpoint
from ..checkpoints.locate import locate
from ..checkpoints.overrides import Overrides
from ..checkpoints.readers import read_reader, reader_kind
from ..checkpoints.starting_point import starting_checkpoint
from ..checkpoints.tokenizer import load_tokenizer, load_tower_tokenizer
from ..checkpoints.towers import load_tower
from .config import ReaderRun
from .model import ReaderModel, keep_layers
from .pretrained import load_reader_model
from .student import ReaderStudent

TRAINING = "training"
"""Stands for the fingerprint on the card of a reader in training."""


def starting_reader(run: ReaderRun) -> ReaderStudent:
    """Return the reader of the checkpoint `run.base` with the layers and the heads that the run asks for.

    Heads that the checkpoint does not have are new. Raises `EncoderError` when it is missing or not supported,
    `InvalidInputError` for impossible layers and lengths.
    """
    torch.manual_seed(seed_of(run.recipe.seed, "heads"))
    if run.base is None or reader_kind(locate(run.base).root) is None:
        model, card, tokenizer, longest = _transformer(run)
    else:
        known = read_reader(locate(run.base))
        model, card = load_reader_model(known), known.card
        tokenizer, longest = load_tower_tokenizer(known.tower), known.tower.max_positions
    width = int(model.config.hidden_size)
    if model.select is None:
        model.select = nn.Linear(width, 1)
    if run.extracts and model.span is None:
        model.span = nn.Linear(width, 2)
    if not run.extracts:
        model.span = None
    keep_layers(model, run.layers, run.span_layers if run.extracts else None)
    card = dataclasses.replace(
        card,
        name=Path(run.out).name,
        fingerprint=TRAINING,
        selects=True,
        extracts=run.extracts,
        input_style=run.input_style or card.input_style,
        max_tokens=min(run.max_tokens, longest),
        question_max_tokens=run.question_max_tokens,
        title_max_tokens=run.title_max_tokens,
        licence=run.licence or card.licence,
        # They were chosen for other weights.
        retrieval_weight=0.0,
        answer_threshold=0.0,
    )
    return ReaderStudent(model, card, tokenizer)


def _transformer(run: ReaderRun) -> tuple[ReaderModel, ReaderCard, Tokenizer, int]:
    """Return a reader with new heads on an encoder's transformer; selection through a dense layer, as in BERT."""
    if run.base is None:
        checkpoint = starting_checkpoint(None, None)
    else:
        checkpoint = read_checkpoint(locate(run.base), Overrides(pooling="cls", normalise=False))
    tower = checkpoint.passage
    model = ReaderModel(load_tower(checkpoint, tower).transformer, pools=True)
    card = ReaderCard(name=checkpoint.name, fingerprint=TRAINING, licence=checkpoint.licence, source=checkpoint.source)
    return model, card, load_tokenizer(checkpoint), tower.max_positions
