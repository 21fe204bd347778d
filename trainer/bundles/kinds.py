"""What a checkpoint is: an encoder, a reader, or a late-interaction model. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ..checkpoints.late_interaction import is_late_interaction
from ..checkpoints.locate import CheckpointSource, Revision, locate
from ..checkpoints.readers import reader_kind

CheckpointKind = Literal["encoder", "reader", "late-interaction"]


def checkpoint_kind(source: CheckpointSource, *, revision: Revision = None) -> CheckpointKind:
    """Return what `source` is, from the description next to its weights; raises `EncoderError` when it is not there.

    What is not recognised as one of the others is taken for an encoder.
    """
    if isinstance(source, tuple) or Path(source).is_file():
        return "encoder"
    return kind_in(locate(source, revision=revision).root)


def kind_in(folder: Path) -> CheckpointKind:
    """Return what the checkpoint in `folder` is."""
    if is_late_interaction(folder):
        return "late-interaction"
    return "reader" if reader_kind(folder) else "encoder"
