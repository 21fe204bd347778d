"""Files, folders of files and standard input as streams of documents.

    .jsonl .ndjson          one object a line
    .json                   a list of objects, or one object
    .csv .tsv               a header line, then one record a row; an empty cell is a missing value
    .parquet                one record a row
    .txt .text .md .markdown .rst    the whole file is one document: id = its path, title = first heading or file name

All but Parquet also compressed (.gz). In records `text` is required, `id` (or BEIR's `_id`) and `title` are optional,
everything else is metadata. JSONL, CSV and Parquet are read in constant memory. Every error names the file and the
line, row or byte, and what to do about it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from dpr_lance.documents import OnError
from dpr_lance.errors import InvalidInputError
from dpr_lance.lines import (
    BYTE_ORDER_MARK,
    BadRecordError,
    Line,
    attempt,
    csv_rows,
    decoded,
    json_value,
    lines_of,
    readable,
    unpacked,
)
from dpr_lance.records import Document, Skipped
from dpr_lance.schema import checked_metadata

STANDARD_INPUT = "standard input"
_PARQUET_BATCH = 1024
_HEADING = re.compile(r"#{1,6}[ \t]+(.+?)[ \t]*#*[ \t]*$")

Record = tuple[str, Mapping[str, Any] | BadRecordError]
"""A record's place, with its fields or with what is wrong with it."""


