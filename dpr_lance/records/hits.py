"""Passages and hits: what a search returns, and how it found it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, overload

from dpr_lance.checks import checked_callback, checked_text, refused, shown
from dpr_lance.text.snippet import LENGTH, snippet

Mode = Literal["hybrid", "dense", "bm25"]
MODES: tuple[Mode, ...] = ("hybrid", "dense", "bm25")


@dataclass(frozen=True, slots=True)
class Passage:
    """The unit of retrieval: about 100 words of one document, with its title.

    `start` and `end` are character offsets of `text` in the document's text; `embedded` tells whether it has a vector.
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
class WordScore:
    """What one word of the question adds to a passage's BM25 score; `term` is the word as the index has it."""

    word: str
    term: str
    score: float


@dataclass(frozen=True, slots=True)
class HitExplanation:
    """How a hit was found: its rank within each leg's candidates (None when it was not among them), and its words.

    `words` has only those that match, most telling first; their scores sum up to the hit's `bm25_score` (within 1e-4
    while `Explanation.unfolded_rows` is 0).
    """

    dense_rank: int | None
    bm25_rank: int | None
    words: tuple[WordScore, ...]


Metric = Literal["dot", "cosine"]


@dataclass(frozen=True, slots=True)
class Effort:
    """How thoroughly vectors are searched: of `partitions`, `probes` at the least; all None while search is exact.

    The candidates of an index are scored again on the stored vectors, `refine_factor` times as many as are asked for.
    `metric` is what they are ordered by, which for unit vectors is the same order in either case.
    """

    partitions: int | None = None
    probes: int | None = None
    refine_factor: int | None = None
    metric: Metric = "dot"


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a search went: what each leg was asked for and found (None where the mode did not use it), and their union.

    `unfolded_rows` are passages that the BM25 index does not cover yet: while there are any, LanceDB's statistics of
    words depend on what is searched, and the words' scores need not sum up to a hit's `bm25_score`.
    """

    candidates: int
    dense_candidates: int | None
    bm25_candidates: int | None
    candidates_asked: int
    effort: Effort | None
    unfolded_rows: int


@dataclass(frozen=True, slots=True)
class Hit:
    """One passage in a result. Scores: higher is better; None where the mode did not use that leg.

    `dense_score` is the inner product of question and passage vectors, `bm25_score` Lucene's BM25 (0 when no term
    matches), `score` what the hits are ordered by. `explanation` is there when `search(explain=True)` asked for it.
    """

    rank: int
    id: str
    document_id: str
    title: str
    text: str
    score: float
    dense_score: float | None
    bm25_score: float | None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    question: str = field(default="", repr=False)
    explanation: HitExplanation | None = None

    def snippet(
        self, length: int = LENGTH, *, before: str = "**", after: str = "**", escape: Callable[[str], str] = str
    ) -> str:
        """Return the part of the text that holds most of the question's words, each of them between two marks.

        Up to `length` characters without the marks, on one line. Words match as they do for BM25: whatever their case,
        accents and endings; stop words do not. Without a match it is the text's beginning. `escape` is for the text.

            hit.snippet()  # The Rhine is a **river** that rises in the **Alps**.
            hit.snippet(before="<mark>", after="</mark>", escape=html.escape)
        """
        checked_text(before, name="before", place="snippet()")
        checked_text(after, name="after", place="snippet()")
        checked_callback(escape, "escape", "give a function from text to text, such as html.escape")
        pieces = [(escape(piece.text), piece.matches) for piece in snippet(self.text, self.question, length)]
        if odd := [text for text, _ in pieces if not isinstance(text, str)]:
            raise refused("escape", escape, f"it must return a string, it returned {shown(odd[0])}")
        return "".join(f"{before}{text}{after}" if matches else text for text, matches in pieces)


@dataclass(frozen=True, slots=True)
class Hits(Sequence[Hit]):
    """The ranked hits of one question.

    `mode` is what was really used, `fallback` says why BM25 alone answered a hybrid search (None when it did not),
    `hybrid_weight` is the λ of `bm25 + λ·dense` (None unless fused), `seconds` the wall time of each stage (0 when not
    needed) and "total" (BM25 runs beside "encode" and "dense"), `explanation` how it went (when `explain=True` asked).
    """

    question: str
    hits: tuple[Hit, ...]
    mode: Mode
    fallback: str | None = None
    hybrid_weight: float | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    explanation: Explanation | None = None

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, index: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[index]

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)
