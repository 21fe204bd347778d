"""From a late-interaction checkpoint to the files of its bundle: a graph of token vectors, and the tokenizer."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer
from torch import Tensor, nn

from dpr_lance.encoders.bundle_folder import TOKENIZER
from dpr_lance.encoders.card import Precision
from dpr_lance.errors import EncoderError
from dpr_lance.reader.late_interaction_bundle import GRAPH, LateInteractionCard

from ..checkpoints.late_interaction import LATE_INTERACTION_CONVERSION_VERSION, LateInteractionCheckpoint
from ..checkpoints.tokenizer import load_tower_tokenizer
from ..checkpoints.towers import load_dense, load_transformer, read_weights
from .calibration_text import single_sequences
from .conversion import GraphSource, compare_vectors
from .onnx_graph import Outputs, probes

VECTORS: Outputs = {"vectors": {0: "batch", 1: "sequence"}}
_NOT_OF_THE_GRAPH = ("name", "fingerprint", "licence", "source", "retrieval_weight")


class TokenVectors(nn.Module):
    """Transformer, projection and unit length: token ids in, one vector for each token out."""

    def __init__(self, transformer: nn.Module, projection: nn.Module, *, unseen: int | None) -> None:
        """Make a module in which no token attends to the token `unseen`, which has a vector all the same."""
        super().__init__()
        self.transformer = transformer
        self.projection = projection
        self.unseen = unseen

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Return vectors [b, s, d] for inputs of shape [b, s]."""
        if self.unseen is not None:
            attention_mask = attention_mask * (input_ids != self.unseen).to(attention_mask.dtype)
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        vectors: Tensor = self.projection(self.transformer(**inputs).last_hidden_state)
        return nn.functional.normalize(vectors, dim=-1)


def convert_late_interaction(
    checkpoint: LateInteractionCheckpoint, scratch: Path, *, precision: Precision
) -> tuple[dict[str, Path], str]:
    """Write the graph in `precision` and the tokenizer into `scratch`; return files and fingerprint.

    Raises `EncoderError` when a file of the checkpoint is missing or does not fit, or when the graph differs from torch
    more than its precision allows.
    """
    card, tower = checkpoint.card, checkpoint.tower
    tokenizer = load_tower_tokenizer(tower)
    tokenizer.no_padding()
    _register(tokenizer, card)
    tokenizer.save(str(scratch / TOKENIZER))
    settings = {name: value for name, value in dataclasses.asdict(card).items() if name not in _NOT_OF_THE_GRAPH}
    digest = hashlib.sha256(json.dumps([LATE_INTERACTION_CONVERSION_VERSION, precision, settings]).encode())
    digest.update(tokenizer.to_str().encode())
    padded = Tokenizer.from_str(tokenizer.to_str())
    padded.enable_padding()
    graph = GraphSource(
        load_token_vectors(checkpoint, tokenizer),
        VECTORS,
        token_types=tower.token_types,
        feeds=probes(padded, token_types=tower.token_types, max_tokens=card.passage_max_tokens),
        sequences=partial(single_sequences, tokenizer, card.passage_max_tokens),
        compare=compare_vectors,
        place=tower.folder,
    )
    files = {GRAPH: graph.convert(scratch / GRAPH, precision, digest), TOKENIZER: scratch / TOKENIZER}
    return files, digest.hexdigest()[:16]


def load_token_vectors(checkpoint: LateInteractionCheckpoint, tokenizer: Tokenizer) -> TokenVectors:
    """Load the model in fp32 with eager attention, in evaluation mode.

    Raises `EncoderError` when a weight is missing, has another shape, or cannot be read: none stays random.
    """
    card, tower = checkpoint.card, checkpoint.tower
    transformer = load_transformer(transformers.AutoModel, tower)
    projection: Any = nn.Sequential(*map(load_dense, checkpoint.dense))
    if not checkpoint.dense:
        weight = read_weights(tower.folder).get("linear.weight")
        if weight is None or tuple(weight.shape) != (card.dimension, tower.hidden):
            raise EncoderError(
                f"{tower.folder}: the projection linear.weight is {None if weight is None else tuple(weight.shape)}, "
                f"not {(card.dimension, tower.hidden)}"
            )
        projection = nn.Linear(tower.hidden, card.dimension, bias=False)
        with torch.no_grad():
            projection.weight.copy_(weight)
    unseen = None
    if card.augmented_tokens:
        unseen = tokenizer.token_to_id(card.augmentation)
        if unseen is None:
            raise EncoderError(
                f"{tower.folder}: the tokenizer has no token {card.augmentation!r}, which fills questions"
            )
    return TokenVectors(transformer, projection, unseen=None if card.attends_to_augmentation else unseen).eval()


def _register(tokenizer: Tokenizer, card: LateInteractionCard) -> None:
    """Let the tokenizer read a marker that it has, such as [unused0], as one token where it stands before a text."""
    for prefix in (card.question_prefix, card.passage_prefix):
        for marker in (prefix, *prefix.split(None, 1)[:1]):
            if marker.strip() and tokenizer.token_to_id(marker) is not None:
                if tokenizer.encode(marker, add_special_tokens=False).tokens != [marker]:
                    tokenizer.add_special_tokens([AddedToken(marker, normalized=False, special=True)])
                break
