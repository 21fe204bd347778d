"""The table's indexes: when each is built, folded into, trained anew and freed of old versions."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, get_args

import pyarrow as pa
from lancedb.index import FTS, BTree, IvfPq, IvfRq, IvfSq, LabelList
from lancedb.table import Table

from dpr_lance.checks import checked_choice
from dpr_lance.errors import InvalidInputError, LockedError
from dpr_lance.indexes.policy import (
    KIND,
    POLICY,
    TRAINING,
    IndexPolicy,
    Training,
    kind_of,
    remember,
    training_of,
    unfit,
)
from dpr_lance.indexes.recall import recall_of
from dpr_lance.records.hits import Metric
from dpr_lance.records.reports import IndexInfo, IndexReport
from dpr_lance.records.table_info import IndexKind
from dpr_lance.table.coverage import COVERAGE, column_of, coverage_in, lists_gone_rows, touch
from dpr_lance.table.memory import large_blocks_given_back, trim_heap
from dpr_lance.table.retention import NOTHING, due_age
from dpr_lance.table.schema import CONTENT, DOCUMENT_ID, ID, TableCard, is_vector_column, metadata_fields
from dpr_lance.table.store import Store

LOCK_TIMEOUT = 600.0
"""Seconds to wait for another process that is changing the indexes."""

_IN_MEMORY = 4
"""Bytes in memory for a byte of an index on disk, at the most: BM25's words are unpacked."""

_TEXT_INDEX_MIB = 64
"""Memory in which the BM25 index is built; beyond it, in parts."""


def create_text_index(table: Table) -> None:
    """Create the BM25 index, or build it anew: English stems and stop words, over title and text."""
    table.create_index(CONTENT, config=FTS(with_position=False, memory_limit=_TEXT_INDEX_MIB), replace=True)


def index_infos(table: Table) -> tuple[IndexInfo, ...]:
    """Return every index with the rows it covers."""
    infos = []
    for config in table.list_indices():
        stats = table.index_stats(config.name)
        if stats is not None:
            infos.append(
                IndexInfo(
                    config.name,
                    column_of(config),
                    str(config.index_type),
                    stats.num_indexed_rows,
                    stats.num_unindexed_rows,
                )
            )
    return tuple(infos)


def warm(store: Store, columns: Collection[str]) -> None:
    """Read the indexes on these columns into LanceDB's cache, where they fit.

    An index takes up to four times as much memory as it has bytes on disk.
    """

    def read(table: Table) -> None:
        for config in table.list_indices():
            if column_of(config) in columns and _IN_MEMORY * (config.size_bytes or 0) <= store.index_cache_bytes:
                table.prewarm_index(config.name)

    store.retry_on_conflict(read)


def unindexed_tail(table: Table) -> tuple[int, int]:
    """Return how many rows the BM25 index leaves to be scanned, and how many it covers."""
    for info in index_infos(table):
        if info.column == CONTENT:
            return info.unindexed_rows, info.indexed_rows
    return table.count_rows(), 0


def fold_is_due(table: Table, *, bulk: bool, policy: IndexPolicy = POLICY) -> bool:
    """Tell whether the unindexed tail, or the files that small commits leave, cost more than folding.

    A tail is scanned by every search; in a small table it also blurs BM25 scores.
    """
    tail, indexed = unindexed_tail(table)
    rows, share = policy.fold_rows, policy.bulk_fold_share if bulk else policy.fold_share
    if not bulk:
        rows = min(rows, max(policy.fold_rows_least, int(policy.fold_share_small * indexed)))
    if tail >= max(rows, share * indexed):
        return True
    fragments = table.stats()["fragment_stats"]["num_fragments"]
    by_rows = min(policy.fragment_share * indexed, policy.fold_fragments_most)
    return bool(fragments >= max(policy.fold_fragments, by_rows))


def fold(store: Store, *, bulk: bool) -> None:
    """Bring the indexes up to date when that pays, unless another process is at it.

    `bulk` waits for a longer tail: more rows are about to follow.
    """
    if store.retry_on_conflict(lambda table: fold_is_due(table, bulk=bulk)):
        try:
            with store.lock(timeout=0):
                optimize(store)
        except LockedError:
            return  # what was added is committed; the next `add` finds the longer tail and folds it


def optimize(store: Store, policy: IndexPolicy = POLICY, *, filter_columns: Sequence[str] = ()) -> IndexReport:
    """Bring all indexes up to date, compact, train the vector index when it is due, and free old versions.

    Metadata columns that are named get an index for filters, unless they have one. The caller holds the store's lock.
    Safe while others read and write. What is read meanwhile is not kept in the store's caches.
    """
    with large_blocks_given_back(), store.apart() as apart:
        return _optimized(apart, policy, filter_columns)


