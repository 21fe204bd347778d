"""The files of a local table: which of them its latest version needs, and whether each is as it was written.

LanceDB's files have no checksums. This library keeps them in a file in the table's folder that LanceDB ignores; every
commit appends those of new files.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHECKSUMS = "_dpr_lance/checksums"
"""The file of checksums in the table's folder: one line per file, with its own checksum."""

_FOLDERS = ("data", "_deletions", "_indices", "_versions")
"""The folders that reading needs; only concurrent writers read `_transactions`."""
_CHUNK = 1 << 20
_FOOTER = 16
_INDEX_SECTION = 6
_VERSIONS = 2**64 - 1
"""A manifest's name is this minus its version, so that the latest one is listed first."""
_ENDS = {".lance": b"LANC", ".idx": b"LANC", ".manifest": b"LANC", ".arrow": b"ARROW1"}
"""The last bytes of LanceDB's files of each kind."""
_MISSING = "is missing"
_DATA_NAME = re.compile(rb"[01]{24}[0-9a-f]{26}\.lance")

REBUILD = "optimize(rebuild=True), or `dpr-lance optimize PATH --rebuild`, makes it again"
RESTORE = "copy it back from a backup, or make the table again from its documents in a new folder"

LOST = "copy it back from a backup, or add the newest documents again and call optimize(rebuild=True)"


@dataclass(frozen=True, slots=True)
class Checksum:
    """The size and CRC-32 of a file when it was written."""

    size: int
    crc: int


@dataclass(frozen=True, slots=True)
class FileDamage:
    """A file that is missing or not as it was written; `needed`: the latest version reads it."""

    path: Path
    what: str
    needed: bool
    remedy: str
    lost_version: bool = False
    """Whether it is the latest version's manifest, without which the table shows an earlier version."""

    def __str__(self) -> str:
        return f"{self.path} {self.what}"


@dataclass(frozen=True, slots=True)
class _Latest:
    """The latest version and its manifest, which has every file's name in one form or another."""

    version: int
    manifest: bytes

    @property
    def data(self) -> set[str]:
        return {f"data/{name.decode()}" for name in _DATA_NAME.findall(self.manifest)}

    def needs(self, name: str) -> bool:
        """Tell whether reading this version needs a file."""
        folder, _, rest = name.partition("/")
        if folder == "_versions":
            return _version_of(rest) >= self.version
        if folder == "_indices":
            with contextlib.suppress(ValueError):
                return uuid.UUID(rest.partition("/")[0]).bytes in self.manifest
        if folder == "_deletions":
            number = rest.partition(".")[0].rpartition("-")[2]
            return number.isdigit() and _varint(int(number)) in self.manifest
        return name == CHECKSUMS or rest.encode() in self.manifest


