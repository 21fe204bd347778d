"""Reports and progress of adding, embedding and index maintenance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dpr_lance.encoders.card import EncoderCard

OnError = Literal["raise", "skip"]
"""What happens at a record that cannot be used: an error, or it is left out and counted."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A document, passage or question that was left out: its place or id, and the reason."""

    place: str
    reason: str


@dataclass(frozen=True, slots=True)
class AddReport:
    """What `add` did. Every document that was read is in exactly one of the five document counts.

    `documents_duplicate` were superseded by a later document with the same id in the same batch.
    `truncated_passages` are too long for the encoder, which cut `truncated_tokens` from them; BM25 sees the whole text.
    `passages_without_vector` are stored and found by BM25, but the encoder makes no vector of them, for example of a
    page of replacement characters.
    """

    documents_added: int = 0
    documents_replaced: int = 0
    documents_unchanged: int = 0
    documents_duplicate: int = 0
    documents_skipped: int = 0
    skipped: tuple[Skipped, ...] = ()
    """The first 100 documents that were skipped."""
    passages_added: int = 0
    passages_removed: int = 0
    passages_embedded: int = 0
    truncated_passages: int = 0
    truncated_tokens: int = 0
    passages_without_vector: int = 0
    without_vector: tuple[Skipped, ...] = ()
    """The first 100 passages without a vector."""
    not_embedded: str | None = None
    """Why passages have no vectors although `embed` is true; None when they were embedded."""
    seconds: float = 0.0

    @property
    def documents_read(self) -> int:
        """The number of documents in the input."""
        stored = self.documents_added + self.documents_replaced + self.documents_unchanged
        return stored + self.documents_duplicate + self.documents_skipped


@dataclass(frozen=True, slots=True)
class ReembedReport:
    """What `reembed` did; `passages_embedded` is 0 when the table already had vectors of this encoder.

    `passages_without_vector` and `without_vector` are as in `AddReport`.
    """

    encoder: EncoderCard
    passages_embedded: int = 0
    truncated_passages: int = 0
    truncated_tokens: int = 0
    passages_without_vector: int = 0
    without_vector: tuple[Skipped, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class VectorReport:
    """What `import_vectors` did: passages that got a vector, and vectors whose passage is not stored."""

    passages: int
    unknown: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Progress:
    """How far `add`, `embed`, `reembed` or `import_vectors` has come, passed to its `progress` callback.

    `documents` are stored; `passages` have been embedded by this call, found to have no vector, or read from files. The
    totals are None where they are unknown.
    """

    documents: int
    passages: int
    seconds: float
    documents_total: int | None = None
    passages_total: int | None = None


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """One index of the table: the rows that it covers, and the rows that are searched without it."""

    name: str
    column: str
    kind: str
    indexed_rows: int
    unindexed_rows: int


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What `optimize` did: the names of the indexes that it built, and the vector index's recall (None if exact)."""

    built: tuple[str, ...]
    indexes: tuple[IndexInfo, ...]
    recall: float | None
    bytes_before: int | None
    bytes_after: int | None
    seconds: float
