"""The table's form: its columns, and what its schema metadata says of the encoder and the splitter."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dpr_lance.card import EncoderCard
from dpr_lance.errors import DamagedTableError, EncoderError, InvalidInputError, TableError
from dpr_lance.identity import new_identity
from dpr_lance.normal_form import content_of
from dpr_lance.records import Document, Passage
from dpr_lance.splitter import Splitter, spans_of, splitter_name

Vector = NDArray[np.float32]

FORMAT = 1
"""Version of the table's form; a table with a higher one is refused."""

METADATA_KEY = b"dpr_lance"

PRIMARY_KEY = {"lance-schema:unenforced-primary-key:position": "1"}
"""Field metadata that makes LanceDB resolve concurrent upserts by this column. Being in the schema from the first
version on, it cannot be missing after a crash, as a call of `set_unenforced_primary_key` could be."""

ID = "id"
DOCUMENT_ID = "document_id"
CONTENT = "content"
VECTOR = "vector"
"""The vector column of a new table; after a re-embedding it is `vector_2`, and so on (see `TableCard.column`)."""

OWN_COLUMNS = (
    ID,
    DOCUMENT_ID,
    "position",
    "title",
    "text",
    CONTENT,
    "start",
    "end",
    VECTOR,
    "content_hash",
    "document_hash",
)
EMBEDDED = "_embedded"
"""Name under which reads ask for `vector IS NOT NULL`."""
_RESERVED = frozenset(OWN_COLUMNS) | {
    EMBEDDED,
    "_rowid",
    "_rowaddr",
    "_score",
    "_distance",
    "_relevance_score",
    "query_index",
}

_COLUMN_NAME = re.compile(r"[\w \-:/+@#%&()]+")
"""What LanceDB's filters can name; a dot would mean a field within a struct."""

_VECTOR_COLUMN = re.compile(r"vector(_\d+)?")

_UNSTORABLE = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, UnicodeEncodeError)


