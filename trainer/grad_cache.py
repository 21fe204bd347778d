"""The exact gradient of a whole batch in the memory of a part of it (Gao et al. 2021, arXiv:2101.06983).

`direct` and `cached` encode the same length-sorted chunks with the same random numbers and give the same gradient.
`direct` keeps the graph of every chunk; `cached` keeps one at a time and encodes twice (4/3 of the work).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from dpr_lance.encoders.batches import length_batches
from dpr_lance.encoders.card import Side

from .batches import Indices, seed_of
from .tokens import Inputs, TokenisedTexts

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""From question vectors [B, d] and passage vectors [C, d] to a scalar."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Texts of one side that are encoded together."""

    side: Side
    rows: Indices
    """Positions of their vectors among those of their side."""
    texts: Indices
    tokens: int
    """With padding."""
    seed: int
    """Of dropout."""


@dataclass(frozen=True, slots=True)
class Passes:
    """How a chunk is encoded: the model, its inputs and its precision."""

    encode: Callable[[Side, Inputs], Tensor]
    texts: Mapping[Side, TokenisedTexts]
    device: torch.device
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext

    def vectors(self, chunk: Chunk) -> Tensor:
        """Return [b, d], always the same for the same chunk and weights."""
        torch.manual_seed(chunk.seed)
        with self.autocast():
            return self.encode(chunk.side, self.texts[chunk.side].inputs(chunk.texts, self.device))


def plan(texts: Mapping[Side, TokenisedTexts], rows: Mapping[Side, Indices], *, tokens: int, seed: int) -> list[Chunk]:
    """Return the chunks of a batch of these texts, each of at most `tokens` padded tokens."""
    found = []
    for side, wanted in rows.items():
        lengths = texts[side].lengths[wanted]
        for number, chunk in enumerate(length_batches(lengths, tokens)):
            padded = int(lengths[chunk].max()) * len(chunk)
            found.append(Chunk(side, chunk, wanted[chunk], padded, seed_of(seed, side, number)))
    return found


def direct(passes: Passes, chunks: Sequence[Chunk], loss: Loss) -> Tensor:
    """Add the gradient of `loss` to the weights' and return its value; every chunk's graph is in memory at once."""
    vectors = [passes.vectors(chunk) for chunk in chunks]
    value = loss(_joined("question", chunks, vectors), _joined("passage", chunks, vectors))
    value.backward()  # type: ignore[no-untyped-call]
    return value.detach()


def cached(passes: Passes, chunks: Sequence[Chunk], loss: Loss) -> Tensor:
    """Add the same gradient and return the same value with one chunk's graph in memory at a time."""
    with torch.no_grad():
        vectors = [passes.vectors(chunk) for chunk in chunks]
    sides: dict[Side, Tensor] = {
        "question": _joined("question", chunks, vectors).requires_grad_(),
        "passage": _joined("passage", chunks, vectors).requires_grad_(),
    }
    value = loss(sides["question"], sides["passage"])
    value.backward()  # type: ignore[no-untyped-call]
    for chunk in chunks:
        gradient = sides[chunk.side].grad
        if gradient is not None:
            passes.vectors(chunk).backward(gradient[torch.from_numpy(chunk.rows).to(gradient.device)])  # type: ignore[no-untyped-call]
    return value.detach()


def _joined(side: Side, chunks: Sequence[Chunk], vectors: Sequence[Tensor]) -> Tensor:
    mine = [number for number, chunk in enumerate(chunks) if chunk.side == side]
    rows = torch.cat([torch.from_numpy(chunks[number].rows) for number in mine])
    return torch.cat([vectors[number] for number in mine])[rows.argsort().to(vectors[0].device)]
