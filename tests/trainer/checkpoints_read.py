"""Checkpoints as the tests read them, and one that would run code."""

import torch
from dpr_lance.trainer.checkpoints.description import read_checkpoint
from dpr_lance.trainer.checkpoints.locate import locate
from dpr_lance.trainer.checkpoints.overrides import Overrides

IDS = torch.tensor([[2, 5, 9, 12, 3]])
MASK = torch.ones_like(IDS)


def read(source, **said):
    return read_checkpoint(locate(source), Overrides(**said))


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))