def _optimized(store: Store, policy: IndexPolicy, filter_columns: Sequence[str]) -> IndexReport:
    started = time.perf_counter()
    before, covered = store.files.bytes_on_disk(), _coverage(store)
    _drop_stale_vectors(store)
    _drop_empty_indexes(store)
    built = store.retry_on_conflict(lambda table: _build_missing(table, policy))
    built += store.retry_on_conflict(lambda table: build_filters(table, filter_columns))
    card = store.card
    if train_if_due(store, card, policy):
        built.append(card.column)
    trim_heap()
    built += store.retry_on_conflict(lambda table: _rebuild_text_index(table, policy))
    trim_heap()
    _let_gone_rows_go(store)
    _count_changes(store, card)
    store.commit(lambda table: _maintain(table, due_age(table, store.files.folder, store.keep_versions)))
    _remember_coverage(store, covered)
    store.remembered.compact()
    trim_heap()
    recall = recall_of(store, card, policy)  # last, because LanceDB changes partitions while it compacts
    if train_if_due(store, card, policy):  # after what has just been measured
        built.append(card.column)
        recall = recall_of(store, card, policy)
    store.record_files()
    return IndexReport(
        built=tuple(built),
        indexes=store.retry_on_conflict(index_infos),
        recall=recall,
        bytes_before=before,
        bytes_after=store.files.bytes_on_disk(),
        seconds=time.perf_counter() - started,
    )


def _let_gone_rows_go(store: Store) -> None:
    """See to it that bringing the indexes up to date removes the rows that are gone."""
    if store.retry_on_conflict(lambda table: lists_gone_rows(table, store.remembered.values())):
        if store.count():
            store.commit(touch)
        else:
            store.retry_on_conflict(create_text_index)


def _coverage(store: Store) -> dict[str, Any] | None:
    return store.retry_on_conflict(lambda table: coverage_in(table.list_indices()))


def _remember_coverage(store: Store, before: dict[str, Any] | None) -> None:
    """Keep what the indexes cover, if they were written since: else they may list rows that are gone."""
    coverage = _coverage(store)
    if coverage is not None and (before is None or coverage["index"] != before["index"]):
        store.remembered.keep(**{COVERAGE: coverage})


def _count_changes(store: Store, card: TableCard) -> None:
    """Keep count of the vectors that are about to be put into the index."""
    training = training_of(store, card)
    tail = sum(info.unindexed_rows for info in store.retry_on_conflict(index_infos) if info.column == card.column)
    if training is not None and tail:
        remember(store, dataclasses.replace(training, changed_rows=training.changed_rows + tail))


def _drop_stale_vectors(store: Store) -> None:
    """Free the vectors of an earlier encoder that a re-embedding left behind when it was interrupted at its end."""
    # The names first, then all cards in one read: a column that comes in between is not looked at.
    names = [name for name in store.schema().names if is_vector_column(name)]
    kept = {card.column for card in store.cards()}
    store.drop_columns(name for name in names if name not in kept)


def _drop_empty_indexes(store: Store) -> None:
    """Drop the indexes on columns whose vectors are all gone: LanceDB fails to bring those up to date."""
    for column in filter(is_vector_column, store.retry_on_conflict(indexed_columns)):
        if not store.count(f"{column} IS NOT NULL"):
            store.commit(partial(_drop_indexes, column=column))
            store.remembered.keep(**{TRAINING: None})


def _drop_indexes(table: Table, column: str) -> None:
    for config in table.list_indices():
        if column_of(config) == column:
            table.drop_index(config.name)


def ensure_text_index(store: Store) -> None:
    """Create the BM25 index where a process died between creating the table and it."""
    if CONTENT not in store.retry_on_conflict(indexed_columns):
        with store.lock(timeout=LOCK_TIMEOUT):
            if CONTENT not in store.retry_on_conflict(indexed_columns):
                store.retry_on_conflict(create_text_index)


def indexed_columns(table: Table) -> set[str]:
    """Return the columns that have an index."""
    return {column_of(config) for config in table.list_indices()}


def _build_missing(table: Table, policy: IndexPolicy) -> list[str]:
    present = indexed_columns(table)
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


def _rebuild_text_index(table: Table, policy: IndexPolicy) -> list[str]:
    """Build the BM25 index anew where many rows are to be folded in: `IndexPolicy.rebuild_rows` says why."""
    if unindexed_tail(table)[0] < policy.rebuild_rows:
        return []
    create_text_index(table)
    return [CONTENT]


def ask_for_kind(store: Store, kind: IndexKind) -> None:
    """Keep the kind of vector index that the table is to have from now on.

    Raises `InvalidInputError` for an unknown one, and for one that the table's vectors cannot have.
    """
    checked_choice(kind, "index", get_args(IndexKind))
    if (why := unfit(kind, store.card)) is not None:
        raise InvalidInputError(f"index={kind!r} {why}: use 'ivf_sq'")
    store.remembered.keep(**{KIND: {"kind": kind}})