@dataclass(frozen=True, slots=True)
class TableCard:
    """What the schema metadata holds, written once when the table is created.

    `encoder_source` is what `connect(encoder=...)` was given (a packaged name, a path, Hub names), so that the table's
    own encoder is found again without being named. `column` holds the vectors that searches use.
    """

    encoder: EncoderCard
    encoder_source: tuple[str, ...]
    splitter: str
    column: str = VECTOR

    @property
    def embedded(self) -> str:
        """The filter that a passage has a vector."""
        return f"{self.column} IS NOT NULL"

    @property
    def unembedded(self) -> str:
        """The filter that a passage has no vector yet."""
        return f"{self.column} IS NULL"

    def to_fields(self) -> dict[str, Any]:
        """Return the card as a JSON object; `from_json` reads it."""
        return {
            "format": FORMAT,
            "encoder": json.loads(self.encoder.to_json()),
            "encoder_source": list(self.encoder_source),
            "splitter": self.splitter,
            "column": self.column,
        }

    @classmethod
    def from_json(cls, text: str | bytes, *, place: str) -> TableCard:
        """Read a card; raise `TableError` naming `place` when it is damaged or of a newer format."""
        try:
            value = json.loads(text)
            version = int(value["format"])
            if version > FORMAT:
                raise TableError(
                    f"{place} has format {version}, this dpr_lance knows up to {FORMAT}: upgrade dpr-lance"
                )
            return cls(
                encoder=EncoderCard.from_json(json.dumps(value["encoder"]), place=place),
                encoder_source=tuple(value["encoder_source"]),
                splitter=value["splitter"],
                column=value["column"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedTableError(
                f"{place}: its dpr_lance metadata is damaged ({error!r}); copy it back from a backup"
            ) from error

    @classmethod
    def from_schema(cls, schema: pa.Schema, *, place: str) -> TableCard:
        """Read what the table or its re-embedded column tells; raise `TableError` naming `place` if it is not ours."""
        raw = (schema.metadata or {}).get(METADATA_KEY)
        if raw is None:
            raise TableError(
                f"{place} was not made by dpr_lance: choose another name with table=..., or another folder"
            )
        card = cls.from_json(raw, place=place)
        told = [field.metadata or {} for field in schema if is_vector_column(field.name)]
        cards = [cls.from_json(of[METADATA_KEY], place=place) for of in told if METADATA_KEY in of]
        return card if card.column in schema.names or not cards else cards[0]


def table_schema(card: TableCard, metadata_fields: Sequence[pa.Field]) -> pa.Schema:
    """Return the schema of a new table: our columns, then the user's metadata columns.

    `id` is not nullable, as LanceDB asks of a primary key; `vector` is null until a passage is embedded. It is float32:
    float16 took 0.61 of the disk, but rounds questions too (fused scores off by 0.003) and takes up to 3 times the CPU.
    """
    own = [
        pa.field(ID, pa.string(), nullable=False, metadata=PRIMARY_KEY),
        pa.field(DOCUMENT_ID, pa.string(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("text", pa.large_string(), nullable=False),
        pa.field(CONTENT, pa.large_string(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("end", pa.int64(), nullable=False),
        pa.field(VECTOR, pa.list_(pa.float32(), card.encoder.dimension)),
        pa.field("content_hash", pa.string(), nullable=False),
        pa.field("document_hash", pa.string(), nullable=False),
    ]
    about = {METADATA_KEY: json.dumps(card.to_fields(), sort_keys=True)} | new_identity()
    return pa.schema([*own, *metadata_fields], metadata=about)


def metadata_fields(schema: pa.Schema) -> list[pa.Field]:
    """Return the user's metadata columns of a table's schema."""
    return [field for field in schema if not is_reserved(field.name)]


def is_vector_column(name: str) -> bool:
    """Tell whether a column holds vectors, of this encoder, an earlier one, or one to come."""
    return _VECTOR_COLUMN.fullmatch(name) is not None


def is_reserved(name: str) -> bool:
    """Tell whether a name is ours or LanceDB's, and no metadata field can have it."""
    return name in _RESERVED or is_vector_column(name)


def hash_of(*parts: str) -> str:
    """Return 128 bits of BLAKE2b over the parts, each preceded by its length, in hexadecimal."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Row:
    """A passage on its way into the table, before it has a vector."""

    passage: Passage
    content_hash: str
    """Of title and text: passages with the same one have the same vector."""
    document_hash: str
    """See `stored_hash`: an equal one, on that many passages, means that nothing has to be written."""

    @property
    def content(self) -> str:
        """What BM25 indexes of the passage."""
        return content_of(self.passage.title, self.passage.text)


def document_id_of(document: Document) -> str:
    """Return the document's id, or one made of its content when it has none."""
    return document.id if document.id is not None else hash_of(document.title, document.text)


def document_hash_of(document: Document, splitter: Splitter | None) -> str:
    """Return the hash that tells whether anything of a document has changed since it was stored."""
    present = {name: value for name, value in document.metadata.items() if value is not None}
    metadata = json.dumps(present, sort_keys=True, default=repr)
    return hash_of(document.title, document.text, metadata, splitter_name(splitter))


def stored_hash(document_hash: str, passages: int) -> str:
    """Return what each of a document's passages keeps: its hash, and how many passages it was split into.

    With the number, a document of which passages were deleted is known without splitting it again.
    """
    return f"{document_hash}:{passages}"


def rows_of(document: Document, document_hash: str, splitter: Splitter | None) -> list[Row]:
    """Return the document's passages as rows, in order; ids are the document's id, '#' and the position."""
    document_id = document_id_of(document)
    spans = spans_of(document.text, splitter)
    kept_hash = stored_hash(document_hash, len(spans))
    rows = []
    for position, span in enumerate(spans):
        title, text = span.titled(document.title), document.text[span.start : span.end]
        passage = Passage(
            id=f"{document_id}#{position}",
            document_id=document_id,
            position=position,
            title=title,
            text=text,
            start=span.start,
            end=span.end,
            embedded=False,
            metadata=document.metadata,
        )
        rows.append(Row(passage, hash_of(title, text), kept_hash))
    return rows


def checked_metadata(document: Document, *, place: str) -> None:
    """Raise `InvalidInputError` naming `place` when a metadata name cannot be a column, or a value cannot be stored."""
    for name, value in document.metadata.items():
        if is_reserved(name):
            raise InvalidInputError(f"{place}: the field {name!r} has the name of a column of dpr_lance; rename it")
        if not _COLUMN_NAME.fullmatch(name):
            raise InvalidInputError(
                f"{place}: the field name {name!r} cannot be a column: use letters, digits, spaces and _-:/+@#%&()"
            )
        try:
            pa.array([value])
        except _UNSTORABLE as error:
            raise InvalidInputError(
                f"{place}: the field {name!r} cannot be stored: {value!r:.60} ({error}); make it a string, number, "
                f"boolean, date, list or mapping"
            ) from error


def new_fields(
    documents: Sequence[Document], schema: pa.Schema | None, types: Mapping[str, pa.DataType]
) -> list[pa.Field]:
    """Return fields for the metadata names that `schema` does not have and that some document has a value for.

    The type is the one in `types`, else what Arrow infers from these documents; where they have no common type, that
    of the first one (`checked_values` then names the others).
    """
    values: dict[str, list[Any]] = {}
    for document in documents:
        for name, value in document.metadata.items():
            if value is not None and (schema is None or name not in schema.names):
                values.setdefault(name, []).append(value)
    kinds = {name: types.get(name) or _inferred_type(column) for name, column in values.items()}
    return [pa.field(name, kind) for name, kind in kinds.items() if not _is_unknown(kind)]


def _inferred_type(values: Sequence[Any]) -> pa.DataType:
    try:
        return pa.array(values).type
    except _UNSTORABLE:
        return pa.array(values[:1]).type


def checked_values(document: Document, fields: Sequence[pa.Field]) -> None:
    """Raise `InvalidInputError` naming document and field when a metadata value does not have its column's type."""
    for field in fields:
        value = document.metadata.get(field.name)
        if value is None:
            continue
        try:
            stored = pa.array([value], type=field.type)[0].as_py()
        except _UNSTORABLE as error:
            raise _unfitting(document, field, value) from error
        # Arrow cuts the fraction off without a word.
        if pa.types.is_integer(field.type) and stored != value:
            raise _unfitting(document, field, value)


def _unfitting(document: Document, field: pa.Field, value: object) -> InvalidInputError:
    return InvalidInputError(
        f"document {document_id_of(document)!r}: the metadata field {field.name!r} is {value!r:.60}, "
        f"the table holds {field.type} there; convert it"
    )


def _is_unknown(kind: pa.DataType) -> bool:
    """Tell whether only nulls and empty lists have been seen, which does not tell a column's type yet."""
    return pa.types.is_null(kind) or (pa.types.is_list(kind) and _is_unknown(kind.value_type))


def arrow_rows(rows: Sequence[Row], vectors: Mapping[str, Vector], schema: pa.Schema, column: str) -> pa.Table:
    """Return the rows as an Arrow table of the stored schema.

    `vectors` maps passage ids to the float32[d] that go into `column`; a passage without one gets null. Metadata values
    fit their columns (see `checked_values`).
    """
    own: dict[str, list[Any]] = {
        ID: [row.passage.id for row in rows],
        DOCUMENT_ID: [row.passage.document_id for row in rows],
        "position": [row.passage.position for row in rows],
        "title": [row.passage.title for row in rows],
        "text": [row.passage.text for row in rows],
        CONTENT: [row.content for row in rows],
        "start": [row.passage.start for row in rows],
        "end": [row.passage.end for row in rows],
        "content_hash": [row.content_hash for row in rows],
        "document_hash": [row.document_hash for row in rows],
    }
    arrays = []
    for field in schema:
        if field.name == column:
            arrays.append(vector_array([vectors.get(row.passage.id) for row in rows], field.type.list_size))
        elif is_vector_column(field.name):
            arrays.append(pa.nulls(len(rows), field.type))
        elif field.name in own:
            arrays.append(pa.array(own[field.name], type=field.type))
        else:
            arrays.append(pa.array([row.passage.metadata.get(field.name) for row in rows], type=field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def vectors_of(column: pa.Array | pa.ChunkedArray) -> Vector:
    """Return the vectors of a vector column that are there, in their order: float32[n, d]."""
    there = column.drop_null()
    array = there.combine_chunks() if isinstance(there, pa.ChunkedArray) else there
    vectors: Vector = array.flatten().to_numpy().reshape(-1, column.type.list_size)
    return vectors


def checked_vectors(vectors: object, count: int, card: EncoderCard) -> Vector:
    """Return an encoder's output as float32[count, dimension]; raise `EncoderError` when it is something else."""
    try:
        array = np.asarray(vectors, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise EncoderError(
            f"encoder {card.name!r} gave {type(vectors).__name__} for {count} texts, which is not an array of numbers "
            f"({error})"
        ) from error
    if array.shape != (count, card.dimension):
        raise EncoderError(
            f"encoder {card.name!r} gave an array of shape {array.shape} for {count} texts; its card says dimension "
            f"{card.dimension}"
        )
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if bad.size:
        raise EncoderError(f"encoder {card.name!r} gave NaN or infinity for text {int(bad[0])} of {count}")
    return array


def vector_array(vectors: Sequence[Vector | None], dimension: int) -> pa.Array:
    """Return float32[d] vectors as an Arrow fixed-size list, None as null."""
    missing = np.zeros(dimension, dtype=np.float32)
    values = np.concatenate([missing if vector is None else vector for vector in vectors]) if vectors else missing[:0]
    mask = pa.array([vector is None for vector in vectors], type=pa.bool_())
    return pa.FixedSizeListArray.from_arrays(pa.array(values, type=pa.float32()), dimension, mask=mask)


def passages_of(batch: pa.Table) -> list[Passage]:
    """Return the passages of rows read from the table with `_embedded` in place of the vector."""
    extra = [name for name in batch.schema.names if not is_reserved(name)]
    return [
        Passage(
            id=row[ID],
            document_id=row[DOCUMENT_ID],
            position=row["position"],
            title=row["title"],
            text=row["text"],
            start=row["start"],
            end=row["end"],
            embedded=row[EMBEDDED],
            metadata={name: row[name] for name in extra},
        )
        for row in batch.to_pylist()
    ]
