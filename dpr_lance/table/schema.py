"""The table's columns, declared once, and the card in its schema metadata: its encoder and its splitter."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa

from dpr_lance.encoders.card import EncoderCard
from dpr_lance.errors import DamagedTableError, InvalidInputError, TableError
from dpr_lance.records.hits import Hit, Mode
from dpr_lance.records.passage import Passage
from dpr_lance.table.identity import new_identity
from dpr_lance.text.language import ENGLISH, LANGUAGES, Language

FORMAT = 2
"""Version of the table's format; a table with a higher one is refused.

A table in English has format 1, which earlier versions of dpr_lance read; they would search others as English."""

METADATA_KEY = b"dpr_lance"

PRIMARY_KEY = {"lance-schema:unenforced-primary-key:position": "1"}
"""Field metadata that makes LanceDB resolve concurrent upserts by this column. In the schema of the first version it
cannot be missing after a crash, as a later call of `set_unenforced_primary_key` could be."""

ID = "id"
DOCUMENT_ID = "document_id"
CONTENT = "content"
VECTOR = "vector"
"""The vector column of a new table; after a re-embedding it is `vector_2`, and so on (see `TableCard.column`)."""

OWN_COLUMNS: tuple[pa.Field, ...] = (
    pa.field(ID, pa.string(), nullable=False, metadata=PRIMARY_KEY),
    pa.field(DOCUMENT_ID, pa.string()),
    pa.field("position", pa.int32()),
    pa.field("title", pa.string()),
    pa.field("text", pa.large_string(), nullable=False),
    pa.field(CONTENT, pa.large_string()),
    pa.field("start", pa.int64()),
    pa.field("end", pa.int64()),
    # Null until a passage is embedded. float16 takes 0.61 of the disk, but fused scores are off by 0.003, for up to 3
    # times the CPU.
    pa.field(VECTOR, pa.list_(pa.float32())),
    pa.field("content_hash", pa.string()),
    pa.field("document_hash", pa.string()),
)
"""Our columns of a new table. The vectors have the encoder's dimension; the user's metadata columns come after.

Plain LanceDB can add rows that have an id and a text, and null in the others: see `table.completion`.
"""

_NAMES = frozenset(field.name for field in OWN_COLUMNS)
PASSAGE_COLUMNS, HIT_COLUMNS = (
    tuple(field.name for field in OWN_COLUMNS if field.name in record.__dataclass_fields__) for record in (Passage, Hit)
)
"""The columns that are fields of a `Passage` and of a `Hit`."""

EMBEDDED = "_embedded"
"""Name under which reads get `vector IS NOT NULL`."""
_ENGINE_COLUMNS = frozenset(
    {
        "_rowid",
        "_rowaddr",
        "_rowoffset",
        "_row_created_at_version",
        "_row_last_updated_at_version",
        "_score",
        "_distance",
        "_relevance_score",
        "query_index",
    }
)
_RESERVED = _NAMES | _ENGINE_COLUMNS | {EMBEDDED}

REPLACEMENT, REPLACED = "_dpr_lance_new_", "_dpr_lance_old_"
"""Prefixes of the columns that exist while a metadata column is widened, or since a process died during that."""

_VECTOR_COLUMN = re.compile(r"vector(_\d+)?")


@dataclass(frozen=True, slots=True)
class TableCard:
    """What the schema metadata holds, written once when the table is created.

    `encoder_source` is what `connect(encoder=...)` was given (a packaged name, a path, Hub names), to load the encoder
    again. `column` holds the vectors that searches use. `mode` is that of a search without one, before a calibration;
    with "bm25" passages get no vectors unless they are asked for.
    """

    encoder: EncoderCard
    encoder_source: tuple[str, ...]
    splitter: str
    column: str = VECTOR
    language: Language = ENGLISH
    mode: Mode = "hybrid"

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
        language = {} if self.language == ENGLISH else {"language": self.language, "mode": self.mode}
        return {
            "format": FORMAT if language else 1,
            "encoder": json.loads(self.encoder.to_json()),
            "encoder_source": list(self.encoder_source),
            "splitter": self.splitter,
            "column": self.column,
            **language,
        }

    def to_json(self) -> bytes:
        """Return the card as it is stored in metadata of the schema and of columns."""
        return json.dumps(self.to_fields(), sort_keys=True).encode()

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
            language = value.get("language", ENGLISH)
            if language not in LANGUAGES:
                raise TableError(f"{place} has the language {language!r}, which is not known here: upgrade dpr-lance")
            return cls(
                encoder=EncoderCard.from_json(json.dumps(value["encoder"]), place=place),
                encoder_source=tuple(value["encoder_source"]),
                splitter=value["splitter"],
                column=value["column"],
                language=language,
                mode=value.get("mode", "hybrid"),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedTableError(
                f"{place}: its dpr_lance metadata is damaged ({error!r}); copy it back from a backup"
            ) from error

    @classmethod
    def from_schema(cls, schema: pa.Schema, *, place: str) -> TableCard:
        """Read the card of the table or of its re-embedded column; raise `TableError` if the table is not ours."""
        raw = (schema.metadata or {}).get(METADATA_KEY)
        if raw is None:
            raise TableError(
                f"{place} was not made by dpr_lance: choose another name with table=..., or another folder"
            )
        card = cls.from_json(raw, place=place)
        columns = [field.metadata or {} for field in schema if is_vector_column(field.name)]
        cards = [cls.from_json(kept[METADATA_KEY], place=place) for kept in columns if METADATA_KEY in kept]
        return card if card.column in schema.names or not cards else cards[0]


def column_key(column: str) -> bytes:
    """Return the key in the schema metadata of the card of a column that a re-embedding has added.

    Searches read that of the column itself; LanceDB's embedding functions see the schema's alone.
    """
    return METADATA_KEY + b"_" + column.encode()


def table_schema(card: TableCard, metadata_fields: Sequence[pa.Field]) -> pa.Schema:
    """Return the schema of a new table: our columns, then the user's metadata columns."""
    vector = pa.list_(pa.float32(), card.encoder.dimension)
    own = [field.with_type(vector) if field.name == VECTOR else field for field in OWN_COLUMNS]
    about = {METADATA_KEY: card.to_json()} | new_identity()
    return pa.schema([*own, *metadata_fields], metadata=about)


