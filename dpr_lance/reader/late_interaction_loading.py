"""Get a late-interaction model by its name, and whatever re-ranks by the folder or checkpoint that it is in."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, get_args

from dpr_lance.checks import checked_choice, checked_path
from dpr_lance.encoders.bundle_folder import MANIFEST, kind_of_bundle
from dpr_lance.encoders.bundle_source import check_precision
from dpr_lance.encoders.card import DEFAULT_PRECISION, Precision
from dpr_lance.encoders.loading import cache_folder
from dpr_lance.errors import EncoderError, MissingExtraError, ReaderError
from dpr_lance.reader.late_interaction import LateInteraction
from dpr_lance.reader.late_interaction_bundle import CARD, open_late_interaction_bundle
from dpr_lance.reader.loading import load_reader, packaged_readers
from dpr_lance.reader.onnx_reader import Reader

LATE_INTERACTION = "late-interaction"
"""Names the late-interaction bundle in the user's cache."""
_NAMES = "give a bundle folder or a checkpoint"


def load_late_interaction(
    source: str | Path | None = None, *, precision: str | None = None, threads: int | None = None
) -> LateInteraction:
    """Return the late-interaction model that `source` names.

    `source`: a bundle folder, or a checkpoint: a folder or a Hub name in the layout of ColBERT, of PyLate or of
    sentence-transformers, which becomes a bundle once, in the user's cache, and needs the `train` extra for that.
    None: the bundle `late-interaction` in the cache. `precision` (`int8`, `fp16`, `fp32`) chooses for a checkpoint
    (default int8); a bundle has the one it has.
    Raises `ReaderError` when nothing usable is there, `MissingExtraError` when a checkpoint needs the extra.
    """
    if precision is not None:
        checked_choice(precision, "precision", get_args(Precision))
    if source is None:
        source = cache_folder() / LATE_INTERACTION
        if not (source / MANIFEST).is_file():
            raise ReaderError(
                f"no late-interaction model is named (source=None), and the cache has none: make one of a ColBERT "
                f"checkpoint with `dpr-lance export CHECKPOINT {source}`, or name a bundle folder"
            )
    folder = checked_path(source, "source", _NAMES)
    if not (folder / MANIFEST).is_file():
        module = _exporting("export_late_interaction", source)
        folder = module.cached_late_interaction_bundle(source, precision=precision or DEFAULT_PRECISION)
    bundle = open_late_interaction_bundle(folder)
    check_precision(bundle, precision, ReaderError)
    return LateInteraction(bundle, threads=threads)


def load_reranker(source: str | Path) -> Reader | LateInteraction:
    """Return the reader or the late-interaction model that `source` names: a name, a bundle folder or a checkpoint.

    Raises as `load_reader` and `load_late_interaction` do.
    """
    if source == LATE_INTERACTION:
        return load_late_interaction()
    if isinstance(source, str) and source in packaged_readers():
        return load_reader(source)
    folder = checked_path(source, "source", _NAMES)
    if kind_of_bundle(folder) == CARD or (not any(folder.glob("*.onnx")) and _is_late_interaction(source, folder)):
        return load_late_interaction(source)
    return load_reader(source)


def _is_late_interaction(source: str | Path, folder: Path) -> bool:
    """Return whether a checkpoint is one of late interaction; False for what is not there."""
    if (folder / "config.json").is_file():
        return bool(_exporting("kinds", source).kind_in(folder) == LATE_INTERACTION)
    if folder.exists() or isinstance(source, Path) or "/" not in source:
        return False
    try:
        return bool(_exporting("kinds", source).checkpoint_kind(source) == LATE_INTERACTION)
    except EncoderError:
        return False  # the reader's own error says what is wrong


def _exporting(name: str, source: str | Path) -> Any:  # noqa: ANN401 - a module
    try:
        return importlib.import_module(f"dpr_lance.trainer.bundles.{name}")
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{str(source)!r} is a checkpoint, and importing one", "train") from error
