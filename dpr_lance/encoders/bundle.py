"""The bundle: an encoder as a folder that needs neither torch nor transformers.

    encoder.json                      the card
    encoder.onnx                      one graph for both sides, or
    question.onnx, passage.onnx       one for each
    tokenizer.json                    for the `tokenizers` package
    manifest.json                     format, precision, size and sha256 of every other file; written last

A bundle is written to a temporary folder and renamed, so a reader never sees half of one. Damage is found by the sizes
of files when the bundle is opened, and by their hashes before a model is loaded. A file that the manifest does not list
is never read; a graph that refers to one is refused.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from dpr_lance.checks import checked_choice, checked_fields
from dpr_lance.encoders.card import EncoderCard, Precision, Side
from dpr_lance.errors import EncoderError, InvalidInputError

BUNDLE_FORMAT = 1
"""Version of the folder's layout; a reader refuses a higher one."""

CARD = "encoder.json"
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
SHARED_GRAPH = "encoder.onnx"
_TAKEN = "choose another place, or allow to replace it"
_REMEDY = "make the bundle again with `dpr-lance export`, or reinstall dpr-lance when it is the packaged one"
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class BundleFile:
    """One file of a bundle: bytes and sha256 as in the manifest."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle: all files have their sizes, and the card its contents; `verified` checks other contents."""

    folder: Path
    card: EncoderCard
    precision: Precision
    files: tuple[BundleFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files that the manifest lists."""
        return sum(file.size for file in self.files)

    @property
    def shared(self) -> bool:
        """Whether one graph serves questions and passages."""
        return any(file.name == SHARED_GRAPH for file in self.files)

    def graph(self, side: Side) -> str:
        """Name of the ONNX file that encodes `side`."""
        return SHARED_GRAPH if self.shared else f"{side}.onnx"

    def verified(self, name: str) -> Path:
        """Return the path of the file `name`; raise `EncoderError` when its hash is not the manifest's."""
        path = self.folder / name
        _check_contents(path, self.files)
        return path


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
    folder = Path(folder)
    if problem := _incomplete(files) or _reserved(files):
        raise InvalidInputError(f"bundle {folder}: {problem}")
    checked_choice(precision, "precision", get_args(Precision))
    check_place(folder, replace=replace)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        temporary.chmod(0o755)
        for name, path in files.items():
            shutil.copyfile(path, temporary / name)
        (temporary / CARD).write_text(card.to_json() + "\n", encoding="utf-8")
        listed = [_described(temporary / name) for name in sorted([*files, CARD])]
        manifest = {
            "format": BUNDLE_FORMAT,
            "precision": precision,
            "files": {file.name: {"size": file.size, "sha256": file.sha256} for file in listed},
        }
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        bundle = dataclasses.replace(open_bundle(temporary), folder=folder)
        _move_into_place(temporary, folder, replace=replace)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return bundle


def open_bundle(folder: str | Path) -> Bundle:
    """Open the bundle at `folder`: read its manifest and card, and check that each file is there and has its size.

    Raises `EncoderError` naming the file that is missing, damaged or of a newer format, and what to do.
    """
    folder = Path(folder)
    manifest_path = folder / MANIFEST
    if not manifest_path.is_file():
        raise EncoderError(
            f"{folder} is not an encoder bundle: {MANIFEST} is missing, so it was never completed; {_REMEDY}"
        )
    manifest = _read_manifest(manifest_path)
    for file in manifest.files:
        path = folder / file.name
        if not path.is_file():
            raise EncoderError(f"{path} is missing: {_REMEDY}")
        if (size := path.stat().st_size) != file.size:
            raise EncoderError(f"{path} is damaged ({size:,} bytes instead of {file.size:,}): {_REMEDY}")
    card_path = folder / CARD
    _check_contents(card_path, manifest.files)
    try:
        text = card_path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise EncoderError(f"{card_path} is damaged ({error}): {_REMEDY}") from error
    card = EncoderCard.from_json(text, place=str(card_path))
    if not card.fingerprint.strip():
        raise EncoderError(f"{card_path} is damaged (the fingerprint is blank): {_REMEDY}")
    return Bundle(folder, card, manifest.precision, manifest.files)


def fingerprint(paths: Iterable[Path], *, further: str = "") -> str:
    """Return 16 hex digits, a hash of the contents of `paths` (not of their names) and of the text `further`."""
    digest = hashlib.sha256(further.encode())
    for path in paths:
        digest.update(bytes.fromhex(_described(path).sha256))
    return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class _Manifest:
    precision: Precision
    files: tuple[BundleFile, ...]


def _read_manifest(path: Path) -> _Manifest:
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise EncoderError(f"{path} is damaged ({error}): {_REMEDY}") from error
    version = values.get("format") if isinstance(values, dict) else None
    if type(version) is not int:
        raise EncoderError(f"{path} is damaged (it has no format version): {_REMEDY}")
    if version > BUNDLE_FORMAT:
        raise EncoderError(
            f"{path}: bundle format {version} is not known here (up to {BUNDLE_FORMAT}): upgrade dpr-lance"
        )
    try:
        files = tuple(
            BundleFile(name=name, size=entry["size"], sha256=entry["sha256"])
            for name, entry in sorted(values["files"].items())
        )
        precision = values["precision"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EncoderError(f"{path} is damaged ({type(error).__name__}: {error}): {_REMEDY}") from error
    names = [file.name for file in files]
    problem = _incomplete(names) or (f"{CARD} is not listed" if CARD not in names else "")
    if precision not in get_args(Precision):
        problem = f"precision {precision!r} is not one of {', '.join(get_args(Precision))}"
    for file in files:
        if wrong := checked_fields(file):
            problem = f"of {file.name!r}, {wrong}"
        elif not _SHA256.fullmatch(file.sha256):
            problem = f"the sha256 of {file.name!r} is not 64 hex digits"
    if stray := [name for name in names if Path(name).name != name or "\0" in name]:
        problem = f"{stray[0]!r} is not a plain file name"
    if problem:
        raise EncoderError(f"{path} is damaged ({problem}): {_REMEDY}")
    return _Manifest(precision, files)


def _incomplete(names: Iterable[str]) -> str:
    names = set(names)
    graphs = {name for name in names if name.endswith(".onnx")}
    if graphs not in ({SHARED_GRAPH}, {"question.onnx", "passage.onnx"}):
        return f"the graphs are {sorted(graphs)}; a bundle has {SHARED_GRAPH}, or question.onnx and passage.onnx"
    return "" if TOKENIZER in names else f"{TOKENIZER} is missing"


def _reserved(names: Iterable[str]) -> str:
    taken = sorted({CARD, MANIFEST} & set(names))
    return f"{', '.join(taken)} is written by write_bundle itself" if taken else ""


def _check_contents(path: Path, files: Iterable[BundleFile]) -> None:
    expected = next(file for file in files if file.name == path.name)
    if _described(path).sha256 != expected.sha256:
        raise EncoderError(f"{path} is damaged (its sha256 is not the manifest's): {_REMEDY}")


def _described(path: Path) -> BundleFile:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return BundleFile(name=path.name, size=stream.tell(), sha256=digest)


def check_place(folder: Path, *, replace: bool) -> None:
    """Raise `InvalidInputError` when something is at `folder` that a new bundle may not replace."""
    # A folder without a manifest is not ours, unless another writer is moving a bundle away or here.
    before = None
    while (now := _identity(folder)) is not None:
        if (folder / MANIFEST).is_file():
            if not replace:
                raise InvalidInputError(f"{folder} exists: {_TAKEN}")
            return
        if now == before:
            raise InvalidInputError(f"{folder} exists and is not an encoder bundle: choose another place")
        before = now


def _identity(folder: Path) -> tuple[int, int] | None:
    """Return inode and time of change, which differ for a folder that was renamed here; None without a folder."""
    try:
        status = folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_ino, status.st_ctime_ns


def _move_into_place(temporary: Path, folder: Path, *, replace: bool) -> None:
    """Rename `temporary` to `folder` after moving an old bundle away; try again when another writer was faster."""
    while True:
        try:
            temporary.rename(folder)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            if not replace:
                raise InvalidInputError(f"{folder} exists: {_TAKEN}") from error
        else:
            return
        old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
        with contextlib.suppress(FileNotFoundError):
            folder.rename(old / "bundle")
        shutil.rmtree(old)
