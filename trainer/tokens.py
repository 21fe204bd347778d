"""Texts as token ids, made once: flat arrays with offsets, padded chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer
from torch import Tensor

from dpr_lance.encoders.card import Side
from dpr_lance.errors import InvalidInputError

from .batches import Indices
from .checkpoints.description import Checkpoint

Inputs: TypeAlias = dict[str, Tensor]
"""Of `TowerModel.forward`, each int64 [b, s]."""

WINDOW = 4096
"""Texts that are tokenised at once."""


@dataclass(frozen=True)
class TokenisedTexts:
    """The token ids of many texts, one after another: 4 bytes per token, 5 with token types."""

    ids: NDArray[np.int32]
    starts: NDArray[np.int64]
    """[n + 1]: text i has the ids from starts[i] to starts[i + 1]."""
    types: NDArray[np.int8] | None
    padding: int
    truncated: NDArray[np.bool_]
    """[n]: whether the encoder does not read the end of a text."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text."""
        return np.diff(self.starts)

    def inputs(self, rows: Indices, device: torch.device) -> Inputs:
        """Return ids, mask and types of these texts, padded to the longest of them; on a GPU to a multiple of 8."""
        lengths = self.starts[rows + 1] - self.starts[rows]
        width = int(lengths.max())
        width = -(-width // 8) * 8 if device.type == "cuda" else width
        mask = np.arange(width) < lengths[:, None]  # [b, s]
        source = np.concatenate([np.arange(self.starts[row], self.starts[row + 1]) for row in rows])
        ids = np.full(mask.shape, self.padding, dtype=np.int64)
        ids[mask] = self.ids[source]
        found = {"input_ids": ids, "attention_mask": mask.astype(np.int64)}
        if self.types is not None:
            types = np.zeros(mask.shape, dtype=np.int64)
            types[mask] = self.types[source]
            found["token_type_ids"] = types
        return {name: torch.from_numpy(value).to(device, non_blocking=True) for name, value in found.items()}


def tokenise(
    checkpoint: Checkpoint,
    tokenizer: Tokenizer,
    side: Side,
    texts: Sequence[str] | Sequence[tuple[str, str]],
    *,
    max_tokens: int | None = None,
) -> TokenisedTexts:
    """Tokenise questions (strings) or passages ((title, text) pairs) exactly as the exported encoder does.

    `max_tokens` is a shorter limit than the checkpoint's own. Raises `InvalidInputError` for a text that is blank to
    the tokenizer.
    """
    tower = getattr(checkpoint, side)
    padding = tokenizer.padding["pad_id"] if tokenizer.padding else 0
    typed = tower.token_types and not checkpoint.zero_token_types
    ids: list[NDArray[np.int32]] = []
    types: list[NDArray[np.int8]] = []
    truncated: list[bool] = []
    for row, (encoding, blank) in enumerate(_encodings(checkpoint, tokenizer, side, texts, max_tokens)):
        if blank:
            raise InvalidInputError(f"a {side} is blank to the encoder's tokenizer: {texts[row]!r:.80}")
        ids.append(np.array(encoding.ids, dtype=np.int32))
        truncated.append(bool(encoding.overflowing))
        if typed:
            types.append(np.array(encoding.type_ids, dtype=np.int8))
    starts = np.concatenate([[0], np.cumsum([len(row) for row in ids], dtype=np.int64)]).astype(np.int64)
    return TokenisedTexts(
        ids=np.concatenate(ids) if ids else np.empty(0, np.int32),
        starts=starts,
        types=np.concatenate(types) if types else None,
        padding=padding,
        truncated=np.array(truncated, dtype=np.bool_),
    )


def blank_texts(
    checkpoint: Checkpoint, tokenizer: Tokenizer, side: Side, texts: Sequence[str] | Sequence[tuple[str, str]]
) -> NDArray[np.bool_]:
    """Return bool[n]: whether the tokenizer makes no token of a text, so that it has no vector."""
    found = [blank for _, blank in _encodings(checkpoint, tokenizer, side, texts, None)]
    return np.array(found, dtype=np.bool_)


def _encodings(
    checkpoint: Checkpoint,
    tokenizer: Tokenizer,
    side: Side,
    texts: Sequence[str] | Sequence[tuple[str, str]],
    max_tokens: int | None,
) -> Iterator[tuple[Encoding, bool]]:
    """Yield each text as tokens, cut at the limit, and whether it has only the tokens that every text has."""
    limit = checkpoint.max_tokens(side)
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.enable_truncation(min(limit, max_tokens or limit))
    nothing = len(tokenizer.encode(checkpoint.prefix(side)))
    for start in range(0, len(texts), WINDOW):
        window = [
            checkpoint.question_input(text) if isinstance(text, str) else checkpoint.passage_input(*text)
            for text in texts[start : start + WINDOW]
        ]
        for encoding in tokenizer.encode_batch(window):
            yield encoding, len(encoding) <= nothing
