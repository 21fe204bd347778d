"""Hits, and explanations of a search."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, overload

from dpr_lance.checks import checked_callback, checked_text, refused, shown
from dpr_lance.errors import InvalidInputError
from dpr_lance.records.context import Context, ContextLimits, assembled, estimated_tokens
from dpr_lance.records.json_form import json_text
from dpr_lance.records.passage import Passage
from dpr_lance.text.language import ENGLISH, Language
from dpr_lance.text.snippet import LENGTH, snippet

Mode = Literal["hybrid", "dense", "bm25"]
"""How to search: both legs fused, vectors alone, or BM25 alone."""
MODES: tuple[Mode, ...] = ("hybrid", "dense", "bm25")
CANDIDATES = 30
"""Hits of a question that are re-scored by default; the paper's reader takes up to 100 (section 6.1)."""


@dataclass(frozen=True, slots=True)
class WordScore:
    """The share of one question word in a passage's BM25 score; `term` is the word in the index."""

    word: str
    term: str
    score: float


@dataclass(frozen=True, slots=True)
class HitExplanation:
    """How a hit was found: its rank among the candidates of each leg (None if it was not one), and the matching words.

    `words` are ordered by score, highest first. Their scores add up to the hit's `bm25_score`, within 1e-4, while
    `Explanation.unfolded_rows` is 0. `retrieval_rank` and `retrieval_score` are those before re-ranking.
    `retrieval_part` is what retrieval adds to a re-scored hit: `score = rerank_score + retrieval_part`, else None.
    """

    dense_rank: int | None
    bm25_rank: int | None
    words: tuple[WordScore, ...]
    retrieval_rank: int | None = None
    retrieval_score: float | None = None
    retrieval_part: float | None = None


Metric = Literal["dot", "cosine"]


@dataclass(frozen=True, slots=True)
class Effort:
    """How thoroughly the vector index is searched; all fields but `metric` are None while search is exact.

    At least `probes` of its `partitions` are searched. `refine_factor` times the wanted number of candidates are scored
    again with the stored vectors. The index orders by `metric`; for unit vectors both metrics give the same order.
    """

    partitions: int | None = None
    probes: int | None = None
    refine_factor: int | None = None
    metric: Metric = "dot"


WeightSource = Literal["encoder", "questions", "calibration"]
"""Where λ is from: the encoder's card, the questions that the table was asked, or `calibrate`."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a search went: the candidates of each leg (None if the mode does not use it), and of both together.

    `candidates_asked` is the number wanted from each leg. `unfolded_rows` are passages that the BM25 index does not
    cover yet; while there are any, the scores of words need not add up to a hit's `bm25_score`. `weight_source` is what
    has chosen λ: "encoder", "questions" that were asked, or "calibration" (None if the mode has no λ).
    """

    candidates: int
    dense_candidates: int | None
    bm25_candidates: int | None
    candidates_asked: int
    effort: Effort | None
    unfolded_rows: int
    weight_source: WeightSource | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """One passage in a result. A higher score is better; a score is None if the mode does not use that leg.

    `rank` is the place in the result. `score` orders the hits, except with `diversity`. `dense_score` is the inner
    product of the vectors of question and passage, `bm25_score` is Lucene's BM25 (0 if no term matches), `rerank_score`
    what the re-ranker gave (None if it did not score the hit). `explanation` comes from `search(explain=True)`. `start`
    and `end` are character offsets of `text` in the document's text. `language` is the table's.
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
    rerank_score: float | None = None
    start: int = 0
    end: int = 0
    language: Language = field(default=ENGLISH, repr=False)

    def snippet(
        self, length: int = LENGTH, *, before: str = "**", after: str = "**", escape: Callable[[str], str] = str
    ) -> str:
        """Return the part of the text with most of the question's words, each word between the two marks.

        It is one line of up to `length` characters without the marks. Words match as in BM25, ignoring case, accents
        and the endings of the table's language; its stop words never match. Without a match it is the beginning of the
        text. `escape` is applied to the text, not to the marks.

            hit.snippet()  # The Rhine is a **river** that rises in the **Alps**.
            hit.snippet(before="<mark>", after="</mark>", escape=html.escape)
        """
        checked_text(before, name="before", place="snippet()")
        checked_text(after, name="after", place="snippet()")
        checked_callback(escape, "escape", "give a function from text to text, such as html.escape")
        pieces = [
            (escape(piece), matches) for piece, matches in snippet(self.text, self.question, length, self.language)
        ]
        if odd := [text for text, _ in pieces if not isinstance(text, str)]:
            raise refused("escape", escape, f"it must return a string, it returned {shown(odd[0])}")
        return "".join(f"{before}{text}{after}" if matches else text for text, matches in pieces)


Around = Callable[[Sequence[Hit], int], tuple[list[Passage], list[Passage]]]
"""From hits and a number of neighbours to the hits' passages, and to their neighbours, most wanted first."""


