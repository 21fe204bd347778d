"""What a reader finds in one passage."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AnswerSpan:
    """A possible answer: character offsets into the passage's text.

    `probability` is P_start(s) · P_end(t) among the tokens of this passage (paper, section 6.1, equations 3 and 4).
    """

    start: int
    end: int
    probability: float


@dataclass(frozen=True, slots=True)
class Reading:
    """One passage as the reader read it: its selection score, and its best spans, most probable first.

    Passages are compared by the softmax of their selection scores (paper, section 6.1, equation 5).
    """

    score: float
    spans: tuple[AnswerSpan, ...]
