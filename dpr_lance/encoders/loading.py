"""Get an encoder by its name: a packaged one, a bundle folder, or a checkpoint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias, get_args

from dpr_lance.checks import checked_choice, checked_path, refused
from dpr_lance.encoders.bundle import open_bundle
from dpr_lance.encoders.bundle_source import BundleSource, check_precision
from dpr_lance.encoders.card import Precision
from dpr_lance.encoders.encoder import Encoder
from dpr_lance.encoders.onnx_encoder import OnnxEncoder
from dpr_lance.errors import EncoderError

Source: TypeAlias = str | Path | tuple[str, str]

DEFAULT_ENCODER = "all-MiniLM-L6-v2"
PACKAGED = Path(__file__).parent / "packaged"
"""Holds one bundle folder for each packaged encoder, under its name."""
ENCODERS = BundleSource("encoder", PACKAGED, ("bundles.export", "cached_bundle"), EncoderError)
CACHE_VARIABLE = "DPR_LANCE_CACHE"

NAMES = "give a packaged name, a bundle folder, a checkpoint, or a pair of checkpoints"
"""What names an encoder, for error messages."""


def load_encoder(source: Source, *, precision: str | None = None, threads: int | None = None) -> Encoder:
    """Return the encoder that `source` names.

    `source`: a packaged name (`DEFAULT_ENCODER`), a bundle folder, or a checkpoint: a folder, a Hub name, or a pair of
    either for question and passage. A checkpoint becomes a bundle once, in the user's cache, which needs the `train`
    extra. `precision` (`int8`, `fp16`, `fp32`) chooses for a checkpoint (default int8); a bundle has the one it has.
    Raises `EncoderError` when nothing usable is there, `MissingExtraError` when a checkpoint needs the extra.
    """
    check_named(source, "source")
    if precision is not None:
        checked_choice(precision, "precision", get_args(Precision))
    bundle = open_bundle(ENCODERS.folder(source, precision))
    check_precision(bundle, precision, EncoderError)
    return OnnxEncoder(bundle, threads=threads)


def check_named(source: object, name: str) -> None:
    """Raise `InvalidInputError` for what cannot name an encoder, or a pair of them; `name` is the argument's."""
    parts = source if isinstance(source, tuple) else (source,)
    if isinstance(source, tuple) and len(source) != 2:
        raise refused(name, source, f"a pair has two parts, (question encoder, passage encoder), not {len(source)}")
    for part in parts:
        checked_path(part, name, NAMES)


def packaged_names() -> list[str]:
    """Return the names of the encoders inside the package."""
    return ENCODERS.packaged_names()


def cache_folder() -> Path:
    """Return the folder of cached bundles: in DPR_LANCE_CACHE, else in dpr_lance under XDG_CACHE_HOME or ~/.cache."""
    named = os.environ.get(CACHE_VARIABLE)
    folder = Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "dpr_lance"
    return folder.expanduser() / "bundles"
