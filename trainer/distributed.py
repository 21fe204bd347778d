"""Several processes, one per GPU, on one batch: each encodes a part of it, all score the whole.

Started by torchrun. The gradient is that of one process: vectors are gathered, and a process's own keep their graph;
every process computes the loss of the whole batch; gradients are summed, not averaged, once per step.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn

from .batches import Indices

PATIENCE = timedelta(hours=2)
"""How long the others wait while the first process validates, mines or exports."""


@dataclass(frozen=True, slots=True)
class Group:
    """The processes of a run; one by default."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def part(self, rows: Indices) -> Indices:
        """Return the rows that this process encodes: every `size`-th."""
        return rows[self.rank :: self.size]

    def gather(self, vectors: Tensor, count: int) -> Tensor:
        """Return the vectors [count, d] of all processes in order; gradients flow to this one's own."""
        if self.size == 1:
            return vectors
        most = -(-count // self.size)
        padded = vectors.new_zeros((most, vectors.shape[1]))
        padded[: len(vectors)] = vectors.detach()
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        distributed.all_gather(parts, padded)
        parts[self.rank] = nn.functional.pad(vectors, (0, 0, 0, most - len(vectors)))
        # Row i of part r is row i · size + r of the batch.
        return torch.stack(parts, dim=1).flatten(0, 1)[:count]

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add the gradients of all processes, in each of them."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        distributed.all_reduce(flat)
        parts = torch.split(flat, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def agree(self, value: float) -> float:
        """Return the first process's value, in all of them; the others wait for it."""
        if self.size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64)
        if distributed.get_backend() == "nccl":
            shared = shared.cuda()
        distributed.broadcast(shared, 0)
        return float(shared)


def join() -> Group:
    """Return the group that torchrun started this process in; without torchrun a group of one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Group()
    if not distributed.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    return Group(distributed.get_rank(), size)


def leave() -> None:
    """End the group that `join` joined."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def device() -> torch.device:
    """Return where this process computes: its GPU, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
