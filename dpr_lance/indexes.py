"""The table's indexes: when each is built, folded and measured, and with what effort the vector index is searched."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pyarrow as pa
from lancedb.index import FTS, BTree, IvfPq
from lancedb.table import Table

from dpr_lance.records import IndexInfo, IndexReport
from dpr_lance.schema import CONTENT, DOCUMENT_ID, ID, VECTOR
from dpr_lance.store import Store

_FOREVER = timedelta(days=36_500)

TRAINING = "vector_training"
"""Key of the `Training` record beside the table."""


@dataclass(frozen=True, slots=True)
class IndexPolicy:
    """Every number that decides about indexes. Times are from one measurement on 2 cores; ratios are what counts."""

    vector_index_rows: int = 50_000
    """Exact search below: LanceDB scans 50,000 x 384 in about 40 ms, and is then overtaken by a refined IVF-PQ."""
    rows_per_partition: int = 2_048
    dimensions_per_sub_vector: int = 4
    """d/4 sub-vectors: the default d/16 loses most of the ranking before it is refined."""
    kmeans_iterations: int = 5
    """50, LanceDB's default, costs about 8 times as much and buys next to nothing once hits are refined."""
    probed_share: float = 0.15
    """Share of the partitions that a search probes at the least."""
    refine_factor: int = 4
    """Candidates re-scored on stored vectors, as a multiple of the hits asked for."""
    retrain_growth: float = 2.0
    """Train anew when this many times the rows of the last training are embedded."""
    scalar_index_rows: int = 10_000
    fold_rows: int = 500
    """Rows outside the BM25 index are scanned by every search at about 30 ms per 1,000."""
    fold_share: float = 0.02
    """Folding rewrites the BM25 index, at about 20 CPU-seconds a million rows: `add` folds once the tail is beyond both
    this share and `fold_rows`, so that its cost per added row does not grow with the table."""
    bulk_fold_share: float = 0.5
    """Within one long `add`, fold only when the tail has grown to this share of the table."""
    keep_versions: timedelta = timedelta(minutes=10)
    """Old versions are kept this long for searches that are under way."""
    recall_questions: int = 50
    recall_at: int = 20


POLICY = IndexPolicy()


@dataclass(frozen=True, slots=True)
class Training:
    """What is remembered of the vector index's last training."""

    rows: int
    partitions: int
    recall: float
    """Recall@20 against exact search, with stored vectors as questions."""


def training_of(store: Store) -> Training | None:
    """Return the record of the vector index's last training; None when there was none."""
    value = store.state().get(TRAINING)
    return None if value is None else Training(**value)


def create_text_index(table: Table) -> None:
    """Create the BM25 index: English stems and stop words, over title and text."""
    table.create_index(CONTENT, config=FTS(with_position=False))


def index_infos(table: Table) -> tuple[IndexInfo, ...]:
    """Return every index with the rows it covers."""
    infos = []
    for config in table.list_indices():
        stats = table.index_stats(config.name)
        if stats is not None:
            infos.append(
                IndexInfo(
                    config.name,
                    config.columns[0],
                    str(config.index_type),
                    stats.num_indexed_rows,
                    stats.num_unindexed_rows,
                )
            )
    return tuple(infos)


def unindexed_tail(table: Table) -> tuple[int, int]:
    """Return how many rows the BM25 index leaves to be scanned, and how many it covers."""
    for info in index_infos(table):
        if info.column == CONTENT:
            return info.unindexed_rows, info.indexed_rows
    return table.count_rows(), 0


def fold_is_due(table: Table, *, bulk: bool, policy: IndexPolicy = POLICY) -> bool:
    """Tell whether scanning the unindexed tail costs more than folding it in."""
    tail, indexed = unindexed_tail(table)
    share = policy.bulk_fold_share if bulk else policy.fold_share
    return tail >= max(policy.fold_rows, share * indexed)


