"""The files to read where files and folders are named, their ids, and what is left out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from dpr_lance.errors import InvalidInputError

KINDS = (
    ".jsonl",
    ".ndjson",
    ".json",
    ".csv",
    ".tsv",
    ".parquet",
    ".txt",
    ".text",
    ".md",
    ".markdown",
    ".rst",
)
"""Extensions of files that can be read."""

_CORPUS = ("corpus.jsonl", "corpus.jsonl.gz")
_QUERIES = ("queries.jsonl", "queries.jsonl.gz")
_NAMES_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Listing:
    """The files that can be read, in order, and what else the folders hold.

    `left_out`: files of unknown kind; `odd`: pipes, devices, links to folders or to nowhere; `beir`: folders in BEIR's
    form, of which only the corpus is documents.
    """

    files: tuple[Path, ...]
    left_out: tuple[Path, ...] = ()
    odd: tuple[Path, ...] = ()
    beir: tuple[Path, ...] = ()

    def remarks(self) -> Iterator[str]:
        """Yield a sentence for each kind of thing that is left out."""
        if self.left_out:
            kinds = sorted({path.suffix or path.name for path in self.left_out})
            yield f"left out: {len(self.left_out)} files of unknown kind ({', '.join(kinds[:_NAMES_SHOWN])})"
        if self.odd:
            names = ", ".join(map(str, self.odd[:_NAMES_SHOWN]))
            yield f"left out: {len(self.odd)} pipes, devices and links to folders or to nowhere ({names})"
        for folder in self.beir:
            yield f"{folder} is a BEIR folder: its corpus is added, its queries and labels are for `eval`"


def list_files(sources: Iterable[Path]) -> Listing:
    """Return the files to read: each source itself, or all known files in a folder and below, sorted by path.

    Hidden files and LanceDB's folders (`*.lance`) are ignored; of a BEIR folder only the corpus is read. A file that is
    reached twice is read once. Raises `InvalidInputError` for a path that is neither a file nor a folder, a named file
    of unknown kind, and a folder without any known file.
    """
    files: dict[Path, Path] = {}
    walk = _Walk()
    for source in sources:
        if _is_folder(source):
            found = list(walk.files_below(source))
            if not found:
                raise InvalidInputError(f"{source}: no file here can be read; {_known_kinds()}")
        else:
            _check_file(source)
            found = [source]
        for path in found:
            files.setdefault(_resolved(path), path)
    return Listing(tuple(files.values()), tuple(walk.left_out), tuple(walk.odd), tuple(walk.beir))


def kind_of(path: Path) -> str:
    """Return the extension that says how to read the file; empty for an unknown kind."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if len(suffixes) == 2 and suffixes[1] == ".gz" and suffixes[0] != ".parquet":
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in KINDS else ""


def file_id(path: Path, base: Path | None) -> str:
    """Return the id of a file's document: its path relative to the folder `base`, with slashes.

    The id does not depend on how the file was named. Without a base, and on another drive, it is the absolute path.
    """
    place = _resolved(path)
    if base is not None:
        with suppress(ValueError):  # another drive
            place = Path(os.path.relpath(place, base.resolve()))
    return place.as_posix()


@dataclass(slots=True)
class _Walk:
    left_out: list[Path] = field(default_factory=list)
    odd: list[Path] = field(default_factory=list)
    beir: list[Path] = field(default_factory=list)

    def files_below(self, folder: Path) -> Iterator[Path]:
        """Yield all known files in the folder and below, sorted."""
        try:
            entries = sorted(folder.iterdir())
        except OSError as error:
            raise InvalidInputError(f"{folder}: the folder cannot be read ({error.strerror or error})") from error
        if (corpus := _beir_corpus(folder)) is not None:
            self.beir.append(folder)
            yield corpus
            return
        for path in entries:
            if path.name.startswith("."):
                continue
            if path.is_file():
                if kind_of(path):
                    yield path
                else:
                    self.left_out.append(path)
            elif not path.is_dir() or path.is_symlink():
                self.odd.append(path)
            elif path.suffix != ".lance":
                yield from self.files_below(path)


def _beir_corpus(folder: Path) -> Path | None:
    """Return the corpus of a BEIR folder, which has queries or labels too; None for another folder."""
    corpus, queries = (
        next((path for name in names if (path := folder / name).is_file()), None) for names in (_CORPUS, _QUERIES)
    )
    return corpus if queries is not None or (folder / "qrels").is_dir() else None


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError) as error:  # a name that is too long, or has a NUL
        raise InvalidInputError(f"{str(path)!r:.200}: this cannot be a path ({error})") from None


def _check_file(path: Path) -> None:
    try:
        there, regular = path.exists(), path.is_file()
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{str(path)!r:.200}: the file cannot be reached ({error})") from None
    if not there:
        raise InvalidInputError(f"{path}: there is no such file or folder")
    if not regular:
        raise InvalidInputError(f"{path}: this is a pipe or a device, not a file; pipe JSON lines to standard input")
    if not kind_of(path):
        raise InvalidInputError(f"{path}: a file of unknown kind; {_known_kinds()}")


def _resolved(path: Path) -> Path:
    """Return the absolute path with links to folders resolved; a link to a file keeps its name."""
    absolute = path.absolute()
    return absolute.parent.resolve() / absolute.name if absolute.name not in ("", "..") else absolute.resolve()


def _known_kinds() -> str:
    return f"known are {', '.join(KINDS)} (all but .parquet also as .gz)"