class TableFiles:
    """The files of one LanceDB table; none can be inspected where the table is not in a local folder."""

    def __init__(self, folder: Path | None, place: str, *, derived: bool = False) -> None:
        self.folder = folder
        self.place = place
        """How error messages name the table."""
        self._derived = derived
        self._known: dict[str, Checksum] = {}
        self._read: tuple[int, int] | None = None
        self._lock = threading.Lock()

    def bytes_on_disk(self) -> int | None:
        """Return the size of all files, old versions included; None where the table is not in a folder."""
        if self.folder is None:
            return None
        total = 0
        for path in self.folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # cleaned up since it was listed
                total += path.stat().st_size if path.is_file() else 0
        return total

    def record(self, *, prune: bool = False) -> Path | None:
        """Add the checksums of new files; the caller holds the lock of writers.

        `prune` drops those of files that a clean-up has removed. Returns a file that the disk has cut off, if any,
        whose checksum is not kept.
        """
        if self.folder is None or not self.folder.is_dir():
            return None
        new: dict[str, Checksum] = {}
        cut: list[str] = []
        with self._lock:
            known = self._checksums()
            for name in self._names():
                with contextlib.suppress(OSError):  # freed since it was listed, or not readable
                    if name in known:
                        continue
                    if self._seen(name, None) is not None:
                        cut.append(name)
                    else:
                        new[name] = _checksum(self.folder / name)
            # A checksum that cannot be written now is one of the next commit's.
            with contextlib.suppress(OSError):
                self._keep(known, new, prune=prune)
        # Only a needed file: an interrupted process may have left others.
        latest = self._latest() if cut else None
        return next((self.folder / name for name in cut if latest is not None and latest.needs(name)), None)

    def _keep(self, known: dict[str, Checksum], new: dict[str, Checksum], *, prune: bool) -> None:
        """Append checksums to their file, or rewrite it without those of removed files."""
        folder = self.folder or Path()
        path, latest = folder / CHECKSUMS, self._latest() if prune else None
        if latest is not None:
            known = {name: kept for name, kept in known.items() if (folder / name).exists() or latest.needs(name)}
        if latest is not None or not _is_whole(path):
            _replace(path, known | new)
        elif new:
            with path.open("a", encoding="utf-8") as lines:
                lines.write("".join(_line(name, checksum) for name, checksum in new.items()))

    def record_again(self) -> None:
        """Make all checksums again, after damaged files have been replaced."""
        if self.folder is not None and self.folder.is_dir():
            with self._lock:
                _replace(self.folder / CHECKSUMS, {name: _checksum(self.folder / name) for name in self._names()})

    def damages(self, *, read: bool = True) -> Iterator[FileDamage]:
        """Yield every file that is missing or not as it was written.

        Those that can be found without reading files come first; `read=False` yields these alone.
        """
        if self.folder is None or not self.folder.is_dir():
            return
        with self._lock:
            yield from self._bad_lines()
            known = dict(self._checksums())
        # The manifest after the files: a later version does not need what a clean-up removes meanwhile.
        names = known.keys() | set(self._names()) | self._latest().data
        seen = {name: self._seen(name, known.get(name)) for name in sorted(names)}
        latest = self._latest()
        if latest.version < (hinted := _hinted_version(self.folder)):
            name = f"_versions/{_VERSIONS - hinted}.manifest"
            seen.setdefault(name, _MISSING)
        for name, what in seen.items():
            # Files without a checksum were left by an interrupted write, unless the latest version needs them.
            if what is not None and ((what != _MISSING and name in known) or latest.needs(name)):
                yield self._damage(name, what, latest)
        if not read:
            return
        suspects = [name for name, what in seen.items() if what is None and name in known]
        for name in suspects:
            with contextlib.suppress(FileNotFoundError):  # cleaned up since it was listed
                if _checksum(self.folder / name) != known[name]:
                    yield self._damage(name, "is not what was written: its checksum differs", latest)

    def counts(self) -> tuple[int, int]:
        """Return the numbers of files with and without a checksum."""
        if self.folder is None or not self.folder.is_dir():
            return 0, 0
        with self._lock:
            known = self._checksums()
            names = list(self._names())
        return sum(name in known for name in names), sum(name not in known for name in names)

    def first_damage(self, *, read: bool = True) -> FileDamage | None:
        """Return a damaged file that LanceDB may have read, preferably one that the latest version needs."""
        other = None
        for damage in self.damages(read=read):
            if damage.needed and damage.path.name != Path(CHECKSUMS).name:
                return damage
            other = other or (None if damage.needed else damage)
        return other

    def damage_of(self, path: Path, what: str) -> FileDamage:
        """Return the report of a file of this table that LanceDB has named."""
        name = str(path.relative_to(self.folder)) if self.folder and path.is_relative_to(self.folder) else path.name
        return FileDamage(path, what, needed=True, remedy=self._remedy(name, needed=True))

    def _damage(self, name: str, what: str, latest: _Latest) -> FileDamage:
        path, needed = (self.folder or Path()) / name, latest.needs(name)
        if name.startswith("_versions") and what == _MISSING:
            what = "is missing: the latest version is lost, and the table shows an earlier one"
            return FileDamage(path, what, needed, REBUILD if self._derived else LOST, lost_version=True)
        return FileDamage(path, what, needed, self._remedy(name, needed=needed))

    def _remedy(self, name: str, *, needed: bool) -> str:
        if self._derived or name.startswith(("_indices", CHECKSUMS)):
            return REBUILD
        return RESTORE if needed else "only earlier versions need it; optimize(rebuild=True) removes it"

    def _names(self) -> Iterator[str]:
        folder = str(self.folder)
        pending = [os.path.join(folder, name) for name in _FOLDERS]  # noqa: PTH118 - listed at every commit
        while pending:
            with contextlib.suppress(FileNotFoundError), os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    # Other files are being written.
                    elif not entry.name.startswith(".") and "#" not in entry.name and not entry.name.endswith(".json"):
                        yield entry.path[len(folder) + 1 :].replace(os.sep, "/")

    def _seen(self, name: str, known: Checksum | None) -> str | None:
        """Return what is wrong with a file, judged by its size and its last bytes."""
        path = (self.folder or Path()) / name
        try:
            with path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                if known is not None:
                    return None if size == known.size else f"has {size:,} bytes, and {known.size:,} were written"
                end = _ENDS.get(path.suffix, b"")
                file.seek(max(0, size - len(end)))
                return None if file.read() == end else f"is cut off or overwritten ({size:,} bytes)"
        except FileNotFoundError:
            return _MISSING
        except OSError as error:
            return f"cannot be read ({error.strerror})"

    def _latest(self) -> _Latest:
        paths = {_version_of(path.name): path for path in ((self.folder or Path()) / "_versions").glob("*.manifest")}
        version = max(paths, default=-1)
        try:
            return _Latest(version, _references(paths[version].read_bytes()) if paths else b"")
        except OSError:
            return _Latest(version, b"")

    def _checksums(self) -> dict[str, Checksum]:
        try:
            status = ((self.folder or Path()) / CHECKSUMS).stat()
        except FileNotFoundError:
            self._known, self._read = {}, None
            return self._known
        if self._read != (status.st_size, status.st_mtime_ns):
            self._known = {}
            for line in self._lines():
                if (parsed := _parsed(line)) is not None:
                    self._known.setdefault(*parsed)  # what was seen first counts
            self._read = (status.st_size, status.st_mtime_ns)
        return self._known

    def _lines(self) -> list[str]:
        try:
            text = ((self.folder or Path()) / CHECKSUMS).read_bytes().decode(errors="replace")
        except FileNotFoundError:
            return []
        return text.split("\n")[:-1]  # an incomplete last line was not fully written

    def _bad_lines(self) -> Iterator[FileDamage]:
        for number, line in enumerate(self._lines(), start=1):
            if _parsed(line) is None:
                yield self._damage(CHECKSUMS, f"is damaged in line {number}", self._latest())
                return


