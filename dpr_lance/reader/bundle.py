"""The bundle of a reader: a folder that needs neither torch nor transformers.

reader.json        the card
reader.onnx        the graph: token ids in; `select` [b] out when it selects, `start` and `end` [b, s] when it
                   extracts. It may have an input `rows`: how many of the first tokens its last layer computes
tokenizer.json     for the `tokenizers` package
manifest.json      format, precision, size and sha256 of every other file; written last
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from dpr_lance.encoders.bundle_folder import BundleFolder, BundleKind, open_folder, write_folder
from dpr_lance.encoders.card import Precision
from dpr_lance.errors import ReaderError
from dpr_lance.reader.card import ReaderCard

ReaderBundle: TypeAlias = BundleFolder[ReaderCard]

CARD = "reader.json"
GRAPH = "reader.onnx"
READER_BUNDLE = BundleKind(card=CARD, read_card=ReaderCard.from_json, graphs=(frozenset({GRAPH}),), error=ReaderError)


def write_reader_bundle(
    folder: str | Path,
    card: ReaderCard,
    files: Mapping[str, Path],
    *,
    precision: Precision,
    replace: bool = False,
) -> ReaderBundle:
    """Write a bundle of `card` and copies of `files` (name in the bundle → where it is now), and open it.

    `files` has `tokenizer.json` and `reader.onnx`, and may have others (a notice, a licence). `replace` allows to
    replace an existing bundle, but nothing else.
    Raises `InvalidInputError` for a wrong set of files, and when `folder` exists and may not be replaced.
    """
    return write_folder(READER_BUNDLE, Path(folder), card, files, precision=precision, replace=replace)


def open_reader_bundle(folder: str | Path) -> ReaderBundle:
    """Open the bundle at `folder`: read its manifest and card, and check that each file is there and has its size.

    Raises `ReaderError` naming the file that is missing, damaged or of a newer format, and what to do.
    """
    return open_folder(READER_BUNDLE, Path(folder))