def check_filter_columns(store: Store, columns: Sequence[str]) -> None:
    """Raise `InvalidInputError` that names the first of these which is no metadata column that can have an index."""
    fields = {field.name: field.type for field in metadata_fields(store.schema())}
    for column in columns:
        if column not in fields:
            known = ", ".join(fields) or "none"
            raise InvalidInputError(
                f"filter_columns: {column!r} is no metadata column of {store.place}; it has {known}"
            )
        kind = fields[column]
        element, families = (kind.value_type, _LISTED_TYPES) if _is_list(kind) else (kind, _INDEXED_TYPES)
        if not any(family(element) for family in families):
            raise InvalidInputError(f"filter_columns: {column!r} is {kind}, which cannot have an index")


def build_filters(table: Table, columns: Sequence[str]) -> list[str]:
    """Create an index for filters on each of these columns that has none; return those columns."""
    new = [column for column in dict.fromkeys(columns) if column not in indexed_columns(table)]
    for column in new:
        kind = table.schema.field(column).type
        if pa.types.is_large_string(kind):
            # pandas' and polars' strings: the same values, of which LanceDB builds no index.
            table.alter_columns({"path": column, "data_type": pa.string()})
        table.create_index(column, config=LabelList() if _is_list(kind) else BTree())
    return new


_LISTED_TYPES = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_string, pa.types.is_large_string)
"""What LanceDB builds an index for filters on lists of."""
_INDEXED_TYPES = (
    *_LISTED_TYPES,
    pa.types.is_floating,
    pa.types.is_fixed_size_binary,
    pa.types.is_date,
    pa.types.is_timestamp,
    pa.types.is_time,
)
"""What LanceDB builds an index for filters on."""


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _maintain(table: Table, age: timedelta) -> None:
    """Merge small files, free versions of this age, and bring the indexes up to date.

    LanceDB does all three or none. It must not overlap with writers: it frees files that no version knows, where their
    dates or the clock are wrong also those that are being written.
    """
    try:
        table.optimize(cleanup_older_than=age)
    except RuntimeError as error:
        if "tagged version" not in str(error):
            raise
        table.optimize(cleanup_older_than=NOTHING)  # tagged a moment ago


def train_if_due(store: Store, card: TableCard, policy: IndexPolicy = POLICY) -> bool:
    """Train the index on the card's vectors when they are many, and have doubled since, or recall has fallen, or it is
    in too many parts, or another kind is asked for.

    Return whether it was done.
    """
    embedded = store.count(card.embedded)
    if embedded < policy.vector_index_rows:
        return False
    kind = kind_of(store, card, policy)
    if (training := training_of(store, card)) is not None and training.kind == kind:
        growth = embedded / training.rows
        grown = growth >= policy.retrain_growth or (
            growth >= policy.parts_growth
            and store.retry_on_conflict(lambda table: _parts(table, card.column)) > policy.most_parts
        )
        if not grown and not _drifted(training, policy):
            return False
    _train(store, card, kind, embedded, policy)
    return True


def _train(store: Store, card: TableCard, kind: IndexKind, rows: int, policy: IndexPolicy) -> None:
    """Train the index. Unit vectors are ordered alike by cosine and by inner product, and cosine's cells are better.

    At 58,950 passages and 0.15 of the partitions recall was .88 against .82.
    """
    metric: Metric = "cosine" if card.encoder.normalise else "dot"
    common = {
        "distance_type": metric,
        "target_partition_size": policy.rows_per_partition,
        "max_iterations": policy.kmeans_iterations,
        "sample_rate": policy.sample_rate,
    }
    config: IvfRq | IvfSq | IvfPq
    if kind == "ivf_rq":
        config = IvfRq(**common, num_bits=policy.bits_per_dimension)
    elif kind == "ivf_sq":
        config = IvfSq(**common)
    else:
        config = IvfPq(**common, num_sub_vectors=_sub_vectors(card.encoder.dimension, policy))
    store.retry_on_conflict(lambda table: table.create_index(card.column, config=config, replace=True))
    partitions = max(1, rows // policy.rows_per_partition)
    remember(store, Training(card.column, rows, partitions, metric=metric, kind=kind))


def _parts(table: Table, column: str) -> int:
    """Return how many parts the index on this column is in: one of its training, and those of folds."""
    stats = [table.index_stats(config.name) for config in table.list_indices() if column_of(config) == column]
    return sum(each.num_indices or 1 for each in stats if each is not None)


def _drifted(training: Training, policy: IndexPolicy) -> bool:
    least = max(1, training.trained_probes, policy.retrain_share * training.partitions)
    if training.probes >= policy.retrain_effort * least:
        return True
    if training.recall is None or training.trained_recall is None:
        return False
    return training.recall < min(policy.target_recall, training.trained_recall - policy.retrain_fall)


def _sub_vectors(dimension: int, policy: IndexPolicy) -> int:
    """Return the largest divisor of the dimension that gives a sub-vector at least the policy's dimensions."""
    most = max(1, dimension // policy.dimensions_per_sub_vector)
    return max(count for count in range(1, most + 1) if dimension % count == 0)
