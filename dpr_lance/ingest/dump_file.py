"""The file of a dump: all passages of a table with their vectors, and the card of the encoder that made these.

    .parquet    the rows, and the head in the metadata of the file
    .jsonl      the head in the first line, then a row a line

A document's passages follow one another. The head names the version of the form, the table's card (encoder with its
fingerprint, splitter), and how many passages there are.
"""

from __future__ import annotations

import base64
import itertools
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types as kinds

from dpr_lance.documents.field_types import is_list
from dpr_lance.documents.values import UNSTORABLE
from dpr_lance.errors import InvalidInputError
from dpr_lance.ingest.dump_json import json_lines_of, rows_of_json
from dpr_lance.table.engine_errors import storage_named
from dpr_lance.table.schema import VECTOR, TableCard

FORMAT = 1
HEAD = "dpr_lance_dump"
"""Key of the head, in the metadata of a Parquet file and in the first line of JSON lines."""
ROWS_AT_ONCE = 1_000
ENDINGS = (".parquet", ".jsonl")

OWN = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("document_id", pa.string(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("text", pa.large_string(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("end", pa.int64(), nullable=False),
        pa.field("content_hash", pa.string(), nullable=False),
        pa.field("document_hash", pa.string(), nullable=False),
        pa.field(VECTOR, pa.list_(pa.float32())),
    ]
)
"""The columns of a dump before the user's metadata; a passage without a vector has null."""


@dataclass(frozen=True, slots=True)
class DumpHead:
    """What a dump says about itself."""

    card: TableCard
    passages: int
    metadata: pa.Schema
    """The user's columns, with their stored types."""

    @property
    def schema(self) -> pa.Schema:
        """The columns of the rows."""
        return pa.schema([*OWN, *self.metadata])

    def to_json(self) -> str:
        """Return the head as JSON; `from_json` reads it."""
        return json.dumps(
            {
                "format": FORMAT,
                "encoder": self.card.encoder.name,
                "fingerprint": self.card.encoder.fingerprint,
                "passages": self.passages,
                "card": self.card.to_fields(),
                "metadata": {field.name: str(field.type) for field in self.metadata},
                "schema": base64.b64encode(self.metadata.serialize().to_pybytes()).decode(),
            },
            ensure_ascii=False,
        )

    @classmethod
    def from_json(cls, text: str | bytes, place: str) -> DumpHead:
        """Read a head; raise `InvalidInputError` naming the file where it is damaged or of a newer form."""
        try:
            value = json.loads(text)
            if (version := int(value["format"])) > FORMAT:
                raise InvalidInputError(
                    f"{place}: this dump has format {version}, this dpr_lance knows up to {FORMAT}: upgrade dpr-lance"
                )
            card = TableCard.from_json(json.dumps(value["card"]), place=place)
            metadata = pa.ipc.read_schema(pa.BufferReader(base64.b64decode(value["schema"])))
            return cls(card, int(value["passages"]), metadata)
        except (*UNSTORABLE, KeyError, ValueError, TypeError) as error:
            if isinstance(error, InvalidInputError):
                raise
            raise InvalidInputError(f"{place}: the head of this dump is damaged ({error}): export it again") from error


class Writer(Protocol):
    """What takes the rows of a dump."""

    def write_table(self, table: pa.Table) -> None:
        """Write some rows."""

    def close(self) -> None:
        """Finish the file."""


class _JsonLines:
    def __init__(self, path: Path, head: DumpHead) -> None:
        self._file = path.open("w", encoding="utf-8", newline="\n")
        self._metadata = head.metadata.names
        self._file.write(f'{{"{HEAD}": {head.to_json()}}}\n')

    def write_table(self, table: pa.Table) -> None:
        self._file.writelines(f"{line}\n" for line in json_lines_of(table, self._metadata))

    def close(self) -> None:
        self._file.close()


class _Parquet:
    def __init__(self, path: Path, head: DumpHead) -> None:
        fields = [field.with_type(_without_fixed_sizes(field.type)) for field in head.schema]
        self._schema = pa.schema(fields, metadata={HEAD: head.to_json()})
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")

    def write_table(self, table: pa.Table) -> None:
        self._writer.write_table(table.cast(self._schema))

    def close(self) -> None:
        self._writer.close()


def _without_fixed_sizes(kind: pa.DataType) -> pa.DataType:
    """Return a type with common lists: before version 26, Arrow does not read null among lists of a fixed size."""
    if is_list(kind):
        item = _without_fixed_sizes(kind.value_type)
        return pa.large_list(item) if kinds.is_large_list(kind) else pa.list_(item)
    if kinds.is_struct(kind):
        return pa.struct([field.with_type(_without_fixed_sizes(field.type)) for field in kind])
    return kind


def ending_of(path: Path) -> str:
    """Return the ending of a dump's name; raise `InvalidInputError` for another one."""
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise InvalidInputError(f"path={str(path)!r}: a dump is a file that ends in {' or '.join(ENDINGS)}")
    return ending


def write_dump(path: Path, head: DumpHead, rows: Iterable[pa.Table]) -> int:
    """Write a dump under another name and rename it at its end; return how many passages it has."""
    written = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    make = _Parquet if ending_of(path) == ".parquet" else _JsonLines
    count = 0
    try:
        with storage_named(str(path)), closing(make(written, head)) as writer:
            for part in rows:
                writer.write_table(part)
                count += part.num_rows
        with storage_named(str(path)):
            written.replace(path)
    finally:
        written.unlink(missing_ok=True)
    return count


def head_of(path: Path) -> DumpHead | None:
    """Return the head of a dump; None for a file that is none."""
    ending = path.suffix.lower()
    try:
        if ending == ".parquet":
            with pq.ParquetFile(path) as file:
                found = (file.schema_arrow.metadata or {}).get(HEAD.encode())
            return None if found is None else DumpHead.from_json(found, str(path))
        if ending == ".jsonl":
            with path.open("rb") as file:
                begin = f'{{"{HEAD}": '.encode()
                if file.read(len(begin)) != begin:
                    return None
                return DumpHead.from_json(file.readline().rstrip()[:-1], f"{path}:1")
    except (pa.ArrowException, OSError):
        return None  # the readers of files say what is wrong
    return None


def read_dump(path: Path, head: DumpHead) -> Iterator[pa.Table]:
    """Yield the rows of a dump, about 1,000 at a time; raise `InvalidInputError` naming a place that is damaged."""
    schema = head.schema
    if path.suffix.lower() == ".parquet":
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=ROWS_AT_ONCE):
                    yield pa.Table.from_batches([batch]).select(schema.names)
        except (*UNSTORABLE, OSError, KeyError) as error:
            raise InvalidInputError(f"{path}: this dump is damaged ({error}): export it again") from error
        return
    with path.open(encoding="utf-8") as lines:
        next(lines)
        start = 2
        while some := list(itertools.islice(lines, ROWS_AT_ONCE)):
            place = f"{path}:{start}-{start + len(some) - 1}"
            try:
                values: list[Mapping[str, Any]] = [json.loads(line) for line in some]
                yield rows_of_json(values, schema, head.metadata.names)
            except (*UNSTORABLE, ValueError, KeyError, TypeError, AttributeError) as error:
                raise InvalidInputError(f"{place}: these lines of the dump are damaged ({error!r})") from error
            start += len(some)
