"""The recall of the vector index, measured against exact search, and the effort that reaches the target."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator

import numpy as np
from lancedb.table import Table

from dpr_lance.encoders.vectors import Numbers, Vector, nearest, vectors_of
from dpr_lance.records.table_info import EffortPoint
from dpr_lance.table.index_policy import IndexPolicy
from dpr_lance.table.schema import TableCard
from dpr_lance.table.snapshot import parts_of
from dpr_lance.table.store import Store
from dpr_lance.table.tuning import Training, keep_training, training_of

_NOISE = 17_041_968_530
"""A seed of its own: synthetic vectors from the same stream as the noise would lie where it points to, and be found."""


def recall_of(store: Store, card: TableCard) -> float | None:
    """Return the vector index's recall, measured again when much has changed since; None without an index."""
    training, policy = training_of(store, card), store.policy
    if training is None:
        return None
    if training.recall is not None and training.changed_rows < policy.recall_change * training.measured_rows:
        return training.recall
    point = store.retry_on_conflict(lambda table: _least_effort(table, training, policy))
    measured = dataclasses.replace(
        training, recall=point.recall, probes=point.probes, measured_rows=store.count(), changed_rows=0
    )
    if training.recall is None:
        measured = dataclasses.replace(measured, trained_probes=point.probes, trained_recall=point.recall)
    keep_training(store, measured)
    return point.recall


def _least_effort(table: Table, training: Training, policy: IndexPolicy) -> EffortPoint:
    """Return the least effort that reaches the policy's recall, never less than the present one.

    The questions are vectors spread over the table, with noise.
    """
    column = training.column
    total = table.count_rows()
    offsets = np.linspace(0, total - 1, min(total, policy.recall_questions), dtype=np.int64)
    vectors = vectors_of(table.take_offsets(offsets.tolist()).select([column]).to_arrow()[column])
    noise = np.random.default_rng(_NOISE).standard_normal(vectors.shape, dtype=np.float32)
    spread = np.linalg.norm(vectors - vectors.mean(axis=0), axis=1, keepdims=True)
    length = policy.question_noise * spread / np.sqrt(vectors.shape[1])
    questions = vectors + noise * length.astype(np.float32)
    for point in efforts(table, training, questions, policy, at_least=training.probes):
        if point.recall >= policy.target_recall:
            break
    return point


def efforts(
    table: Table, training: Training, questions: Vector, policy: IndexPolicy, *, at_least: int = 0
) -> Iterator[EffortPoint]:
    """Yield recall@20 against exact search, and a question's median time, for growing shares of the partitions probed.

    `at_least` is the first number of probes, if it is not 0.
    """
    exact = [set(rows.tolist()) for rows, _ in nearest(questions, _parts(table, training.column), policy.recall_at)]
    shares = {max(1, round(share * training.partitions)) for share in policy.probed_shares}
    for probes in sorted(count for count in shares | {at_least} if count >= max(1, at_least)):
        recalls, times = [], []
        # One by one: a batch would hold all partitions at once that any of its questions probes.
        for question, best in zip(questions, exact, strict=True):
            started = time.perf_counter()
            search = table.search(question, vector_column_name=training.column).distance_type(training.metric)
            search = search.nprobes(probes).refine_factor(policy.refine_factor(training.kind)).with_row_id(True)
            rows = search.select(["_distance"]).limit(policy.overfetched(policy.recall_at)).to_arrow()["_rowid"]
            times.append(time.perf_counter() - started)
            recalls.append(len(best & set(rows[: policy.recall_at].to_pylist())) / len(best))
        # The median: the first to probe a partition reads it.
        yield EffortPoint(probes, float(np.mean(recalls)), 1000 * float(np.median(times)))


def _parts(table: Table, column: str) -> Iterator[tuple[Vector, Numbers]]:
    """Yield the vectors and their row ids, in one pass over the table."""
    for part in parts_of(table, [column]):
        yield vectors_of(part[column]), part["_rowid"].filter(part[column].is_valid()).to_numpy().astype(np.int64)
