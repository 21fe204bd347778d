"""The reader in training: the model with its tokenizer and card, which a checkpoint of the run holds together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from dpr_lance.reader.bundle import CARD
from dpr_lance.reader.card import ReaderCard
from dpr_lance.reader.inputs import ReaderInputs, Window

from ..resumable import TrainableModule
from .model import ReaderModel, load_weights, save_model

READER = "reader"
"""The folder of a reader in the checkpoints of a run."""
_TYPED = ("bert", "electra")
"""Families that distinguish question and passage by token types."""


class Logits(NamedTuple):
    """What the heads give for b windows of at most s tokens: select [b], start and end [n, s].

    Without spans, there is no start and no end.
    """

    select: Tensor
    start: Tensor | None
    end: Tensor | None


class ReaderStudent(TrainableModule):
    """A `ReaderModel` that reads windows, as the reader of its bundle will."""

    part = READER

    def __init__(self, model: ReaderModel, card: ReaderCard, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.reader = model
        self.card = card
        self.tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.inputs = ReaderInputs(self.tokenizer, card)
        config = model.config
        self._padding = int(config.pad_token_id or 0)
        typed = config.model_type in _TYPED and config.type_vocab_size > 1
        self._typed = typed and not card.zero_token_types
        model.bert.set_attn_implementation("sdpa")  # type: ignore[operator]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.reader.device

    def forward(self, windows: Sequence[Window], *, spans_of: Sequence[int] | None = None) -> Logits:
        """Return the logits of windows, padded to the longest of them; on a GPU to a multiple of 8.

        Spans are read in the n windows `spans_of` alone (None: in all of them).
        """
        lengths = np.array([len(window.tokens.ids) for window in windows])
        width = int(lengths.max())
        width = -(-width // 8) * 8 if self.device.type == "cuda" else width
        mask = np.arange(width) < lengths[:, None]  # [b, s]
        ids = np.full(mask.shape, self._padding, dtype=np.int64)
        ids[mask] = np.concatenate([window.tokens.ids for window in windows])
        inputs = [ids, mask.astype(np.int64)]
        if self._typed:
            types = np.zeros(mask.shape, dtype=np.int64)
            types[mask] = np.concatenate([window.tokens.types for window in windows])
            inputs.append(types)
        rows = None if spans_of is None else torch.tensor(spans_of, dtype=torch.int64, device=self.device)
        given = [torch.from_numpy(values).to(self.device) for values in inputs]
        found = self.reader.read(given[0], given[1], given[2] if self._typed else None, spans_of=rows)
        start, end = found[1:] if len(found) > 1 else (None, None)
        return Logits(found[0], start, end)

    def save(self, folder: Path) -> None:
        """Write a checkpoint that `export` and `train-reader` read."""
        save_model(self.reader, folder)
        self.tokenizer.save(str(folder / "tokenizer.json"))
        described = {"model_max_length": self.card.max_tokens, "tokenizer_class": "PreTrainedTokenizerFast"}
        normalizer = json.loads(self.tokenizer.to_str())["normalizer"] or {}
        if normalizer.get("type") == "BertNormalizer":
            described["do_lower_case"] = normalizer["lowercase"]
        (folder / "tokenizer_config.json").write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
        (folder / CARD).write_text(self.card.to_json() + "\n", encoding="utf-8")

    def restore(self, folder: Path) -> None:
        """Put the weights that `save` wrote to `folder` into the model, bit by bit."""
        load_weights(self.reader, folder)
