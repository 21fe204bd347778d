"""The bundle: an encoder as a folder that needs neither torch nor transformers.

encoder.json                      the card
encoder.onnx                      one graph for both sides, or
question.onnx, passage.onnx       one for each
tokenizer.json                    for the `tokenizers` package
manifest.json                     format, precision, size and sha256 of every other file; written last
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dpr_lance.encoders.bundle_folder import (
    MANIFEST,
    TOKENIZER,
    BundleFolder,
    BundleKind,
    check_folder,
    fingerprint,
    open_folder,
    write_folder,
)
from dpr_lance.encoders.card import EncoderCard, Precision, Side
from dpr_lance.errors import EncoderError

__all__ = [
    "CARD", "MANIFEST", "SHARED_GRAPH", "TOKENIZER", "Bundle", "check_place", "fingerprint", "open_bundle",
    "write_bundle",
]  # fmt: skip

CARD = "encoder.json"
SHARED_GRAPH = "encoder.onnx"
ENCODER_BUNDLE = BundleKind(
    card=CARD,
    read_card=EncoderCard.from_json,
    graphs=(frozenset({SHARED_GRAPH}), frozenset({"question.onnx", "passage.onnx"})),
    error=EncoderError,
)


@dataclass(frozen=True, slots=True)
class Bundle(BundleFolder[EncoderCard]):
    """The opened bundle of an encoder."""

    @property
    def shared(self) -> bool:
        """Whether one graph serves questions and passages."""
        return any(file.name == SHARED_GRAPH for file in self.files)

    def graph(self, side: Side) -> str:
        """Name of the ONNX file that encodes `side`."""
        return SHARED_GRAPH if self.shared else f"{side}.onnx"


def write_bundle(
    folder: str | Path,
    card: EncoderCard,
    files: Mapping[str, Path],
    *,
    precision: Precision,
    replace: bool = False,
) -> Bundle:
    """Write a bundle of `card` and copies of `files` (name in the bundle → where it is now), and open it.

    `files` has `tokenizer.json` and either `encoder.onnx` or `question.onnx` and `passage.onnx`, and may have others (a
    notice, a licence). `replace` allows to replace an existing bundle, but nothing else. Of several writers the last
    one's bundle stays, without `replace` the first one's.
    Raises `InvalidInputError` for a wrong set of files, and when `folder` exists and may not be replaced.
    """
    return _bundle(write_folder(ENCODER_BUNDLE, Path(folder), card, files, precision=precision, replace=replace))


def open_bundle(folder: str | Path) -> Bundle:
    """Open the bundle at `folder`: read its manifest and card, and check that each file is there and has its size.

    Raises `EncoderError` naming the file that is missing, damaged or of a newer format, and what to do.
    """
    return _bundle(open_folder(ENCODER_BUNDLE, Path(folder)))


def check_place(folder: Path, *, replace: bool) -> None:
    """Raise `InvalidInputError` when something is at `folder` that a new bundle may not replace."""
    check_folder(ENCODER_BUNDLE, folder, replace=replace)


def _bundle(opened: BundleFolder[EncoderCard]) -> Bundle:
    return Bundle(opened.folder, opened.card, opened.precision, opened.files, opened.error)
