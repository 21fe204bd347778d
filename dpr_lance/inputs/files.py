"""Files, folders of files and standard input as streams of documents.

    .jsonl .ndjson          one object a line
    .json                   a list of objects, or one object
    .csv .tsv               a header line, then one record a row; an empty cell is a missing value
    .parquet                one record a row
    .txt .text .md .markdown .rst    the whole file is one document: id = its path, title = first heading or file name

All but Parquet can be compressed (.gz). In records `text` is required, `id` (or BEIR's `_id`) and `title` are
optional, everything else is metadata; a first column without a name, as pandas writes an index, is left out. Records of
up to `max_document_bytes` are read one at a time. Errors name the file, the place and the remedy. Empty files are
skipped and reported.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from dpr_lance.checks import checked_path, checked_whole, is_visible
from dpr_lance.documents.arrow_records import ArrowRecord, ArrowRecords
from dpr_lance.documents.document import Document
from dpr_lance.errors import InvalidInputError
from dpr_lance.inputs.documents import storable
from dpr_lance.inputs.lines import (
    MAX_DOCUMENT_BYTES,
    BadRecordError,
    attempt,
    bounded,
    csv_rows,
    decoded,
    json_items,
    json_lines,
    open_regular,
    readable,
    too_long,
    unpacked,
)
from dpr_lance.inputs.listing import KINDS, file_id, kind_of
from dpr_lance.records.reports import OnError, Skipped
from dpr_lance.text.markdown import first_heading

STANDARD_INPUT = "standard input"
_PARQUET_BATCH = 1024
MOST_FIELDS = 1_000
"""Fields of a record: every name becomes a column of the table."""
_EMPTY = "the file is empty"

Record = tuple[str, Mapping[str, Any] | ArrowRecord | BadRecordError | Skipped]
"""A record's place, with its fields, with what is wrong with it, or with why it is skipped in any case."""


