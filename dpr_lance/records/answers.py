"""Answers to a question, each with the passages that it was read in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

from dpr_lance.records.hits import Hit, Hits
from dpr_lance.text.boundaries import sentences


@dataclass(frozen=True, slots=True)
class AnswerSource:
    """A place where an answer was read: character offsets into the text of a hit, and the probability of this span."""

    hit: Hit
    start: int
    end: int
    probability: float

    def sentence(self, before: str = "**", after: str = "**") -> str:
        """Return the sentence with the answer, on one line, the answer between the two marks."""
        text = self.hit.text
        spans = list(sentences(text))
        first = max((start for start, _ in spans if start <= self.start), default=0)
        last = min((end for _, end in spans if end >= self.end), default=len(text))
        parts = text[first : self.start], before, text[self.start : self.end], after, text[self.end : last]
        return " ".join("".join(parts).split())


@dataclass(frozen=True, slots=True)
class Answer:
    """A span of a passage that answers the question.

    `start` and `end` are character offsets of `text` in the text of `passage`, the hit in which the answer is most
    probable. `probability` is that of all places in which it was read, the `sources`, most probable first: answers that
    differ only in case, punctuation or articles are the same. Those of all spans in all passages add up to 1 at most.
    """

    text: str
    probability: float
    passage: Hit
    document_id: str
    start: int
    end: int
    sources: tuple[AnswerSource, ...]

    def sentence(self, before: str = "**", after: str = "**") -> str:
        """Return the sentence with the answer, on one line, the answer between the two marks."""
        return self.sources[0].sentence(before, after)


@dataclass(frozen=True, slots=True)
class Answers(Sequence[Answer]):
    """The answers to a question, most probable first.

    They are empty, with the `reason`, where nothing was found or the best answer is less probable than `threshold`;
    `withheld` are these. `hits` are the passages that were read, in the order of the reader's selection scores, which
    are their scores; `reader` is its name. `seconds` has those of the search, "read" and "total".
    """

    question: str
    answers: tuple[Answer, ...]
    hits: Hits
    reader: str
    threshold: float
    reason: str | None = None
    withheld: tuple[Answer, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def best(self) -> Answer | None:
        """The most probable answer, None without one."""
        return self.answers[0] if self.answers else None

    @overload
    def __getitem__(self, index: int) -> Answer: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Answer, ...]: ...
    def __getitem__(self, index: int | slice) -> Answer | tuple[Answer, ...]:
        return self.answers[index]

    def __len__(self) -> int:
        return len(self.answers)

    def __iter__(self) -> Iterator[Answer]:
        return iter(self.answers)


@dataclass(frozen=True, slots=True)
class AnswerCalibration:
    """The threshold of answers that `calibrate_answers` has chosen for a table and a reader; stored next to the table.

    `before` and `after` are the mean F1 with the threshold in use before and with the new one, on questions that it was
    not chosen on, where withholding an answer counts 1 for a question that has none, and 0 for another. It stays as it
    was unless the new one is better. `questions` were used, `unanswerable` of them without an answer.
    """

    reader: str
    fingerprint: str
    threshold: float
    questions: int
    unanswerable: int
    before: float
    after: float

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> AnswerCalibration:
        """Return the calibration with these fields, as read from JSON."""
        return cls(**fields)