def optimize(store: Store, policy: IndexPolicy = POLICY) -> IndexReport:
    """Bring all indexes up to date, compact, train the vector index when it is due, and free old versions.

    The caller holds the store's lock. Safe while others read and write.
    """
    started = time.perf_counter()
    before = store.bytes_on_disk()
    table = store.table
    built = _build_missing(table, policy)
    _compact(table, policy)
    if _training_is_due(store, policy):
        _train(store, policy)
        built.append(VECTOR)
    training = training_of(store)
    return IndexReport(
        built=tuple(built),
        indexes=index_infos(table),
        recall=None if training is None else training.recall,
        bytes_before=before,
        bytes_after=store.bytes_on_disk(),
        seconds=time.perf_counter() - started,
    )


def _build_missing(table: Table, policy: IndexPolicy) -> list[str]:
    present = {column for config in table.list_indices() for column in config.columns}
    built = []
    if CONTENT not in present:
        create_text_index(table)
        built.append(CONTENT)
    if table.count_rows() >= policy.scalar_index_rows:
        for column in (ID, DOCUMENT_ID):
            if column not in present:
                table.create_index(column, config=BTree())
                built.append(column)
    return built


def _compact(table: Table, policy: IndexPolicy) -> None:
    try:
        table.optimize(cleanup_older_than=policy.keep_versions)
    except RuntimeError as error:
        if "tagged version" not in str(error):
            raise
        # LanceDB stops before indexing when a tag holds an old version: keep all versions then, the tagged one too.
        table.optimize(cleanup_older_than=_FOREVER)


def _training_is_due(store: Store, policy: IndexPolicy) -> bool:
    embedded = store.count(f"{VECTOR} IS NOT NULL")
    if embedded < policy.vector_index_rows:
        return False
    training = training_of(store)
    return training is None or embedded >= policy.retrain_growth * training.rows


def _train(store: Store, policy: IndexPolicy) -> None:
    table = store.table
    rows = store.count(f"{VECTOR} IS NOT NULL")
    dimension = table.schema.field(VECTOR).type.list_size
    partitions = max(1, rows // policy.rows_per_partition)
    sub_vectors = max(
        n for n in range(1, dimension // min(dimension, policy.dimensions_per_sub_vector) + 1) if dimension % n == 0
    )
    table.create_index(
        VECTOR,
        config=IvfPq(
            distance_type="dot",
            num_partitions=partitions,
            num_sub_vectors=sub_vectors,
            max_iterations=policy.kmeans_iterations,
        ),
        replace=True,
    )
    recall = measured_recall(table, partitions, policy)
    store.remember(TRAINING, {"rows": rows, "partitions": partitions, "recall": recall})


def probes(partitions: int, policy: IndexPolicy = POLICY) -> int:
    """Return how many partitions a search probes at the least."""
    return max(1, round(policy.probed_share * partitions))


def measured_recall(table: Table, partitions: int, policy: IndexPolicy = POLICY) -> float:
    """Return recall@20 of the vector index against exact search; the questions are vectors spread over the table."""
    total = table.count_rows()
    offsets = np.linspace(0, total - 1, min(total, policy.recall_questions), dtype=np.int64)
    rows = table.take_offsets(offsets.tolist()).select([VECTOR]).to_arrow()[VECTOR].drop_null()
    vectors = rows.combine_chunks().flatten().to_numpy().reshape(len(rows), -1)
    found = []
    for vector in vectors:
        search = table.search(vector, vector_column_name=VECTOR).distance_type("dot").limit(policy.recall_at)
        exact = _row_ids(search.bypass_vector_index().select([ID, "_distance"]).to_arrow())
        search = table.search(vector, vector_column_name=VECTOR).distance_type("dot").limit(policy.recall_at)
        search = search.minimum_nprobes(probes(partitions, policy)).refine_factor(policy.refine_factor)
        near = _row_ids(search.select([ID, "_distance"]).to_arrow())
        found.append(len(exact & near) / max(1, len(exact)))
    return float(np.mean(found))


def _row_ids(hits: pa.Table) -> set[str]:
    return set(hits[ID].to_pylist())
