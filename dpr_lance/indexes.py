"""The table's indexes: when each is built, folded and measured, and with what effort the vector index is searched."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pyarrow as pa
from lancedb.index import FTS, BTree, IvfPq, IvfSq, LabelList
from lancedb.table import Table
from numpy.typing import NDArray

from dpr_lance.card import EncoderCard
from dpr_lance.errors import InvalidInputError, LockedError
from dpr_lance.heap import trim_heap
from dpr_lance.records import EffortPoint, IndexInfo, IndexReport, Metric
from dpr_lance.schema import CONTENT, DOCUMENT_ID, ID, TableCard, Vector, is_vector_column, metadata_fields
from dpr_lance.store import Store

_FOREVER = timedelta(days=36_500)

LOCK_TIMEOUT = 600.0
"""Seconds to wait for another process that is changing the indexes."""

_SCANNED_ROWS = 8_192

TRAINING = "vector_training"
"""Key of the `Training` record beside the table."""


@dataclass(frozen=True, slots=True)
class IndexPolicy:
    """Every number that decides about indexes. Times are from one measurement on 2 cores; ratios are what counts."""

    vector_index_rows: int = 50_000
    """Exact search below: LanceDB scans 50,000 x 384 in about 40 ms, and is then overtaken by a refined IVF-PQ."""
    rows_per_partition: int = 1_024
    """Told to LanceDB as the target size, never as a number of partitions: with a number, its `optimize` joins and
    splits partitions towards a target of its own, and recall@20 at 200,000 rows fell from .85 to .12."""
    dimensions_per_sub_vector: int = 4
    """d/4 sub-vectors: the default d/16 loses most of the ranking before it is refined."""
    kmeans_iterations: int = 5
    """50, LanceDB's default, costs about 8 times as much and buys next to nothing once hits are refined."""
    target_recall: float = 0.98
    """Recall@20 against exact search that probing is widened for."""
    probed_shares: tuple[float, ...] = (0.05, 0.1, 0.2, 0.35, 0.6, 1.0)
    """Shares of the partitions that are tried for it. On 58,950 passages of five fields 0.15 gave a recall of .87."""
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
    fold_fragments: int = 32
    """Every commit leaves a file and a version: fold when this many have come, or `fragment_share` of the rows."""
    fragment_share: float = 0.002
    fold_fragments_most: int = 200
    keep_versions: timedelta = timedelta(milliseconds=1)
    """Versions older than this are freed. The age protects no reader (LanceDB counts it from a version's writing, not
    from its replacement): reads are repeated instead, see `Store.steadily`."""
    keep_versions_remotely: timedelta = timedelta(hours=1)
    """The same where no file lock keeps a clean-up and a writer apart, who must not overlap: see `Store.commit`."""
    recall_questions: int = 50
    recall_at: int = 20
    recall_growth: float = 1.25
    """Measure recall again when the table has so many times the rows of the last measurement."""
    retrain_effort: float = 3.0
    """Train anew when so many times the probes of the training are needed."""


POLICY = IndexPolicy()


@dataclass(frozen=True, slots=True)
class Training:
    """What is remembered of the vector index's last training."""

    column: str
    rows: int
    partitions: int
    recall: float | None = None
    """Recall@20 against exact search when it was last measured, with stored vectors as questions."""
    probes: int = 0
    """How many partitions a search probes at the least, as that measurement has found; 0 before it: then all are."""
    trained_probes: int = 0
    """The same right after the training."""
    measured_rows: int = 0
    metric: Metric = "dot"
    """What the index orders by."""


def training_of(store: Store, card: TableCard) -> Training | None:
    """Return the record of the last training on the card's vectors; None when there was none."""
    value = store.state().get(TRAINING)
    training = None if value is None else Training(**value)
    return training if training is not None and training.column == card.column else None


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
    """Tell whether scanning the unindexed tail, or the files that small commits leave, costs more than folding."""
    tail, indexed = unindexed_tail(table)
    share = policy.bulk_fold_share if bulk else policy.fold_share
    if tail >= max(policy.fold_rows, share * indexed):
        return True
    fragments = table.stats()["fragment_stats"]["num_fragments"]
    by_rows = min(policy.fragment_share * indexed, policy.fold_fragments_most)
    return bool(fragments >= max(policy.fold_fragments, by_rows))


def fold(store: Store, *, bulk: bool) -> None:
    """Bring the indexes up to date when that pays, unless another process is at it.

    `bulk` waits for a longer tail: more rows are about to follow.
    """
    if store.steadily(lambda table: fold_is_due(table, bulk=bulk)):
        try:
            with store.lock(timeout=0):
                optimize(store)
        except LockedError:
            return  # what was added is committed; the next `add` finds the longer tail and folds it