@dataclass(frozen=True, slots=True)
class Hits(Sequence[Hit]):
    """The ranked hits of one question.

    `mode` is the mode that was used, `fallback` the reason why BM25 alone answered a hybrid search (else None), and
    `hybrid_weight` the λ of `bm25 + λ·dense` (None in other modes). `seconds` gives the wall time of each stage (0 if
    not needed) and "total"; BM25 runs in parallel with "encode" and "dense". `explanation` comes from `explain=True`.

    `reranked` is how many passages were re-scored, by the re-ranker that `reranker` names, and `retrieval_weight` is w
    of `rerank_score + w · retrieval` (0, None and None without re-ranking). `not_reranked` is the reason why the
    table's default re-ranker was not used (else None).
    """

    question: str
    hits: tuple[Hit, ...]
    mode: Mode
    fallback: str | None = None
    hybrid_weight: float | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    explanation: Explanation | None = None
    reranked: int = 0
    reranker: str | None = None
    retrieval_weight: float | None = None
    not_reranked: str | None = None
    _types: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The Arrow types of the table's metadata columns."""
    _around: Around | None = field(default=None, repr=False, compare=False)
    """Reads the neighbours of hits; given by the retriever that found them."""

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

    def __reduce__(self) -> tuple[object, ...]:
        """Leave out what only works in this process."""
        values = (getattr(self, name) for name in self.__dataclass_fields__ if name != "_around")
        return type(self), tuple(values)

    def context(
        self,
        budget_tokens: int | None = None,
        *,
        count: Callable[[str], int] = estimated_tokens,
        neighbours: int = 1,
    ) -> Context:
        """Return the text of these hits for a generator, with numbers to cite; no model is called.

        Each hit comes with up to `neighbours` passages before and after it in its document. Passages that touch or
        overlap become one block, a text that two hits share is there once, and blocks are numbered by their best hit.
        The text takes up to `budget_tokens` tokens (None: no limit) as `count` counts them, by default a quarter of its
        bytes, an estimate: pass your tokenizer's. Hits come before neighbours, whole, up to the first that does not
        fit; a first hit that is too long alone ends with the last sentence that fits.

            context = retriever.search("who maps the river?", 5).context(2_000)
            context.text, context.by_number[1].title

        Raises `InvalidInputError` for hits that were unpickled or made by hand, unless `neighbours=0`.
        """
        limits = ContextLimits(budget_tokens, count, neighbours).checked()
        if self._around is not None:
            found, around = self._around(self.hits, limits.neighbours)
        elif limits.neighbours:
            raise InvalidInputError(
                f"neighbours={limits.neighbours}: these hits were unpickled or made by hand, so their neighbours "
                f"cannot be read from here; call retriever.context_for(hits, ...), or pass neighbours=0"
            )
        else:
            found, around = [passage_of(hit) for hit in self.hits], []
        return assembled(self.question, found, around, limits)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return a dictionary for each hit: its fields, with the metadata as one of them."""
        names = [name for name, given in Hit.__dataclass_fields__.items() if given.repr and name != "explanation"]
        return [{name: getattr(hit, name) for name in names} | {"metadata": dict(hit.metadata)} for hit in self]

    def to_json(self) -> str:
        """Return the whole result as a line of JSON, as `dpr-lance search --json` writes it.

        Dates are written in ISO 8601, bytes in base64, NaN and infinity as null.
        """
        return json_text(self)

    def to_arrow(self) -> Any:  # noqa: ANN401 - `dpr-lance --help` does without Arrow
        """Return a `pyarrow.Table` with a row for each hit: its fields, then the metadata columns with their types.

        A score that does not exist is null. A metadata field with the name of a hit's own field, such as "score",
        becomes the column "metadata.score".
        """
        from dpr_lance.records.hits_table import hits_table  # noqa: PLC0415 - see above

        return hits_table(self.to_dicts(), self._types)

    def to_pandas(self) -> Any:  # noqa: ANN401 - pandas need not be installed
        """Return the table of `to_arrow` as a pandas data frame.

        Whole numbers and Booleans of which some are null are of pandas' nullable types. Raises `MissingExtraError`
        where pandas is not installed.
        """
        from dpr_lance.records.hits_table import hits_table, pandas_frame  # noqa: PLC0415 - see above

        return pandas_frame(hits_table(self.to_dicts(), self._types))

    def to_polars(self) -> Any:  # noqa: ANN401 - polars need not be installed
        """Return the table of `to_arrow` as a polars data frame; raise `MissingExtraError` where there is no polars."""
        from dpr_lance.records.hits_table import hits_table, polars_frame  # noqa: PLC0415 - see above

        return polars_frame(hits_table(self.to_dicts(), self._types))

    def _repr_html_(self) -> str:
        """Return the hits as notebooks show them."""
        from dpr_lance.records.hits_html import MARK, SNIPPET, html_of  # noqa: PLC0415 - for notebooks alone

        before, after = MARK
        snippets = [hit.snippet(SNIPPET, before=before, after=after, escape=html.escape) for hit in self]
        return html_of(self.question, self._about(), self.to_dicts(), snippets)

    def _about(self) -> str:
        weight = self.hybrid_weight
        parts = [self.mode if weight is None else f"hybrid: score = bm25 + {weight:g} · dense"]
        parts += [f"first {self.reranked} re-ranked by {self.reranker}"] if self.reranked else []
        parts += [f"BM25 alone: {self.fallback}"] if self.fallback else []
        parts += [f"not re-ranked: {self.not_reranked}"] if self.not_reranked else []
        return " · ".join(parts)


_PASSAGE_ID = re.compile(r"(.*)#([0-9]{1,10})", re.DOTALL)


def place_in_document(passage_id: str) -> tuple[str, int] | None:
    """Return the document's id and the position that a passage's id consists of; None for another text."""
    parts = _PASSAGE_ID.fullmatch(passage_id)
    return None if parts is None else (parts[1], int(parts[2]))


def passage_of(hit: Hit) -> Passage:
    """Return the passage that was found."""
    place = place_in_document(hit.id)
    return Passage(
        id=hit.id,
        document_id=hit.document_id,
        position=0 if place is None else place[1],
        title=hit.title,
        text=hit.text,
        start=hit.start,
        end=hit.end,
        embedded=hit.dense_score is not None,
        metadata=hit.metadata,
    )
