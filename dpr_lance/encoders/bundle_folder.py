"""The mechanics of bundles: a folder with a model's graphs, its tokenizer, its card, and a manifest of all files.

A bundle is written to a temporary folder and renamed, so a reader never sees half of one. Damage is found by the sizes
of files when the bundle is opened, and by their hashes before a model is loaded. A file that the manifest does not list
is never read; a graph that refers to one is refused.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, get_args

from dpr_lance.checks import checked_choice, checked_fields
from dpr_lance.encoders.card import Precision
from dpr_lance.encoders.card_json import Card
from dpr_lance.errors import DprLanceError, InvalidInputError

BUNDLE_FORMAT = 1
"""Version of the folder's layout; a reader refuses a higher one."""

MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
CARDS = {
    "encoder.json": "an encoder bundle",
    "reader.json": "a reader bundle",
    "late-interaction.json": "a late-interaction bundle",
}
"""The file of the card by kind of bundle: it tells which kind a folder holds."""
_TAKEN = "choose another place, or allow to replace it"
_REMEDY = "make the bundle again with `dpr-lance export`, or reinstall dpr-lance when it is the packaged one"
_SHA256 = re.compile("[0-9a-f]{64}")

C = TypeVar("C", bound=Card)
C_co = TypeVar("C_co", covariant=True)


class CardReader(Protocol[C_co]):
    """Reads the JSON form of a card."""

    def __call__(self, text: str, *, place: str) -> C_co:
        """Return the card; errors name `place`."""
        ...


@dataclass(frozen=True, slots=True)
class BundleKind(Generic[C]):
    """What differs between the bundles of encoders, readers and others."""

    card: str
    """The file of the card, one of `CARDS`."""
    read_card: CardReader[C]
    graphs: tuple[frozenset[str], ...]
    """Each set of ONNX files that a bundle may have."""
    error: type[DprLanceError]

    @property
    def name(self) -> str:
        """The kind with its article."""
        return CARDS[self.card]

    def listed(self) -> str:
        """Return the sets of graphs in words."""
        return ", or ".join(" and ".join(sorted(names, reverse=True)) for names in self.graphs)


