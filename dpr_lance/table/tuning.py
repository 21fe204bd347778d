"""What the small table remembers of how the table is searched: the last training and the calibration."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from dpr_lance.errors import DamagedTableError
from dpr_lance.records.answers import AnswerCalibration
from dpr_lance.records.hits import Metric
from dpr_lance.records.table_info import Calibration, IndexKind, LearnedWeight, RerankCalibration
from dpr_lance.table.files import REBUILD
from dpr_lance.table.schema import TableCard
from dpr_lance.table.store import Store

KIND = "vector_index"
"""Key of the requested kind of vector index, where one was requested."""
TRAINING = "vector_training"
"""Key of the `Training`."""
CALIBRATION = "calibration"
"""Key of the `Calibration`."""
LEARNED = "learned_weight"
"""Key of the `LearnedWeight`."""
ANSWERS = "answers"
"""Key of the `AnswerCalibration`."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Training:
    """The vector index's last training, and its recall since.

    Recall is recall@20 against exact search, with stored vectors and noise as questions; None before it is measured.
    """

    column: str
    rows: int
    partitions: int
    recall: float | None = None
    probes: int = 0
    """Fewest partitions that a search probes, as measured; 0 before that: then all are probed."""
    trained_probes: int = 0
    """`probes` right after the training."""
    trained_recall: float | None = None
    """`recall` right after the training."""
    measured_rows: int = 0
    """The table's rows when recall was last measured."""
    changed_rows: int = 0
    """Vectors added to the index since then, of new passages or of changed ones."""
    metric: Metric = "dot"
    kind: IndexKind = "ivf_pq"
    """The default is for records of earlier versions, which have no kind: another kind is trained again."""


def training_of(store: Store, card: TableCard) -> Training | None:
    """Return the record of the last training on the card's vectors; None when there was none."""
    return training_in(store.remembered.values(), card)


def training_in(values: Mapping[str, Any], card: TableCard) -> Training | None:
    """Return the same from what was read from the small table."""
    return _of_column(values, TRAINING, lambda fields: Training(**fields), card)


def keep_training(store: Store, training: Training) -> None:
    """Keep the record of the last training."""
    store.remembered.keep(**{TRAINING: dataclasses.asdict(training)})


def calibration_in(values: Mapping[str, Any], card: TableCard) -> Calibration | None:
    """Return what `calibrate` has chosen for the card's vectors, from what was read from the small table; or None."""
    return _of_column(values, CALIBRATION, Calibration.from_fields, card)


def reranking_in(values: Mapping[str, Any], card: TableCard) -> RerankCalibration | None:
    """Return what `calibrate` has chosen for re-ranking; None at once where it has chosen nothing."""
    fields = values.get(CALIBRATION)
    if not isinstance(fields, Mapping) or fields.get("rerank") is None:
        return None
    calibration = calibration_in(values, card)
    return None if calibration is None else calibration.rerank


def keep_calibration(store: Store, calibration: Calibration) -> None:
    """Keep what `calibrate` has chosen."""
    fields = dataclasses.asdict(calibration)
    if calibration.rerank is None:
        del fields["rerank"]  # which earlier versions do not know
    store.remembered.keep(**{CALIBRATION: fields})


def learned_in(values: Mapping[str, Any], card: TableCard) -> LearnedWeight | None:
    """Return what questions have taught about the card's vectors, from what was read from the small table; or None."""
    return _of_column(values, LEARNED, lambda fields: LearnedWeight(**fields), card)


def keep_learned(store: Store, learned: LearnedWeight) -> None:
    """Keep what questions have taught; raise `LockedError` at once where another process is writing."""
    store.remembered.keep(0, **{LEARNED: dataclasses.asdict(learned)})


def _of_column(
    values: Mapping[str, Any], key: str, made: Callable[[Mapping[str, Any]], T], card: TableCard
) -> T | None:
    """Return the record under a key, None where it is of other vectors; raise `DamagedTableError` for anything else."""
    fields = values.get(key)
    if fields is None:
        return None
    try:
        record, column = made(fields), fields["column"]
    except (TypeError, ValueError, KeyError) as error:
        raise DamagedTableError(f"what the small table keeps under {key!r} is damaged ({error}); {REBUILD}") from error
    return record if column == card.column else None


def answer_calibration_in(values: Mapping[str, Any]) -> AnswerCalibration | None:
    """Return what `calibrate_answers` has chosen, from what was read from the small table; or None."""
    fields = values.get(ANSWERS)
    if fields is None:
        return None
    try:
        return AnswerCalibration.from_fields(fields)
    except TypeError as error:
        raise DamagedTableError(
            f"what the small table keeps under {ANSWERS!r} is damaged ({error}); {REBUILD}"
        ) from error


def keep_answer_calibration(store: Store, calibration: AnswerCalibration) -> None:
    """Keep what `calibrate_answers` has chosen."""
    store.remembered.keep(**{ANSWERS: dataclasses.asdict(calibration)})