@dataclass(frozen=True, slots=True)
class FieldNames:
    """What the fields of a record are called. A field that a renamed one displaces is kept as `record_<name>`."""

    id: str = "id"
    text: str = "text"
    title: str = "title"

    def renamed(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the fields with `id`, `text` and `title` under those names; raise `ValueError` without a text."""
        identity = "_id" if self.id == "id" and "id" not in fields else self.id
        sources = {"id": identity, "text": self.text, "title": self.title}
        if self.text not in fields:
            raise BadRecordError(
                f"there is no field {self.text!r}; the fields are: {', '.join(map(repr, fields)) or 'none'}"
            )
        found = {target: fields[source] for target, source in sources.items() if source in fields}
        rest = {key: value for key, value in fields.items() if key not in sources.values()}
        return found | {f"record_{key}" if key in sources else key: value for key, value in rest.items()}


@dataclass(frozen=True, slots=True)
class Listing:
    """The files that can be read, in order, and those that a folder holds beside them."""

    files: tuple[Path, ...]
    left_out: tuple[Path, ...] = ()


def list_files(sources: Iterable[Path]) -> Listing:
    """Return the files to read: each source itself, or all known files below it when it is a folder, sorted by path.

    Hidden files and LanceDB's own folders (`*.lance`) are passed over. A file that is reached twice is read once.
    Raises `InvalidInputError` for a path that does not exist, a named file of unknown kind, and a folder without any
    known file.
    """
    files: dict[Path, None] = {}
    left_out: list[Path] = []
    for source in sources:
        if source.is_dir():
            found = list(_files_below(source))
            known = [path for path in found if _kind(path)]
            if not known:
                raise InvalidInputError(f"{source}: no file here can be read; {_known_kinds()}")
            left_out += (path for path in found if not _kind(path))
            files |= dict.fromkeys(known)
        elif not source.exists():
            raise InvalidInputError(f"{source}: there is no such file or folder")
        elif not _kind(source):
            raise InvalidInputError(f"{source}: a file of unknown kind; {_known_kinds()}")
        else:
            files[source] = None
    return Listing(tuple(files), tuple(left_out))


class FileDocuments:
    """The documents of files, or of standard input, one after the other; can be iterated once.

    With `on_error="raise"` the first bad record raises `InvalidInputError`; with `"skip"` it becomes a `Skipped` in the
    stream, which `Retriever.add(..., on_error="skip")` counts. `bytes_read` of `bytes_total` tells how far it has come.
    """

    def __init__(
        self, files: Sequence[Path], *, field_names: FieldNames | None = None, on_error: OnError = "raise"
    ) -> None:
        self._files = files
        self._field_names = field_names or FieldNames()
        self._on_error = on_error
        self._finished = 0
        self._open: BinaryIO | None = None
        self.bytes_total = sum(path.stat().st_size for path in files if path.exists())

    @property
    def bytes_read(self) -> int:
        """Bytes of the files, as they lie on disk, that have been read so far."""
        return self._finished + (self._open.tell() if self._open else 0)

    def __iter__(self) -> Iterator[Document | Skipped]:
        for path in self._files:
            with closing(self._records(path)) as records:
                yield from self._documents(records)

    def read_lines(self, stream: BinaryIO) -> Iterator[Document | Skipped]:
        """Yield the documents of a stream of JSON lines, as standard input gives them."""
        return self._documents(_read_json_lines(Path(STANDARD_INPUT), stream))

    def _documents(self, records: Iterator[Record]) -> Iterator[Document | Skipped]:
        for place, found in records:
            try:
                document = self._document(found, place)
            except InvalidInputError as error:
                if self._on_error == "raise":
                    raise
                yield Skipped(place, str(error).removeprefix(place).lstrip(": "))
            else:
                yield document

    def _document(self, found: Mapping[str, Any] | BadRecordError, place: str) -> Document:
        try:
            if isinstance(found, BadRecordError):
                raise found
            fields = self._field_names.renamed(found)
        except BadRecordError as problem:
            raise InvalidInputError(f"{place}: {problem}") from None
        document = Document.from_mapping(fields, place=place)
        checked_metadata(document, place=place)
        return document

    def _records(self, path: Path) -> Generator[Record, None, None]:
        """Yield the file's records; what goes wrong with the file itself comes as the last of them."""
        try:
            with readable(), path.open("rb") as stream:
                self._open = stream
                yield from _READERS[_kind(path)](path, unpacked(path, stream))
                self._finished += path.stat().st_size
                self._open = None
        except BadRecordError as problem:
            yield str(path), problem
        finally:
            self._open = None


def _read_json_lines(path: Path, stream: BinaryIO) -> Iterator[Record]:
    for line in lines_of(stream):
        if line.content.strip():
            yield f"{path}:{line.number}", attempt(_json_record, line)


def _read_json(path: Path, stream: BinaryIO) -> Iterator[Record]:
    value = attempt(json_value, stream.read().removeprefix(BYTE_ORDER_MARK))
    if not isinstance(value, list):
        yield str(path), value if isinstance(value, BadRecordError) else attempt(_object, value)
        return
    for number, item in enumerate(value, start=1):
        yield f"{path}: item {number}", attempt(_object, item)


def _read_csv(path: Path, stream: BinaryIO) -> Iterator[Record]:
    separator = "\t" if ".tsv" in map(str.lower, path.suffixes[-2:]) else ","
    header: list[str] = []
    for number, cells in csv_rows(stream, separator):
        if isinstance(cells, list) and not any(cells):
            continue
        place = f"{path}:{number}"
        if isinstance(cells, BadRecordError):
            yield place, cells
        elif header:
            yield place, attempt(_csv_record, cells, header)
        else:
            header = [cell.strip() for cell in cells]
            if doubled := [name for name in header if header.count(name) > 1]:
                yield place, BadRecordError(f"the header names {doubled[0]!r} twice; every column needs its own name")
                return


def _read_parquet(path: Path, stream: BinaryIO) -> Iterator[Record]:
    number = 0
    try:
        for batch in pq.ParquetFile(stream).iter_batches(batch_size=_PARQUET_BATCH):
            for row in batch.to_pylist():
                number += 1
                yield f"{path}: row {number}", row
    except (pa.ArrowException, OSError) as error:
        yield str(path), BadRecordError(f"this is not a Parquet file that can be read, after row {number} ({error})")


def _read_text(path: Path, stream: BinaryIO) -> Iterator[Record]:
    yield str(path), attempt(_text_record, path, stream.read().removeprefix(BYTE_ORDER_MARK))


_READERS: Mapping[str, Callable[[Path, BinaryIO], Iterator[Record]]] = {
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
    ".txt": _read_text,
    ".text": _read_text,
    ".md": _read_text,
    ".markdown": _read_text,
    ".rst": _read_text,
}


def _kind(path: Path) -> str:
    """Return the extension that says how to read the file; empty when there is none that we know."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if len(suffixes) == 2 and suffixes[1] == ".gz" and suffixes[0] != ".parquet":
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in _READERS else ""


def _known_kinds() -> str:
    return f"known are {', '.join(_READERS)} (all but .parquet also as .gz)"


def _files_below(folder: Path) -> Iterator[Path]:
    """Yield all files in the folder and below, sorted; hidden ones and LanceDB's folders are passed over."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise InvalidInputError(f"{folder}: the folder cannot be read ({error.strerror or error})") from error
    for path in entries:
        if path.name.startswith("."):
            continue
        if path.is_file():
            yield path
        elif path.is_dir() and not path.is_symlink() and path.suffix != ".lance":
            yield from _files_below(path)


def _object(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadRecordError(
            f"a record is a JSON object with 'text', not {type(value).__name__} ({value!r:.60}); "
            f"in .jsonl each line is one object, in .json the file is a list of objects or one object"
        )
    return value


def _json_record(line: Line) -> Mapping[str, Any]:
    return _object(json_value(line.content, line.offset))


def _csv_record(cells: list[str], header: list[str]) -> Mapping[str, Any]:
    """Return the row's fields; an empty cell is a missing value."""
    if len(cells) != len(header):
        raise BadRecordError(
            f"{len(cells)} cells, but the header has {len(header)} ({', '.join(header)}); "
            f"a cell with the separator inside must stand in quotation marks"
        )
    return {name: cell or None for name, cell in zip(header, cells, strict=True)}


def _text_record(path: Path, content: bytes) -> Mapping[str, Any]:
    text = decoded(content, 0)
    name = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    heading = _first_heading(text) if name.suffix.lower() in (".md", ".markdown") else None
    return {"id": path.as_posix(), "title": heading or name.stem, "text": text}


def _first_heading(text: str) -> str | None:
    """Return the first Markdown heading (`# ...`) outside of fenced code."""
    fenced = False
    for line in text.splitlines():
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        elif not fenced and (heading := _HEADING.match(line)):
            return heading.group(1)
    return None
