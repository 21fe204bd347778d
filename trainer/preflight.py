"""Checks before work begins, so that hours of mining and training do not end at a missing file."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from dpr_lance.checks import checked_path
from dpr_lance.encoders.bundle import check_place
from dpr_lance.errors import InvalidInputError, StorageError

from . import run_checkpoints
from .bundles.export import check_installed
from .config import Task

BYTES_PER_PARAMETER = 12
"""In a checkpoint: a weight and two moments of the optimizer, in fp32."""
CHECKPOINTS = 3
"""At the same time: the last, the best, and the one that is being written."""


def check_places(run: Task, work: Path) -> None:
    """Raise when packages or a file of questions are missing, or when a folder cannot be written.

    `InvalidInputError` for the files and for a bundle that may not be replaced, `StorageError` for folders,
    `MissingExtraError` for packages, `EncoderError` for a damaged checkpoint of an interrupted run.
    """
    check_installed("training")
    out = checked_path(run.out, "out")
    check_place(out, replace=run.replace)
    for path in (*run.questions, *([run.dev] if run.dev is not None else [])):
        if not Path(path).exists():
            raise InvalidInputError(f"{path} does not exist: name a .json, .jsonl or BEIR folder of questions")
    for folder in (out.absolute().parent, work):
        _check_writable(folder)
    place = run_checkpoints.last(work)
    if place is not None:
        run_checkpoints.verified(place)


def check_space(work: Path, parameters: int) -> None:
    """Raise `StorageError` when the checkpoints of a model of `parameters` weights do not fit on the disk."""
    missing = max(1, CHECKPOINTS - len(list(work.glob("step-*"))))
    needed, free = missing * BYTES_PER_PARAMETER * parameters, shutil.disk_usage(work).free
    if free < needed:
        raise StorageError(
            f"{work} has {free / 1e9:.1f} GB free, and {missing} checkpoints of this encoder take {needed / 1e9:.1f} "
            f"GB: nothing has been trained; free space, or name another folder with work=..."
        )


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StorageError(
            f"{folder} cannot be written ({error.strerror or error}): nothing has been trained; name another folder"
        ) from error
