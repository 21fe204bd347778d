"""What a table contains, and how its searches are calibrated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from dpr_lance.encoders.card import EncoderCard
from dpr_lance.records.answers import AnswerCalibration
from dpr_lance.records.hits import Mode
from dpr_lance.records.reports import IndexInfo, Skipped
from dpr_lance.text.language import Language

IndexKind = Literal["ivf_rq", "ivf_sq", "ivf_pq"]
"""Kinds of vector indexes: RaBitQ with four bits a dimension, one byte a dimension, product quantisation."""


@dataclass(frozen=True, slots=True)
class WeightPoint:
    """A hybrid weight that was tried, and the mean reciprocal rank of the first answer with it."""

    weight: float
    mrr: float


@dataclass(frozen=True, slots=True)
class EffortPoint:
    """A number of partitions that was tried: its recall@20 against exact search, and the time of a single question."""

    probes: int
    recall: float
    milliseconds: float


@dataclass(frozen=True, slots=True)
class RerankCalibration:
    """How one reader re-ranks a table's hits, as `calibrate(..., rerank=...)` has chosen.

    `retrieval_weight` is w of `rerank_score + w · retrieval` for the reader with this `fingerprint`; with another one,
    the weight on its card applies. With `by_default`, searches without `rerank` re-rank with it, and `source` loads it
    for them: True for the packaged reader, a name or a folder, None for an object, which is never the default.
    `retrieval_alone`, `reader_alone` (w = 0) and `combined` are mean reciprocal ranks of the first answer on held-out
    questions. `weights` lists all that were tried.
    """

    reader: str
    fingerprint: str
    source: bool | str | None
    retrieval_weight: float
    by_default: bool
    questions: int
    retrieval_alone: float
    reader_alone: float
    combined: float
    weights: tuple[WeightPoint, ...] = ()


@dataclass(frozen=True, slots=True)
class Calibration:
    """The defaults of a table's searches that `calibrate` has chosen; they are stored next to the table.

    `hybrid_weight` is the λ of `bm25 + λ·dense`, `mode` the mode of a search without one, and `probed_share` the share
    of the vector index's partitions that is searched (None: what the index needs by its own measurement), with its
    `recall`. `questions` were used, `labelled` of them with answers or labels. `before` and `after` are the mean
    reciprocal ranks of the first answer with the old and the new settings on held-out questions (None if labels chose
    nothing). `weights` and `efforts` list everything that was tried. Calibrating again without labels keeps what labels
    have chosen. `column` has the vectors that this holds for; it does not apply to vectors of another encoder.
    `rerank` is what was chosen for re-ranking, by the last calibration with a reader.
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
    """Questions that the encoder makes no vector of; these are not stored."""
    rerank: RerankCalibration | None = None

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Calibration:
        """Return the calibration with these fields, as read from JSON."""
        points = {
            "weights": _weight_points(fields["weights"]),
            "efforts": tuple(EffortPoint(**point) for point in fields["efforts"]),
            "skipped": (),
        }
        rerank = fields.get("rerank")  # not in records of earlier versions
        if rerank is not None:
            rerank = RerankCalibration(**{**rerank, "weights": _weight_points(rerank["weights"])})
        return cls(**{**fields, **points, "rerank": rerank})


def _weight_points(points: Iterable[Mapping[str, float]]) -> tuple[WeightPoint, ...]:
    return tuple(WeightPoint(**point) for point in points)


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """A named state of a table: LanceDB's version of it, when it was taken (UTC), and how many passages it has.

    The last two are None for a tag that another program has made.
    """

    name: str
    version: int
    created: datetime | None = None
    passages: int | None = None


@dataclass(frozen=True, slots=True)
class LearnedWeight:
    """The hybrid weight λ that a table has learnt from the questions that it was asked, until `calibrate` sets one.

    It is made of sums over `questions`, none of which is stored: how far below its best score each leg scores the
    other's favourite passage, each leg's standard deviation over the candidates, and for how many questions the
    favourites were `differing`. `column` has the vectors that this holds for.
    """

    hybrid_weight: float
    column: str
    questions: int
    differing: int
    dense_lost: float
    bm25_lost: float
    dense_spread: float
    bm25_spread: float


@dataclass(frozen=True, slots=True)
class TableInfo:
    """What a table contains; before the first `add` all counts are 0 and `encoder` is None.

    `metadata` gives the Arrow type of each metadata column. `recall` is the last measurement of the vector index,
    against exact search; None if search is exact. `learned` is the λ that the table has learnt from questions; None
    where it is calibrated or does not learn. `bytes_on_disk` includes old versions; it is None if the table is not
    in a local folder. `bytes_resident` is the size of the vectors that this retriever holds in memory; while it does,
    dense search without a filter is exact. `language` is that of BM25. `answers` is what
    `calibrate_answers` has chosen. `incomplete` passages were added by plain LanceDB with an id and a text; `embed` and
    `optimize` complete them.
    """

    uri: str
    table: str
    documents: int = 0
    passages: int = 0
    embedded: int = 0
    incomplete: int = 0
    encoder: EncoderCard | None = None
    splitter: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    indexes: tuple[IndexInfo, ...] = ()
    recall: float | None = None
    calibration: Calibration | None = None
    learned: LearnedWeight | None = None
    bytes_on_disk: int | None = None
    bytes_resident: int = 0
    versions: int = 0
    language: Language | None = None
    answers: AnswerCalibration | None = None
