"""From a late-interaction checkpoint to its bundle, once.

Only making a bundle needs torch and the `train` extra.
"""

from __future__ import annotations

import dataclasses
import tempfile
from functools import partial
from pathlib import Path
from typing import get_args

from dpr_lance.checks import checked_choice
from dpr_lance.encoders.card import DEFAULT_PRECISION, Precision
from dpr_lance.reader.late_interaction_bundle import (
    LateInteractionCard,
    open_late_interaction_bundle,
    write_late_interaction_bundle,
)

from ..checkpoints.late_interaction import LATE_INTERACTION_CONVERSION_VERSION, read_late_interaction
from ..checkpoints.locate import Named, locate
from .cache import CacheEntry
from .export import check_free, check_installed, imported
from .export_reader import reader_errors


def export_late_interaction(
    source: Named,
    out: str | Path,
    *,
    precision: Precision = DEFAULT_PRECISION,
    max_tokens: int | None = None,
    name: str | None = None,
    revision: str | None = None,
    replace: bool = False,
) -> LateInteractionCard:
    """Make a bundle of the late-interaction model `source` in the folder `out` and return its card.

    `source`: a folder or a Hub name in ColBERT's layout (`colbert-ir/colbertv2.0`,
    `answerdotai/answerai-colbert-small-v1`), in PyLate's, or in that of sentence-transformers' `MultiVectorEncoder`.
    `max_tokens` is the length of passages, where another than the checkpoint's is wanted. `revision` pins a Hub
    repository. `replace` lets the bundle take the place of an older one. Nothing is written before the fp32 graph was
    compared with torch.

    Raises `MissingExtraError` without torch, `ReaderError` when the checkpoint is incomplete or not supported,
    `InvalidInputError` for impossible arguments.
    """
    checked_choice(precision, "precision", get_args(Precision))
    out = Path(out)
    check_free(out, replace=replace)
    task = f"making a bundle of the late-interaction model {str(source)!r}"
    check_installed(task)
    with tempfile.TemporaryDirectory() as scratch, reader_errors():
        checkpoint = read_late_interaction(locate(source, revision=revision), tokens=max_tokens, name=name)
        convert = imported("bundles.late_interaction_conversion", task).convert_late_interaction
        files, fingerprint = convert(checkpoint, Path(scratch), precision=precision)
        card = dataclasses.replace(checkpoint.card, fingerprint=fingerprint)
        write_late_interaction_bundle(out, card, files, precision=precision, replace=replace)
    return card


def cached_late_interaction_bundle(
    source: Named, *, precision: Precision = DEFAULT_PRECISION, revision: str | None = None
) -> Path:
    """Return the folder of the bundle of `source` in the cache, making it at the first call.

    A local checkpoint is converted again when one of its files has changed; a Hub checkpoint stays at the commit of the
    first call, until another `revision` is named. Raises as `export_late_interaction` does.
    """
    checked_choice(precision, "precision", get_args(Precision))
    entry = CacheEntry(source, precision, revision, ("late-interaction", LATE_INTERACTION_CONVERSION_VERSION))
    make = partial(export_late_interaction, source, precision=precision, revision=revision, replace=True)
    return entry.folder(make, open_late_interaction_bundle)
