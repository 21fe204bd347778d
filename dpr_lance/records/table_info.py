"""What a table holds, and how its searches are calibrated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from dpr_lance.encoders.card import EncoderCard
from dpr_lance.records.hits import Mode
from dpr_lance.records.reports import IndexInfo, Skipped

IndexKind = Literal["ivf_rq", "ivf_sq", "ivf_pq"]
"""How a vector index keeps vectors: rotated and rounded to four bits a dimension, a byte a dimension, or a quarter."""


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
