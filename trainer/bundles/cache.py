"""Bundles of checkpoints in the user's cache: each is made once for each state of the checkpoint's files."""

from __future__ import annotations

import glob
import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from dpr_lance.encoders.bundle_folder import MANIFEST
from dpr_lance.encoders.loading import cache_folder
from dpr_lance.errors import EncoderError, ReaderError

from ..checkpoints.locate import CheckpointSource, Revision

STATES = 2
"""Bundles in the cache per checkpoint: the latest, and the one before, which a process may still have open."""
_DESCRIBING = {".json", ".txt", ".model", ".safetensors", ".bin", ".cp", ".metadata"}


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """What a cached bundle is made from: a change of any field is another bundle."""

    source: CheckpointSource
    precision: str
    revision: Revision
    version: object
    """Of the conversion."""

    def folder(self, make: Callable[[Path], object], opened: Callable[[Path], object]) -> Path:
        """Return the folder of the bundle; call `make` when there is none that `opened` accepts.

        `opened` raises `EncoderError` or `ReaderError` for a damaged bundle.
        """
        checkpoint, state = self._names()
        folder = cache_folder() / f"{checkpoint}-{state}"
        if _whole(folder, opened):
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{checkpoint}.lock")):
            if not _whole(folder, opened):  # another process may have made it while this one waited
                if sys.stderr.isatty():
                    sys.stderr.write(f"making a bundle of {self.source} in {folder} (once)\n")
                make(folder)
                _forget_old_states(folder.parent, checkpoint)
        return folder

    def _names(self) -> tuple[str, str]:
        """Return a readable, unique name of the checkpoint in the cache, and a hash of the state of its files."""
        names = self.source if isinstance(self.source, tuple) else (self.source,)
        places = [str(Path(name).resolve()) if Path(name).exists() else str(name) for name in names]
        files = [_files(Path(name)) for name in names if Path(name).exists()]
        readable = Path(names[0]).resolve().name if Path(names[0]).exists() else str(names[0]).replace("/", "--")
        unique = _digest(places, self.precision, self.revision)
        return f"{readable}--{self.precision}--{unique}", _digest(self.version, files)


def _whole(folder: Path, opened: Callable[[Path], object]) -> bool:
    if not (folder / MANIFEST).is_file():
        return False
    try:
        opened(folder)
    except (EncoderError, ReaderError):
        return False
    return True


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:10]


def _files(path: Path) -> list[tuple[str, int, int]]:
    files = [path] if path.is_file() else [*path.glob("*"), *path.glob("*/*"), *path.glob("*/*/*")]
    described = sorted(file for file in files if file.suffix in _DESCRIBING and file.is_file())
    return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in described]


def _forget_old_states(folder: Path, checkpoint: str) -> None:
    states = sorted(folder.glob(f"{glob.escape(checkpoint)}-*/{MANIFEST}"), key=lambda path: path.stat().st_mtime_ns)
    for manifest in states[:-STATES]:
        shutil.rmtree(manifest.parent, ignore_errors=True)
