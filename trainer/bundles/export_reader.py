"""From a reader's checkpoint to its bundle, once: `export_reader` writes it where the user wants it.

Only making a bundle needs torch and the `train` extra.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import get_args

from dpr_lance.checks import checked_choice
from dpr_lance.encoders.card import DEFAULT_PRECISION, Precision
from dpr_lance.errors import EncoderError, ReaderError
from dpr_lance.reader.bundle import open_reader_bundle, write_reader_bundle
from dpr_lance.reader.card import ReaderCard

from ..checkpoints.locate import Named, locate
from ..checkpoints.readers import READER_CONVERSION_VERSION, read_reader
from .cache import CacheEntry
from .export import check_free, check_installed, imported


def export_reader(
    source: Named,
    out: str | Path,
    *,
    precision: Precision = DEFAULT_PRECISION,
    max_tokens: int | None = None,
    name: str | None = None,
    revision: str | None = None,
    replace: bool = False,
) -> ReaderCard:
    """Make a bundle of the reader `source` in the folder `out` and return its card.

    `source`: a folder or a Hub name of a `DPRReader` (facebook/dpr-reader-single-nq-base), of a cross-encoder (a
    sentence-transformers folder, or a BERT-family classifier with one label: it selects), of a BERT-family
    question-answering model (it extracts), or a reader that `dpr-lance train-reader` trained. Scores are raw logits,
    without the sigmoid that some cross-encoders name. `max_tokens` is the length of inputs, where another than the
    checkpoint's is wanted. `revision` pins a Hub repository. `replace` lets the bundle take the place of an older one.
    Nothing is written before the fp32 graph was compared with torch.

    Raises `MissingExtraError` without torch, `ReaderError` when the checkpoint is incomplete or is not a reader that is
    supported, `InvalidInputError` for impossible arguments.
    """
    checked_choice(precision, "precision", get_args(Precision))
    out = Path(out)
    check_free(out, replace=replace)
    task = f"making a bundle of the reader {str(source)!r}"
    check_installed(task)
    with tempfile.TemporaryDirectory() as scratch, reader_errors():
        # Read before torch is imported, which takes seconds: a wrong name is reported at once.
        checkpoint = read_reader(locate(source, revision=revision), tokens=max_tokens, name=name)
        convert = imported("bundles.reader_conversion", task).convert_reader
        files, fingerprint = convert(checkpoint, Path(scratch), precision=precision)
        card = dataclasses.replace(checkpoint.card, fingerprint=fingerprint)
        write_reader_bundle(out, card, files, precision=precision, replace=replace)
    return card


def cached_reader_bundle(
    source: Named, *, precision: Precision = DEFAULT_PRECISION, revision: str | None = None
) -> Path:
    """Return the folder of the bundle of the reader `source` in the cache, making it at the first call.

    A local checkpoint is converted again when one of its files has changed; a Hub checkpoint stays at the commit of the
    first call, until another `revision` is named. Raises as `export_reader` does.
    """
    checked_choice(precision, "precision", get_args(Precision))
    entry = CacheEntry(source, precision, revision, ("reader", READER_CONVERSION_VERSION))
    make = partial(export_reader, source, precision=precision, revision=revision, replace=True)
    return entry.folder(make, open_reader_bundle)


@contextmanager
def reader_errors() -> Iterator[None]:
    """Raise what is wrong with a checkpoint as `ReaderError`."""
    try:
        yield
    except EncoderError as error:
        raise ReaderError(str(error)) from error