def optimize(store: Store, policy: IndexPolicy = POLICY, *, filter_columns: Sequence[str] = ()) -> IndexReport:
    """Bring all indexes up to date, compact, train the vector index when it is due, and free old versions.

    Metadata columns that are named get an index for filters, unless they have one. The caller holds the store's lock.
    Safe while others read and write.
    """
    started = time.perf_counter()
    before = store.bytes_on_disk()
    _drop_stale_vectors(store)
    built = store.steadily(lambda table: _build_missing(table, policy))
    built += store.steadily(lambda table: _build_filters(table, filter_columns))
    card = store.card
    if train_if_due(store, card, policy):
        built.append(card.column)
    trim_heap()
    store.steadily(_compact)
    trim_heap()
    keep = policy.keep_versions if store.folder is not None else policy.keep_versions_remotely
    store.compact_state(keep)
    store.commit(lambda table: _free(table, keep))
    trim_heap()
    recall = _recall_of(store, card, policy)  # last, because LanceDB changes partitions while it compacts
    return IndexReport(
        built=tuple(built),
        indexes=store.steadily(index_infos),
        recall=recall,
        bytes_before=before,
        bytes_after=store.bytes_on_disk(),
        seconds=time.perf_counter() - started,
    )


def _drop_stale_vectors(store: Store) -> None:
    """Free the vectors of an earlier encoder that a re-embedding left behind when it was interrupted at its end."""
    # The names first, then all cards in one read: a column that comes in between is not looked at.
    names = [name for name in store.table.schema.names if is_vector_column(name)]
    kept = {card.column for card in store.cards()}
    store.drop_columns(name for name in names if name not in kept)


def ensure_text_index(store: Store) -> None:
    """Create the BM25 index where a process died between creating the table and it."""
    if CONTENT not in store.steadily(_indexed_columns):
        with store.lock(timeout=LOCK_TIMEOUT):
            if CONTENT not in store.steadily(_indexed_columns):
                store.steadily(create_text_index)


def _indexed_columns(table: Table) -> set[str]:
    return {column for config in table.list_indices() for column in config.columns}


def _build_missing(table: Table, policy: IndexPolicy) -> list[str]:
    present = _indexed_columns(table)
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


def check_filter_columns(store: Store, columns: Sequence[str]) -> None:
    """Raise `InvalidInputError` that names the first of these which is no metadata column that can have an index."""
    fields = {field.name: field.type for field in metadata_fields(store.table.schema)}
    for column in columns:
        if column not in fields:
            known = ", ".join(fields) or "none"
            raise InvalidInputError(
                f"filter_columns: {column!r} is no metadata column of {store.place}; it has {known}"
            )
        if pa.types.is_struct(_element(fields[column])) or pa.types.is_list(_element(fields[column])):
            raise InvalidInputError(f"filter_columns: {column!r} is {fields[column]}, which cannot have an index")


def _build_filters(table: Table, columns: Sequence[str]) -> list[str]:
    new = [column for column in dict.fromkeys(columns) if column not in _indexed_columns(table)]
    for column in new:
        kind = table.schema.field(column).type
        table.create_index(column, config=LabelList() if pa.types.is_list(kind) else BTree())
    return new