def _line(name: str, checksum: Checksum) -> str:
    text = f"{checksum.crc:08x} {checksum.size} {name}"
    return f"{zlib.crc32(text.encode()):08x} {text}\n"


def _parsed(line: str) -> tuple[str, Checksum] | None:
    own, _, text = line.partition(" ")
    if own != f"{zlib.crc32(text.encode()):08x}":
        return None
    crc, size, name = text.split(" ", 2)
    return name, Checksum(int(size), int(crc, 16))


def _is_whole(path: Path) -> bool:
    """Tell whether the file of checksums ends with a newline, as every write to it does."""
    try:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"
    except OSError:
        return False


def _replace(path: Path, checksums: dict[str, Checksum]) -> None:
    path.parent.mkdir(exist_ok=True)
    written = path.with_suffix(".new")
    written.write_text("".join(_line(name, checksum) for name, checksum in checksums.items()), encoding="utf-8")
    written.replace(path)


def _checksum(path: Path) -> Checksum:
    size = crc = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            size, crc = size + len(chunk), zlib.crc32(chunk, crc)
    return Checksum(size, crc)


def _version_of(name: str) -> int:
    number = name.partition(".")[0]
    if not number.isdigit():
        return -1
    return _VERSIONS - int(number) if len(number) == len(str(_VERSIONS)) else int(number)


def _references(manifest: bytes) -> bytes:
    """Return the parts of a manifest that list files, without the transaction, which names removed files too.

    The file ends with the offset of the main part, whose sixth field is the offset of the list of indexes; each part
    begins with its length.
    """
    if len(manifest) < _FOOTER:
        return manifest
    start = int.from_bytes(manifest[-_FOOTER : -_FOOTER + 8], "little")
    main, at, indexes = _part(manifest, start), 0, None
    try:
        while at < len(main):
            key, at = _number(main, at)
            if key & 7 == 0:
                value, at = _number(main, at)
                indexes = value if key >> 3 == _INDEX_SECTION else indexes
            elif key & 7 == 2:
                length, at = _number(main, at)
                at += length
            else:
                at += 8 if key & 7 == 1 else 4
    except IndexError:
        return manifest
    return main + (b"" if indexes is None else _part(manifest, indexes))


def _part(manifest: bytes, start: int) -> bytes:
    return manifest[start + 4 : start + 4 + int.from_bytes(manifest[start : start + 4], "little")]


def _number(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        number |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return number, at


def _varint(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*written, number])


def _hinted_version(folder: Path) -> int:
    try:
        return int(json.loads((folder / "_versions" / "latest_version_hint.json").read_text())["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return -1