def language_of(schema: pa.Schema) -> Language:
    """Return the language of the table with this schema."""
    raw = (schema.metadata or {}).get(METADATA_KEY)
    return ENGLISH if raw is None else TableCard.from_json(raw, place="the table").language


def columns_read(names: Iterable[str], own: Sequence[str]) -> list[str]:
    """Return those of a table's columns that are in `own` (see `PASSAGE_COLUMNS`) or hold the user's metadata."""
    return [name for name in names if name in own or not is_reserved(name)]


def metadata_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the user's metadata in a row that was read."""
    return {name: value for name, value in row.items() if not is_reserved(name)}


def metadata_fields(schema: pa.Schema) -> list[pa.Field]:
    """Return the user's metadata columns of a table's schema."""
    return [field for field in schema if not is_reserved(field.name)]


def is_vector_column(name: str) -> bool:
    """Tell whether a column holds vectors of this encoder or another one."""
    return _VECTOR_COLUMN.fullmatch(name) is not None


@lru_cache(maxsize=4096)
def is_reserved(name: str) -> bool:
    """Tell whether a name is ours or LanceDB's, so that no metadata field can have it."""
    return name in _RESERVED or is_vector_column(name) or is_temporary(name)


def is_temporary(name: str) -> bool:
    """Tell whether a column only exists while a metadata column is widened."""
    return name.startswith((REPLACEMENT, REPLACED))


def check_column_name(name: str, *, place: str) -> None:
    """Raise `InvalidInputError` naming `place` when a metadata field cannot have this name."""
    if (problem := _name_problem(name)) is not None:
        raise InvalidInputError(f"{place}: the field {problem}")


@lru_cache(maxsize=4096)
def _name_problem(name: str) -> str | None:
    if is_reserved(name):
        owner = "LanceDB" if name in _ENGINE_COLUMNS else "dpr_lance"
        return f"{name!r} has the name of a column of {owner}; rename it"
    # A filter could not name a column with a backtick; a dot means a field within a struct; the engine loses a NUL.
    if not name or set(name) & set(".`\0"):
        return f"name {name!r} cannot be a column: it must not be empty or have a dot, a backtick or a NUL character"
    try:
        name.encode()
    except UnicodeEncodeError:
        return f"name {name!r} is not text: it has a lone surrogate"
    return None
