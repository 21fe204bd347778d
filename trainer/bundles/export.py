"""From a checkpoint to a bundle, once: `export` writes it where the user wants it, `cached_bundle` into a cache.

Only making a bundle needs torch and the `train` extra.
"""

from __future__ import annotations

import importlib
import importlib.util
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, Unpack, get_args

from dpr_lance.checks import checked_choice
from dpr_lance.encoders.bundle import open_bundle, write_bundle
from dpr_lance.encoders.card import DEFAULT_PRECISION, EncoderCard, Precision
from dpr_lance.errors import InvalidInputError, MissingExtraError

from ..checkpoints.description import CONVERSION_VERSION, read_checkpoint
from ..checkpoints.locate import CheckpointSource, Named, Revision, locate
from ..checkpoints.overrides import Overrides
from .cache import CacheEntry

NEEDED = ("torch", "transformers", "safetensors", "onnx")
"""Packages of the `train` extra."""


def export(
    source: CheckpointSource,
    out: str | Path,
    *,
    precision: Precision = DEFAULT_PRECISION,
    max_tokens: int | None = None,
    base: Named | None = None,
    revision: Revision = None,
    replace: bool = False,
    **settings: Unpack[Overrides],
) -> EncoderCard:
    """Make a bundle of the checkpoint `source` in the folder `out` and return its card.

    `source`: a DPR pair (two folders or Hub names as (question, passage), `dpr-single-nq`, `dpr-multiset`, or a folder
    with question/ and passage/), a sentence-transformers folder or Hub name, any BERT-family folder or Hub name, or an
    original DPR `.cp` file, which needs `base`, the model it was trained from. `settings` (pooling, normalise,
    question_prefix and the others of `Overrides`) win over the checkpoint's files; None leaves one to them.
    `max_tokens` is the length of questions and passages. `revision` pins Hub repositories. `replace` lets the bundle
    take the place of an older one. Nothing is written before the fp32 graph was compared with torch.

    Raises `MissingExtraError` without torch, `EncoderError` when the checkpoint is incomplete, not supported, or does
    not name its pooling or normalisation, `InvalidInputError` for impossible arguments.
    """
    checked_choice(precision, "precision", get_args(Precision))
    out = Path(out)
    check_free(out, replace=replace)
    task = f"making a bundle of the checkpoint {source!r}"
    check_installed(task)
    if max_tokens is not None:
        settings |= {"question_max_tokens": max_tokens, "passage_max_tokens": max_tokens}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        if isinstance(source, str | Path) and Path(source).is_file():
            pinned = revision if isinstance(revision, str) else None
            located = imported("checkpoints.dpr_cp", task).unpack(
                Path(source), base, scratch / "unpacked", revision=pinned
            )
        else:
            located = locate(source, revision=revision)
        # Read before torch is imported, which takes seconds: a wrong name is reported at once.
        checkpoint = read_checkpoint(located, settings)
        files, fingerprint = imported("bundles.conversion", task).convert(checkpoint, scratch, precision=precision)
        card = checkpoint.card(fingerprint)
        write_bundle(out, card, files, precision=precision, replace=replace)
    return card


def cached_bundle(
    source: CheckpointSource, *, precision: Precision = DEFAULT_PRECISION, revision: Revision = None
) -> Path:
    """Return the folder of the bundle of `source` in the cache, making it at the first call.

    A local checkpoint is converted again when one of its files has changed. A Hub checkpoint stays at the commit of the
    first call, so that the encoder of a table does not change, until another `revision` is named or the folder is
    deleted; once cached, it needs no connection. Raises as `export` does.
    """
    checked_choice(precision, "precision", get_args(Precision))
    entry = CacheEntry(source, precision, revision, CONVERSION_VERSION)
    make = partial(export, source, precision=precision, revision=revision, replace=True)
    return entry.folder(make, open_bundle)


def check_free(out: Path, *, replace: bool) -> None:
    """Raise `InvalidInputError` when something is at `out` and may not be replaced."""
    if out.exists() and not replace:
        raise InvalidInputError(f"{out} exists: choose another place, or allow to replace it")


def check_installed(task: str) -> None:
    """Raise `MissingExtraError` when a package that the task needs is missing, without importing any."""
    for name in NEEDED:
        try:
            found = importlib.util.find_spec(name) is not None
        except ValueError:  # another module has taken its name
            found = False
        if not found:
            raise MissingExtraError(task, "train")


def imported(name: str, task: str) -> Any:  # noqa: ANN401 - a module
    """Return a module of the trainer that needs torch; raises `MissingExtraError` without it."""
    try:
        return importlib.import_module(f"dpr_lance.trainer.{name}")
    except ModuleNotFoundError as error:
        raise MissingExtraError(task, "train") from error
