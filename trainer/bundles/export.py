"""From a checkpoint to a bundle, once: `export` writes it where the user wants it, `cached_bundle` into a cache.

Importing this room and finding a bundle in the cache need no torch; making one needs the `train` extra.
"""

from __future__ import annotations

import glob
import hashlib
import importlib
import importlib.util
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, get_args

from filelock import FileLock

from dpr_lance.encoders.bundle import MANIFEST, Precision, open_bundle, write_bundle
from dpr_lance.encoders.card import EncoderCard, Pooling, TitleStyle
from dpr_lance.encoders.loading import cache_folder
from dpr_lance.errors import EncoderError, InvalidInputError, MissingExtraError

from ..checkpoints.description import RECIPE, read_checkpoint
from ..checkpoints.facts import Facts
from ..checkpoints.locate import CheckpointSource, Named, Revision, locate

NEEDED = ("torch", "transformers", "safetensors", "onnx")
"""Packages of the `train` extra."""
STATES = 2
"""Bundles in the cache for one checkpoint that changes: the latest, and the one that a process may still have open."""
_DESCRIBING = {".json", ".txt", ".model", ".safetensors", ".bin", ".cp"}


def export(  # noqa: PLR0913 - each argument is one thing that a checkpoint may leave open
    source: CheckpointSource,
    out: str | Path,
    *,
    precision: Precision = "int8",
    pooling: Pooling | None = None,
    normalise: bool | None = None,
    question_prefix: str | None = None,
    passage_prefix: str | None = None,
    title_style: TitleStyle | None = None,
    zero_token_types: bool | None = None,
    max_tokens: int | None = None,
    hybrid_weight: float | None = None,
    name: str | None = None,
    base: Named | None = None,
    revision: Revision = None,
    replace: bool = False,
) -> EncoderCard:
    """Make a bundle of the checkpoint `source` in the folder `out` and return its card.

    `source`: a DPR pair (two folders or Hub names as (question, passage), `dpr-single-nq`, `dpr-multiset`, or a folder
    with question/ and passage/), a sentence-transformers folder or Hub name, any BERT-family folder or Hub name, or an
    original DPR `.cp` file, which needs `base`, the model it was trained from. What is given here wins over what the
    checkpoint's files say; None leaves it to them. `revision` pins Hub repositories. With `replace` an older bundle at
    `out` gives way. The fp32 graph is compared with torch before anything is written.

    Raises `MissingExtraError` without torch, `EncoderError` when the checkpoint is incomplete, not supported, or does
    not name its pooling or normalisation, `InvalidInputError` for arguments that cannot be.
    """
    said = Facts(
        pooling=pooling,
        normalise=normalise,
        question_prefix=question_prefix,
        passage_prefix=passage_prefix,
        title_style=title_style,
        zero_token_types=zero_token_types,
        question_max_tokens=max_tokens,
        passage_max_tokens=max_tokens,
        hybrid_weight=hybrid_weight,
        name=name,
    )
    return _write(source, Path(out), said, precision=precision, base=base, revision=revision, replace=replace)


def cached_bundle(source: CheckpointSource, *, precision: Precision = "int8", revision: Revision = None) -> Path:
    """Return the folder of the bundle of `source` in the cache, making it at the first call.

    A local checkpoint is made again when one of its files has changed; the bundles of its last `STATES` are kept. A Hub
    checkpoint stays at the commit that was current at the first call, so that a table's encoder does not change under
    it, until another `revision` is named or the folder is deleted; found in the cache, it needs no connection. Raises
    as `export` does.
    """
    _check_precision(precision)
    checkpoint, state = _entry(source, precision, revision)
    folder = cache_folder() / f"{checkpoint}-{state}"
    if _whole(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{checkpoint}.lock")):
        if not _whole(folder):  # another process may have made it while this one waited
            if sys.stderr.isatty():
                sys.stderr.write(f"making a bundle of {source} in {folder} (once)\n")
            _write(source, folder, Facts(), precision=precision, base=None, revision=revision, replace=True)
            _forget_old_states(folder.parent, checkpoint)
    return folder


def _write(
    source: CheckpointSource,
    out: Path,
    said: Facts,
    *,
    precision: Precision,
    base: Named | None,
    revision: Revision,
    replace: bool,
) -> EncoderCard:
    _check_precision(precision)
    if out.exists() and not replace:
        raise InvalidInputError(f"{out} exists: choose another place, or allow to replace it")
    task = f"making a bundle of the checkpoint {source!r}"
    check_installed(task)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        if isinstance(source, str | Path) and Path(source).is_file():
            pinned = revision if isinstance(revision, str) else None
            located = _imported("checkpoints.dpr_cp", task).unpack(
                Path(source), base, scratch / "unpacked", revision=pinned
            )
        else:
            located = locate(source, revision=revision)
        checkpoint = read_checkpoint(located, said)  # before torch is imported: a wrong name is told at once
        conversion = _imported("bundles.conversion", task)
        converted = conversion.convert(checkpoint, scratch, precision=precision)
        card = checkpoint.card(converted.fingerprint)
        write_bundle(out, card, converted.files, precision=precision, replace=replace)
    return card


def check_installed(task: str) -> None:
    """Raise `MissingExtraError` where a package is missing that the task needs, without importing any."""
    for name in NEEDED:
        try:
            found = importlib.util.find_spec(name) is not None
        except ValueError:  # something stands in its place
            found = False
        if not found:
            raise MissingExtraError(task, "train")


def _imported(name: str, task: str) -> Any:  # noqa: ANN401 - a module
    try:
        return importlib.import_module(f"dpr_lance.trainer.{name}")
    except ModuleNotFoundError as error:
        raise MissingExtraError(task, "train") from error


def _check_precision(precision: str) -> None:
    if precision not in get_args(Precision):
        raise InvalidInputError(f"precision is {precision!r}, not one of {', '.join(get_args(Precision))}")


def _whole(folder: Path) -> bool:
    """Whether a usable bundle is at `folder`; a damaged one is made again."""
    if not (folder / MANIFEST).is_file():
        return False
    try:
        open_bundle(folder)
    except EncoderError:
        return False
    return True


def _entry(source: CheckpointSource, precision: str, revision: Revision) -> tuple[str, str]:
    """Name of a checkpoint in the cache, readable and different for each, and of the state that its files are in."""
    names = source if isinstance(source, tuple) else (source,)
    places = [str(Path(name).resolve()) if Path(name).exists() else str(name) for name in names]
    files = [_files(Path(name)) for name in names if Path(name).exists()]
    readable = Path(names[0]).resolve().name if Path(names[0]).exists() else str(names[0]).replace("/", "--")
    return f"{readable}--{precision}--{_digest(places, precision, revision)}", _digest(RECIPE, files)


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:10]


def _files(path: Path) -> list[tuple[str, int, int]]:
    """Size and time of every file that describes a checkpoint (a pair's modules lie two folders deep)."""
    files = [path] if path.is_file() else [*path.glob("*"), *path.glob("*/*"), *path.glob("*/*/*")]
    described = sorted(file for file in files if file.suffix in _DESCRIBING and file.is_file())
    return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in described]


def _forget_old_states(folder: Path, checkpoint: str) -> None:
    states = sorted(folder.glob(f"{glob.escape(checkpoint)}-*/{MANIFEST}"), key=lambda path: path.stat().st_mtime_ns)
    for manifest in states[:-STATES]:
        shutil.rmtree(manifest.parent, ignore_errors=True)