@dataclass(frozen=True, slots=True)
class FieldNames:
    """The names of a record's fields. A field that a renamed one displaces is kept as `record_<name>`."""

    id: str = "id"
    text: str = "text"
    title: str = "title"

    def renamed(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the fields with `id`, `text` and `title` under those names; raise `BadRecordError` without a text."""
        if len(fields) > MOST_FIELDS:
            raise BadRecordError(
                f"{len(fields):,} fields, each of which would be a column; {MOST_FIELDS:,} are the most"
            )
        identity = "_id" if self.id == "id" and "id" not in fields else self.id
        sources = {"id": identity, "text": self.text, "title": self.title}
        if self.text not in fields:
            raise BadRecordError(
                f"there is no field {self.text!r}; the fields are: {', '.join(map(repr, fields)) or 'none'}"
            )
        found = {target: fields[source] for target, source in sources.items() if source in fields}
        rest = {key: value for key, value in fields.items() if key not in sources.values()}
        return found | {f"record_{key}" if key in sources else key: value for key, value in rest.items()}


def file_named(documents: object) -> Path | None:
    """Return the path where documents are given as that of a file; None for anything else.

    A string counts as a path only where it names a file of a known kind. Raises `InvalidInputError` for a path that
    names none.
    """
    if not isinstance(documents, (str, os.PathLike)):
        return None
    if isinstance(documents, str) and Path(documents.removesuffix(".gz")).suffix.lower() not in KINDS:
        return None
    path = checked_path(documents, "documents")
    try:
        known = path.is_file() and kind_of(path) in KINDS
    except (OSError, ValueError):
        known = False
    if not known:
        raise InvalidInputError(
            f"documents={str(path)!r:.200}: there is no such file, or it is not one of {', '.join(KINDS)}"
        )
    return path


class FileDocuments:
    """The documents of files or of standard input; can be iterated once.

    With `on_error="raise"` the first bad record raises `InvalidInputError`; with `"skip"` it becomes a `Skipped` in the
    stream, as an empty file always does. A record of more than `max_document_bytes` is bad; memory does not grow with
    it. The id of a text file is its path relative to the folder `base` (None: its absolute path).
    """

    def __init__(
        self,
        files: Sequence[Path],
        *,
        field_names: FieldNames | None = None,
        on_error: OnError = "raise",
        max_document_bytes: int = MAX_DOCUMENT_BYTES,
        base: Path | None = None,
    ) -> None:
        self._files = files
        self._field_names = field_names or FieldNames()
        self._on_error = on_error
        self._limit = checked_whole(
            max_document_bytes, "max_document_bytes", "give a number of bytes, 1 or more", least=1
        )
        self._base = base
        self._finished = 0
        self._open: BinaryIO | None = None
        self.bytes_total = sum(path.stat().st_size for path in files if path.exists())

    @property
    def bytes_read(self) -> int:
        """Bytes of the files on disk that have been read so far, of `bytes_total`."""
        return self._finished + (self._open.tell() if self._open else 0)

    def __iter__(self) -> Iterator[Document | Skipped]:
        for path in self._files:
            with closing(self._records(path)) as records:
                yield from self._documents(records)

    def read_lines(self, stream: BinaryIO) -> Iterator[Document | Skipped]:
        """Yield the documents of a stream of JSON lines, such as standard input."""
        return self._documents(_read_json_lines(Path(STANDARD_INPUT), stream, self._limit))

    def _documents(self, records: Iterator[Record]) -> Iterator[Document | Skipped]:
        for place, found in records:
            if isinstance(found, Skipped):
                yield found
                continue
            try:
                document = self._document(found, place)
            except InvalidInputError as error:
                if self._on_error == "raise":
                    raise
                yield Skipped(place, str(error).removeprefix(place).lstrip(": "))
            else:
                yield document

    def _document(self, found: Mapping[str, Any] | ArrowRecord | BadRecordError, place: str) -> Document:
        types: Mapping[str, pa.DataType] = {}
        try:
            if isinstance(found, ArrowRecord):
                types, found = found.types, found.fields if found.problem is None else BadRecordError(found.problem)
            if isinstance(found, BadRecordError):
                raise found
            fields = self._field_names.renamed(found)
        except BadRecordError as problem:
            raise InvalidInputError(f"{place}: {problem}") from None
        document = Document.from_mapping(fields, place=place, types=types)
        if len(document.text) > self._limit:
            raise InvalidInputError(f"{place}: {too_long(self._limit)}")
        return storable(document, place=place)

    def _records(self, path: Path) -> Generator[Record, None, None]:
        """Yield the file's records; a fault of the file itself is the last of them."""
        try:
            with readable(), open_regular(path) as stream:
                self._open = stream
                size = os.fstat(stream.fileno()).st_size
                kind = kind_of(path)
                if kind in _TEXTS:
                    yield _text_file(path, unpacked(path, stream), self._limit, self._base)
                elif not size and kind not in _LINES:
                    yield str(path), Skipped(str(path), _EMPTY)
                else:
                    yield from _READERS[kind](path, unpacked(path, stream), self._limit)
                self._finished += size
                self._open = None
        except BadRecordError as problem:
            yield str(path), problem
        finally:
            self._open = None


def _read_json_lines(path: Path, stream: BinaryIO, limit: int) -> Iterator[Record]:
    for number, value in json_lines(stream, limit):
        yield f"{path}:{number}", value if isinstance(value, BadRecordError) else attempt(_object, value)


def _read_json(path: Path, stream: BinaryIO, limit: int) -> Iterator[Record]:
    number = 0
    for number, (_, item) in enumerate(json_items(stream, limit), start=1):
        whole = isinstance(item, BadRecordError)
        yield str(path) if whole else f"{path}: item {number}", item if whole else attempt(_object, item)
    if not number:
        yield str(path), Skipped(str(path), _EMPTY)


def _read_csv(path: Path, stream: BinaryIO, limit: int) -> Iterator[Record]:
    separator = "\t" if kind_of(path) == ".tsv" else ","
    header: list[str] = []
    for number, cells in csv_rows(stream, separator, limit):
        if isinstance(cells, list) and not any(cells):
            continue
        place = f"{path}:{number}"
        if isinstance(cells, BadRecordError):
            yield place, cells
        elif header:
            yield place, attempt(_csv_record, cells, header)
        else:
            header = [cell.strip() for cell in cells]
            if doubled := [name for name in header if name and header.count(name) > 1]:
                yield place, BadRecordError(f"the header names {doubled[0]!r} twice; every column needs its own name")
                return


def _read_parquet(path: Path, stream: BinaryIO, limit: int) -> Iterator[Record]:
    number = 0
    try:
        source = pq.ParquetFile(stream)
        records = ArrowRecords(source.schema_arrow, place=str(path))
        for batch in source.iter_batches(batch_size=_rows_at_once(source.metadata, limit)):
            for row in records.rows(batch):
                number += 1
                yield f"{path}: row {number}", row
    except (pa.ArrowException, OSError) as error:
        yield str(path), BadRecordError(f"this is not a Parquet file that can be read, after row {number} ({error})")


def _rows_at_once(metadata: pq.FileMetaData, limit: int) -> int:
    """Return how many rows of a Parquet file to read together: about as much as one document may have."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    widest = max((group.total_byte_size / max(1, group.num_rows) for group in groups), default=0.0)
    return int(min(_PARQUET_BATCH, max(1, limit / max(1.0, widest))))


_READERS: Mapping[str, Callable[[Path, BinaryIO, int], Iterator[Record]]] = {
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
}
_TEXTS = frozenset(KINDS) - _READERS.keys()
_LINES = (".jsonl", ".ndjson", ".csv", ".tsv")


def _object(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadRecordError(
            f"a record is a JSON object with 'text', not {type(value).__name__} ({value!r:.60}); "
            f"in .jsonl each line is one object, in .json the file is a list of objects or one object"
        )
    return value


def _csv_record(cells: list[str], header: list[str]) -> Mapping[str, Any]:
    """Return the row's fields; an empty cell is a missing value, and a first column without a name is left out."""
    if len(cells) != len(header):
        raise BadRecordError(
            f"{len(cells)} cells, but the header has {len(header)} ({', '.join(header)}); "
            f"a cell with the separator inside must stand in quotation marks"
        )
    named = [(name or f"column {at}", cell) for at, (name, cell) in enumerate(zip(header, cells, strict=True), start=1)]
    return {name: cell or None for name, cell in named[0 if header[0] else 1 :]}


def _text_file(path: Path, stream: BinaryIO, limit: int, base: Path | None) -> Record:
    content = attempt(bounded, stream, limit)
    if isinstance(content, BadRecordError):
        return str(path), content
    text = attempt(decoded, content, 0)
    if isinstance(text, BadRecordError):
        return str(path), text
    if not is_visible(text):
        return str(path), Skipped(str(path), _EMPTY)
    name = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    heading = first_heading(text) if kind_of(path) in (".md", ".markdown") else None
    return str(path), {"id": file_id(path, base), "title": heading or name.stem, "text": text}
