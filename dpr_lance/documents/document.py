"""A document, checked as it comes in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from dpr_lance.checks import checked_id, checked_text, is_visible, shown
from dpr_lance.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class Document:
    """A text, and optionally an id, a title and metadata.

    Without `id`, the same title and text are the same document. `metadata` values are strings, numbers, booleans,
    dates, times, and lists and mappings of these; they are read back as they were given. `types`: Arrow types of
    metadata fields; others are inferred.
    """

    text: str
    title: str = ""
    id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    types: Mapping[str, pa.DataType] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_mapping(
        cls, fields: Mapping[str, Any], *, place: str, types: Mapping[str, pa.DataType] | None = None
    ) -> Document:
        """Read `id`, `title`, `text` and metadata from a mapping; an integer id is written in decimal.

        Raises `InvalidInputError` naming `place` when a field cannot be used.
        """
        if not isinstance(fields, Mapping):
            raise InvalidInputError(
                f"{place}: a document is a mapping with 'text', or a Document, not {type(fields).__name__} "
                f"({fields!r:.60})"
            )
        identity = fields.get("id")
        if identity is not None:
            identity = checked_id(identity, name="id", place=place)
            place = f"{place} (id {identity!r})"
        if "text" not in fields:
            raise InvalidInputError(f"{place}: 'text' is missing; the fields are {sorted(map(str, fields))}")
        if fields["text"] is None:
            raise InvalidInputError(f"{place}: 'text' is empty (None); give the document a text, or leave it out")
        title = fields.get("title")
        odd = [key for key in fields if not isinstance(key, str)]
        if odd:
            raise InvalidInputError(f"{place}: field names must be strings, {odd[0]!r} is not")
        return cls(
            text=fields["text"],
            title="" if title is None else title,
            id=identity,
            metadata={key: value for key, value in fields.items() if key not in ("id", "title", "text")},
            types=types or {},
        ).checked(place=place)

    def checked(self, *, place: str) -> Document:
        """Return this document when it can be stored; raise `InvalidInputError` that names `place` otherwise."""
        if not isinstance(self.metadata, Mapping):
            raise InvalidInputError(f"{place}: metadata is a mapping of names to values, not {shown(self.metadata)}")
        if not isinstance(self.types, Mapping) or not all(
            isinstance(kind, pa.DataType) for kind in self.types.values()
        ):
            raise InvalidInputError(f"{place}: types is a mapping of names to Arrow types, not {shown(self.types)}")
        checked_text(self.text, name="text", place=place)
        checked_text(self.title, name="title", place=place)
        if not is_visible(self.text):
            raise InvalidInputError(f"{place}: 'text' is blank; drop the document, or pass on_error='skip'")
        if self.id is not None and not checked_text(self.id, name="id", place=place).strip():
            raise InvalidInputError(f"{place}: 'id' is blank; give it a value, or leave it out")
        return self
