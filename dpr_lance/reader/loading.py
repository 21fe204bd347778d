"""Get a reader by its name: the packaged one, a bundle folder, or a checkpoint."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import get_args

from dpr_lance.checks import checked_choice, checked_path
from dpr_lance.encoders.bundle_folder import MANIFEST
from dpr_lance.encoders.card import DEFAULT_PRECISION, Precision
from dpr_lance.errors import MissingExtraError, ReaderError
from dpr_lance.reader.bundle import open_reader_bundle
from dpr_lance.reader.onnx_reader import Reader

DEFAULT_READER = "MiniLM-reader"
PACKAGED = Path(__file__).parent / "packaged"
"""Holds one bundle folder for each packaged reader, under its name."""

NAMES = "give a packaged name, a bundle folder, or a checkpoint"
"""What names a reader, for error messages."""


def load_reader(source: str | Path, *, precision: str | None = None, threads: int | None = None) -> Reader:
    """Return the reader that `source` names.

    `source`: a packaged name (`DEFAULT_READER`), a bundle folder, or a checkpoint: a folder or a Hub name. A checkpoint
    becomes a bundle once, in the user's cache, which needs the `train` extra. `precision` (`int8`, `fp16`, `fp32`)
    chooses for a checkpoint (default int8); a bundle has the one it has. `threads`: as for `Reader`.
    Raises `ReaderError` when nothing usable is there, `MissingExtraError` when a checkpoint needs the extra.
    """
    checked_path(source, "source", NAMES)
    if precision is not None:
        checked_choice(precision, "precision", get_args(Precision))
    bundle = open_reader_bundle(_bundle_folder(source) or _from_checkpoint(source, precision or DEFAULT_PRECISION))
    if precision not in (None, bundle.precision):
        raise ReaderError(
            f"{bundle.folder} holds {bundle.precision} weights, not {precision!r}: leave `precision` out, or export "
            f"the checkpoint it was made from ({bundle.card.source or 'unknown'}) with that precision"
        )
    return Reader(bundle, threads=threads)


def packaged_readers() -> list[str]:
    """Return the names of the readers inside the package."""
    return sorted(manifest.parent.name for manifest in PACKAGED.glob(f"*/{MANIFEST}"))


def _bundle_folder(source: str | Path) -> Path | None:
    """Return the folder of a packaged name or of a (perhaps damaged) bundle; None for a checkpoint."""
    if isinstance(source, str):
        if source in packaged_readers():
            return PACKAGED / source
        if source == DEFAULT_READER:
            raise ReaderError(f"this installation holds no reader {source!r}: name a bundle folder or a checkpoint")
    folder = Path(source)
    if folder.is_file() and folder.suffix == ".onnx":
        raise ReaderError(f"{folder} is a single ONNX file; name the bundle folder it belongs to")
    if (folder / MANIFEST).exists() or any(folder.glob("*.onnx")):
        return folder
    if isinstance(source, Path) and not folder.exists():
        raise ReaderError(
            f"{folder} does not exist; name a bundle folder, a checkpoint, or one of {packaged_readers()}"
        )
    return None


def _from_checkpoint(source: str | Path, precision: str) -> Path:
    """Return the cached bundle of a checkpoint; the trainer makes it when it is not there yet."""
    try:
        export = importlib.import_module("dpr_lance.trainer.bundles.export_reader")
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"the reader {str(source)!r} is a checkpoint, and importing one", "train") from error
    return Path(export.cached_reader_bundle(source, precision=precision))
