"""Where the bundle of a model comes from: inside the package, a folder, or made of a checkpoint."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpr_lance.encoders.bundle_folder import MANIFEST, BundleFolder
from dpr_lance.encoders.card import DEFAULT_PRECISION
from dpr_lance.errors import DprLanceError, MissingExtraError


@dataclass(frozen=True, slots=True)
class BundleSource:
    """Finds the bundles of one kind of model by what a user names."""

    model: str
    """The noun for messages: `encoder`, `reader`."""
    packaged: Path
    """Holds one bundle folder for each packaged model, under its name."""
    maker: tuple[str, str]
    """Module of the trainer and its function that makes a bundle of a checkpoint, in the user's cache."""
    error: type[DprLanceError]

    def packaged_names(self) -> list[str]:
        """Return the names of the models inside the package."""
        return sorted(manifest.parent.name for manifest in self.packaged.glob(f"*/{MANIFEST}"))

    def folder(self, source: str | Path | tuple[str, str], precision: str | None) -> Path:
        """Return the bundle folder that `source` names; the trainer makes that of a checkpoint when it is not there.

        Raises the kind's error when nothing is there, `MissingExtraError` when a checkpoint needs the `train` extra.
        """
        found = None if isinstance(source, tuple) else self._existing(source)
        return found or self._made(source, precision or DEFAULT_PRECISION)

    def _existing(self, source: str | Path) -> Path | None:
        """Return the folder of a packaged name or of a (perhaps damaged) bundle; None for a checkpoint."""
        if isinstance(source, str) and source in self.packaged_names():
            return self.packaged / source
        folder = Path(source)
        if folder.is_file() and folder.suffix == ".onnx":
            raise self.error(f"{folder} is a single ONNX file; name the bundle folder it belongs to")
        if (folder / MANIFEST).exists() or any(folder.glob("*.onnx")):
            return folder
        if isinstance(source, Path) and not folder.exists():
            raise self.error(
                f"{folder} does not exist; name a bundle folder, a checkpoint, or one of {self.packaged_names()}"
            )
        return None

    def _made(self, source: str | Path | tuple[str, str], precision: str) -> Path:
        module, function = self.maker
        try:
            trainer = importlib.import_module(f"dpr_lance.trainer.{module}")
        except ModuleNotFoundError as error:
            task = f"the {self.model} {source!r} is a checkpoint, and importing one"
            raise MissingExtraError(task, "train") from error
        return Path(getattr(trainer, function)(source, precision=precision))


def check_precision(bundle: BundleFolder[Any], precision: str | None, error: type[DprLanceError]) -> None:
    """Raise `error` when the bundle has another precision than the one that was asked for."""
    if precision not in (None, bundle.precision):
        raise error(
            f"{bundle.folder} holds {bundle.precision} weights, not {precision!r}: leave `precision` out, or export "
            f"the checkpoint it was made from ({bundle.card.source or 'unknown'}) with that precision"
        )