def _element(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_list(kind) else kind


def _compact(table: Table) -> None:
    """Merge small files and bring the indexes up to date, freeing nothing."""
    table.optimize(cleanup_older_than=_FOREVER)


def _free(table: Table, keep: timedelta) -> None:
    """Free old versions, unless a user has tagged one: then all are kept."""
    try:
        table.optimize(cleanup_older_than=keep)
    except RuntimeError as error:
        if "tagged version" not in str(error):
            raise


def train_if_due(store: Store, card: TableCard, policy: IndexPolicy = POLICY) -> bool:
    """Train the index on the card's vectors when they are many, have doubled since, or recall has fallen.

    Return whether it was done.
    """
    embedded = store.count(card.embedded)
    if embedded < policy.vector_index_rows:
        return False
    training = training_of(store, card)
    if training is not None and embedded < policy.retrain_growth * training.rows and not _drifted(training, policy):
        return False
    kind, config = _vector_index(card.encoder, policy)
    store.table.create_index(card.column, config=config, replace=True)
    partitions = max(1, embedded // policy.rows_per_partition)
    _remember(store, Training(card.column, embedded, partitions, metric=kind))
    return True


def _vector_index(encoder: EncoderCard, policy: IndexPolicy) -> tuple[Metric, IvfPq | IvfSq]:
    """Return the metric and the index for an encoder's vectors.

    Unit vectors are ordered alike by cosine and by inner product, and cosine's cells are better: at 58,950 passages and
    0.15 of the partitions recall was .88 against .82. Other vectors are quantised by value: what LanceDB folds into an
    IVF-PQ index of inner products is scored out of line with the rest, and recall fell by .12 over seven folds of 2 %.
    """
    size, iterations = policy.rows_per_partition, policy.kmeans_iterations
    if encoder.normalise:
        sub_vectors = _sub_vectors(encoder.dimension, policy)
        return "cosine", IvfPq(
            distance_type="cosine",
            target_partition_size=size,
            num_sub_vectors=sub_vectors,
            max_iterations=iterations,
        )
    return "dot", IvfSq(distance_type="dot", target_partition_size=size, max_iterations=iterations)


def _drifted(training: Training, policy: IndexPolicy) -> bool:
    return training.probes >= policy.retrain_effort * max(1, training.trained_probes)


def _remember(store: Store, training: Training) -> None:
    store.remember(**{TRAINING: dataclasses.asdict(training)})


def _sub_vectors(dimension: int, policy: IndexPolicy) -> int:
    """Return the largest divisor of the dimension that gives a sub-vector at least the policy's dimensions."""
    most = max(1, dimension // policy.dimensions_per_sub_vector)
    return max(count for count in range(1, most + 1) if dimension % count == 0)


def _recall_of(store: Store, card: TableCard, policy: IndexPolicy) -> float | None:
    """Return the vector index's recall, measured again when the table has grown since; None without an index."""
    training = training_of(store, card)
    if training is None:
        return None
    rows = store.count()
    if training.recall is not None and rows < policy.recall_growth * training.measured_rows:
        return training.recall
    probes, recall = store.steadily(lambda table: _effort(table, training, policy))
    first = training.trained_probes or probes
    _remember(
        store,
        dataclasses.replace(training, recall=recall, probes=probes, trained_probes=first, measured_rows=rows),
    )
    return recall


def _effort(table: Table, training: Training, policy: IndexPolicy) -> tuple[int, float]:
    """Return how many partitions to probe for the policy's recall, and the recall@20 that this gives.

    Never less than the present effort. The questions are vectors spread over the table.
    """
    column = training.column
    total = table.count_rows()
    offsets = np.linspace(0, total - 1, min(total, policy.recall_questions), dtype=np.int64)
    questions, _ = _vectors(table.take_offsets(offsets.tolist()).select([ID, column]).to_arrow(), column)
    for point in efforts(table, training, questions, policy, at_least=training.probes):
        if point.recall >= policy.target_recall:
            break
    return point.probes, point.recall


def efforts(
    table: Table, training: Training, questions: Vector, policy: IndexPolicy = POLICY, *, at_least: int = 0
) -> Iterator[EffortPoint]:
    """Yield recall@20 against exact search, and the time it takes, for growing shares of the partitions probed.

    `at_least` is the first number of probes, if it is not 0.
    """
    exact = _exact_nearest(table, training.column, questions, policy.recall_at)
    shares = {max(1, round(share * training.partitions)) for share in policy.probed_shares}
    for probes in sorted(count for count in shares | {at_least} if count >= max(1, at_least)):
        started = time.perf_counter()
        found = _nearest(table, training, questions, probes, policy)
        milliseconds = 1000 * (time.perf_counter() - started) / len(questions)
        recall = float(np.mean([len(near & best) / len(best) for near, best in zip(found, exact, strict=True)]))
        yield EffortPoint(probes, recall, milliseconds)


def _nearest(table: Table, training: Training, questions: Vector, probes: int, policy: IndexPolicy) -> list[set[str]]:
    """Return the ids that the vector index gives for each question."""
    search = table.search(questions, vector_column_name=training.column).distance_type(training.metric).select([ID])
    search = search.minimum_nprobes(probes).maximum_nprobes(probes).refine_factor(policy.refine_factor)
    found = search.limit(policy.recall_at).to_arrow()
    names: list[set[str]] = [set() for _ in questions]
    for number, name in zip(found["query_index"].to_pylist(), found[ID].to_pylist(), strict=True):
        names[number].add(name)
    return names


def _exact_nearest(table: Table, column: str, questions: Vector, k: int) -> list[set[str]]:
    """Return the ids of each question's k largest inner products, in one pass over the table, a part at a time."""
    best = np.empty((len(questions), 0), dtype=np.float32)  # scores [questions, <= k]
    names = np.empty((len(questions), 0), dtype=object)  # their ids
    # Parts are asked for one by one: a stream of batches reads far ahead, up to the whole column.
    for start in range(0, table.count_rows(), _SCANNED_ROWS):
        part = table.search().select([ID, column]).offset(start).limit(_SCANNED_ROWS).to_arrow()
        vectors, ids = _vectors(part, column)
        best = np.hstack([best, questions @ vectors.T])
        names = np.hstack([names, np.broadcast_to(ids, (len(questions), len(ids)))])
        kept = np.argsort(-best, axis=1)[:, :k]
        best, names = np.take_along_axis(best, kept, 1), np.take_along_axis(names, kept, 1)
    return [set(row) for row in names]


def _vectors(rows: pa.Table, column: str) -> tuple[Vector, NDArray[np.object_]]:
    """Return the vectors float32[n, d] that are there, and the ids of their rows."""
    rows = rows.filter(rows[column].is_valid())
    vectors = rows[column].combine_chunks()
    return vectors.flatten().to_numpy().reshape(len(rows), -1), rows[ID].to_numpy()
