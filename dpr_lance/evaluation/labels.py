"""Whether the passages that questions are labelled with are stored at all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dpr_lance.errors import InvalidInputError
from dpr_lance.readers.questions import LabelledQuestion
from dpr_lance.retriever import Retriever

_IDS_AT_ONCE = 1_000


@dataclass(slots=True)
class StoredLabels:
    """The different labels of the questions so far: those that name a stored passage or document, and the others."""

    retriever: Retriever
    found: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)

    def look_up(self, questions: Iterable[LabelledQuestion]) -> None:
        """Find out which labels of these questions are stored."""
        new = sorted({name for question in questions for name in question.labels} - self.found - self.missing)
        for start in range(0, len(new), _IDS_AT_ONCE):
            asked = set(new[start : start + _IDS_AT_ONCE])
            stored = self.retriever.get(sorted(asked))
            there = asked & ({passage.id for passage in stored} | {passage.document_id for passage in stored})
            self.found |= there
            self.missing |= asked - there

    def check(self, *, judged_otherwise: bool) -> None:
        """Raise `InvalidInputError` when there are labels, none is stored, and nothing else to judge by."""
        if self.missing and not self.found and not judged_otherwise:
            raise InvalidInputError(
                f"none of the {len(self.missing):,} labels of these questions is stored here, as "
                f"{min(self.missing)!r:.60}: labels are ids of passages or documents of this table"
            )
