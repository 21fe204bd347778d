"""Passages, the unit of retrieval, and the documents that they are from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Passage:
    """The unit of retrieval: about 100 words of one document, with its title.

    `start` and `end` are character offsets of `text` in the document's text; `embedded`: it has a
    vector.
    """

    id: str
    document_id: str
    position: int
    title: str
    text: str
    start: int
    end: int
    embedded: bool
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document by what is known without reading its text.

    `title` is that of its first passage, and `passages` their number.
    """

    id: str
    title: str
    passages: int
