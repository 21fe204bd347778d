"""The nouns that cross the public boundary: what goes in (documents), what is stored (passages), what comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, overload

from dpr_lance.checks import checked_callback, checked_text, refused, shown
from dpr_lance.encoders.card import EncoderCard
from dpr_lance.text.snippet import LENGTH, snippet

Mode = Literal["hybrid", "dense", "bm25"]
Metric = Literal["dot", "cosine"]
IndexKind = Literal["ivf_rq", "ivf_sq", "ivf_pq"]
"""How a vector index keeps vectors: rotated and rounded to four bits a dimension, a byte a dimension, or a quarter."""
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


@dataclass(frozen=True, slots=True)
class Skipped:
    """A document, passage or question that was left out: where it stood (or its id), and why."""

    place: str
    reason: str


@dataclass(frozen=True, slots=True)
class AddReport:
    """What `add` did. Every document that was read is in exactly one of the five document counts.

    `documents_duplicate`: superseded by a later document of the same id in the same write batch (the last one wins).
    `truncated_passages` and `truncated_tokens`: what the encoder could not see because a passage was too long for it
    (BM25 sees all of it). `passages_without_vector`: stored and found by BM25, but the encoder makes no vector of them,
    as its tokenizer makes no token of a page of replacement characters.
    """

    documents_added: int = 0
    documents_replaced: int = 0
    documents_unchanged: int = 0
    documents_duplicate: int = 0
    documents_skipped: int = 0
    skipped: tuple[Skipped, ...] = ()
    """The first 100 of them; `documents_skipped` is the full count."""
    passages_added: int = 0
    passages_removed: int = 0
    passages_embedded: int = 0
    truncated_passages: int = 0
    truncated_tokens: int = 0
    passages_without_vector: int = 0
    without_vector: tuple[Skipped, ...] = ()
    """The first 100 of them, by id, and why; `passages_without_vector` is the full count."""
    not_embedded: str | None = None
    """Why passages were stored without vectors although `embed` was asked for; None when they were embedded."""
    seconds: float = 0.0

    @property
    def documents_read(self) -> int:
        """All documents that the input gave."""
        return (
            self.documents_added
            + self.documents_replaced
            + self.documents_unchanged
            + self.documents_duplicate
            + self.documents_skipped
        )


@dataclass(frozen=True, slots=True)
class ReembedReport:
    """What `reembed` did; `passages_embedded` is 0 when the table had that encoder's vectors already.

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
class Progress:
    """How far `add`, `embed` or `reembed` has come, handed to its `progress` callback again and again.

    `documents` are stored, `passages` have been embedded by this call, or found to have no vector. The totals are None
    where the input does not tell them.
    """

    documents: int
    passages: int
    seconds: float
    documents_total: int | None = None
    passages_total: int | None = None


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """One index of the table: rows it covers and rows that are searched without it."""

    name: str
    column: str
    kind: str
    indexed_rows: int
    unindexed_rows: int


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What `optimize` did. `built`: indexes made anew; `recall`: of the vector index, None while search is exact."""

    built: tuple[str, ...]
    indexes: tuple[IndexInfo, ...]
    recall: float | None
    bytes_before: int | None
    bytes_after: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class WeightPoint:
    """A hybrid weight that was tried, and the mean reciprocal rank of the first answer with it."""

    weight: float
    mrr: float


@dataclass(frozen=True, slots=True)
class EffortPoint:
    """A number of partitions that was tried: recall@20 against exact search, and the time of a question asked alone."""

    probes: int
    recall: float
    milliseconds: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """How a table's questions are answered unless they say otherwise; kept beside the table by `calibrate`.

    `hybrid_weight` is the λ of `bm25 + λ·dense`, `mode` what a search without a mode uses, `probed_share` the part of
    the vector index's partitions that is probed (None: as many as the index has found to need).
    `questions` were asked, `labelled` of them had answers or labels. `before` and `after` are the mean reciprocal ranks
    of the first answer with what was in force and with what was chosen, on questions that it was not chosen on (None
    where nothing was chosen by labels). `weights` and `efforts` are all that was tried; `recall` is that of
    `probed_share`. Calibrated again without labels, all stands that labels have chosen, with the numbers of then; only
    the effort changes. `column` is that of the vectors it holds for: new vectors of another encoder drop it.
    """

    hybrid_weight: float
    mode: Mode
    column: str
    probed_share: float | None = None
    questions: int = 0
    labelled: int = 0
    before: float | None = None
    after: float | None = None
    recall: float | None = None
    weights: tuple[WeightPoint, ...] = ()
    efforts: tuple[EffortPoint, ...] = ()
    seconds: float = 0.0
    skipped: tuple[Skipped, ...] = ()
    """Questions that the encoder makes no vector of; not kept beside the table."""

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Calibration:
        """Return the calibration whose fields were written as JSON."""
        points = {
            "weights": tuple(WeightPoint(**point) for point in fields["weights"]),
            "efforts": tuple(EffortPoint(**point) for point in fields["efforts"]),
            "skipped": (),
        }
        return cls(**{**fields, **points})


@dataclass(frozen=True, slots=True)
class TableInfo:
    """What the table holds; all counts are 0 and `encoder` is None while nothing has been added.

    `metadata` gives the Arrow type of each metadata column. `recall` is that of the vector index against exact search,
    as it was last measured; None while search is exact. `bytes_on_disk` includes old versions that are still kept;
    None where the table is not in a local folder. `bytes_resident` is what the vectors take that this retriever holds
    in memory now; while it does, dense search without a filter is exact, whatever indexes there are.
    """

    uri: str
    table: str
    documents: int = 0
    passages: int = 0
    embedded: int = 0
    encoder: EncoderCard | None = None
    splitter: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    indexes: tuple[IndexInfo, ...] = ()
    recall: float | None = None
    calibration: Calibration | None = None
    bytes_on_disk: int | None = None
    bytes_resident: int = 0
    versions: int = 0