@dataclass(frozen=True, slots=True)
class BundleFile:
    """One file of a bundle: bytes and sha256 as in the manifest."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class BundleFolder(Generic[C]):
    """An opened bundle: all files have their sizes, and the card its contents; `verified` checks other contents."""

    folder: Path
    card: C
    precision: Precision
    files: tuple[BundleFile, ...]
    error: type[DprLanceError]

    @property
    def size(self) -> int:
        """Bytes of all files that the manifest lists."""
        return sum(file.size for file in self.files)

    def verified(self, name: str) -> Path:
        """Return the path of the file `name`; raise the bundle's error when its hash is not the manifest's."""
        path = self.folder / name
        _check_contents(path, self.files, self.error)
        return path


def write_folder(
    kind: BundleKind[C],
    folder: Path,
    card: C,
    files: Mapping[str, Path],
    *,
    precision: Precision,
    replace: bool,
) -> BundleFolder[C]:
    """Write a bundle of `card` and copies of `files` (name in the bundle → where it is now), and open it.

    `replace` allows to replace an existing bundle, but nothing else. Of several writers the last one's bundle stays,
    without `replace` the first one's.
    Raises `InvalidInputError` for a wrong set of files, and when `folder` exists and may not be replaced.
    """
    if problem := _incomplete(kind, files) or _reserved(kind, files):
        raise InvalidInputError(f"bundle {folder}: {problem}")
    checked_choice(precision, "precision", get_args(Precision))
    check_folder(kind, folder, replace=replace)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        temporary.chmod(0o755)
        for name, path in files.items():
            shutil.copyfile(path, temporary / name)
        (temporary / kind.card).write_text(card.to_json() + "\n", encoding="utf-8")
        listed = [_described(temporary / name) for name in sorted([*files, kind.card])]
        manifest = {
            "format": BUNDLE_FORMAT,
            "precision": precision,
            "files": {file.name: {"size": file.size, "sha256": file.sha256} for file in listed},
        }
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        written = open_folder(kind, temporary)
        _move_into_place(temporary, folder, replace=replace)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return BundleFolder(folder, written.card, written.precision, written.files, kind.error)


def open_folder(kind: BundleKind[C], folder: Path) -> BundleFolder[C]:
    """Open the bundle at `folder`: read its manifest and card, and check that each file is there and has its size.

    Raises the kind's error naming the file that is missing, damaged or of a newer format, and what to do.
    """
    manifest_path = folder / MANIFEST
    if not manifest_path.is_file():
        raise kind.error(f"{folder} is not {kind.name}: {MANIFEST} is missing, so it was never completed; {_REMEDY}")
    manifest = _read_manifest(kind, manifest_path)
    for file in manifest.files:
        path = folder / file.name
        if not path.is_file():
            raise kind.error(f"{path} is missing: {_REMEDY}")
        if (size := path.stat().st_size) != file.size:
            raise kind.error(f"{path} is damaged ({size:,} bytes instead of {file.size:,}): {_REMEDY}")
    card_path = folder / kind.card
    _check_contents(card_path, manifest.files, kind.error)
    try:
        text = card_path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise kind.error(f"{card_path} is damaged ({error}): {_REMEDY}") from error
    card = kind.read_card(text, place=str(card_path))
    if not card.fingerprint.strip():
        raise kind.error(f"{card_path} is damaged (the fingerprint is blank): {_REMEDY}")
    return BundleFolder(folder, card, manifest.precision, manifest.files, kind.error)


def kind_of_bundle(folder: Path) -> str | None:
    """Return the file of the card that a bundle folder has, one of `CARDS`; None for what is not a bundle."""
    if not (folder / MANIFEST).is_file():
        return None
    return next((card for card in CARDS if (folder / card).is_file()), None)


def fingerprint(paths: Iterable[Path], *, further: str = "") -> str:
    """Return 16 hex digits, a hash of the contents of `paths` (not of their names) and of the text `further`."""
    digest = hashlib.sha256(further.encode())
    for path in paths:
        digest.update(bytes.fromhex(_described(path).sha256))
    return digest.hexdigest()[:16]


def check_folder(kind: BundleKind[C], folder: Path, *, replace: bool) -> None:
    """Raise `InvalidInputError` when something is at `folder` that a new bundle may not replace."""
    # A folder without a manifest is not ours, unless another writer is moving a bundle away or here.
    before = None
    while (now := _identity(folder)) is not None:
        if (folder / MANIFEST).is_file():
            if not replace:
                raise InvalidInputError(f"{folder} exists: {_TAKEN}")
            return
        if now == before:
            raise InvalidInputError(f"{folder} exists and is not {kind.name}: choose another place")
        before = now


@dataclass(frozen=True, slots=True)
class _Manifest:
    precision: Precision
    files: tuple[BundleFile, ...]


def _read_manifest(kind: BundleKind[C], path: Path) -> _Manifest:
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise kind.error(f"{path} is damaged ({error}): {_REMEDY}") from error
    version = values.get("format") if isinstance(values, dict) else None
    if type(version) is not int:
        raise kind.error(f"{path} is damaged (it has no format version): {_REMEDY}")
    if version > BUNDLE_FORMAT:
        raise kind.error(
            f"{path}: bundle format {version} is not known here (up to {BUNDLE_FORMAT}): upgrade dpr-lance"
        )
    try:
        files = tuple(
            BundleFile(name=name, size=entry["size"], sha256=entry["sha256"])
            for name, entry in sorted(values["files"].items())
        )
        precision = values["precision"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise kind.error(f"{path} is damaged ({type(error).__name__}: {error}): {_REMEDY}") from error
    names = [file.name for file in files]
    if kind.card not in names and (others := CARDS.keys() & set(names)):
        raise kind.error(f"{path.parent} is {CARDS[min(others)]}, not {kind.name}")
    problem = _incomplete(kind, names) or (f"{kind.card} is not listed" if kind.card not in names else "")
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
        raise kind.error(f"{path} is damaged ({problem}): {_REMEDY}")
    return _Manifest(precision, files)


def _incomplete(kind: BundleKind[C], names: Iterable[str]) -> str:
    names = set(names)
    graphs = {name for name in names if name.endswith(".onnx")}
    if graphs not in kind.graphs:
        return f"the graphs are {sorted(graphs)}; a bundle has {kind.listed()}"
    return "" if TOKENIZER in names else f"{TOKENIZER} is missing"


def _reserved(kind: BundleKind[C], names: Iterable[str]) -> str:
    taken = sorted({kind.card, MANIFEST} & set(names))
    return f"{', '.join(taken)} is written by write_bundle itself" if taken else ""


def _check_contents(path: Path, files: Iterable[BundleFile], error: type[DprLanceError]) -> None:
    expected = next(file for file in files if file.name == path.name)
    if _described(path).sha256 != expected.sha256:
        raise error(f"{path} is damaged (its sha256 is not the manifest's): {_REMEDY}")


def _described(path: Path) -> BundleFile:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return BundleFile(name=path.name, size=stream.tell(), sha256=digest)


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
