"""Get a reader by its name: the packaged one, a bundle folder, or a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from dpr_lance.checks import checked_choice, checked_path
from dpr_lance.encoders.bundle_source import BundleSource, check_precision
from dpr_lance.encoders.card import Precision
from dpr_lance.errors import ReaderError
from dpr_lance.reader.bundle import open_reader_bundle
from dpr_lance.reader.onnx_reader import Reader

DEFAULT_READER = "MiniLM-reader"
PACKAGED = Path(__file__).parent / "packaged"
"""Holds one bundle folder for each packaged reader, under its name."""

READERS = BundleSource("reader", PACKAGED, ("bundles.export_reader", "cached_reader_bundle"), ReaderError)
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
    bundle = open_reader_bundle(READERS.folder(source, precision))
    check_precision(bundle, precision, ReaderError)
    return Reader(bundle, threads=threads)


def packaged_readers() -> list[str]:
    """Return the names of the readers inside the package."""
    return READERS.packaged_names()
