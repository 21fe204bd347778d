"""When a table's indexes are built, brought up to date and rebuilt, and when its old versions are freed."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from lancedb.index import FTS, BTree
from lancedb.table import Table

from dpr_lance.errors import LockedError
from dpr_lance.indexes.filter_indexes import build_filter_indexes
from dpr_lance.indexes.recall import recall_of
from dpr_lance.indexes.vector_index import train_if_due
from dpr_lance.records.reports import IndexInfo, IndexReport
from dpr_lance.table.completion import complete_rows
from dpr_lance.table.consistency import COVERAGE, column_of, coverage_in, indexed_columns, lists_gone_rows, touch
from dpr_lance.table.index_policy import IndexPolicy
from dpr_lance.table.memory import large_blocks_given_back, trim_heap
from dpr_lance.table.retention import NOTHING, due_age
from dpr_lance.table.schema import CONTENT, DOCUMENT_ID, ID, TableCard, is_vector_column, language_of
from dpr_lance.table.store import WRITE_TIMEOUT, Store
from dpr_lance.table.tuning import TRAINING, keep_training, training_of
from dpr_lance.text.language import tokenizer_options

LOCK_TIMEOUT = 600.0
"""Seconds to wait for another process that is changing the indexes."""

_IN_MEMORY = 4
"""Bytes in memory for a byte of an index on disk, at most: BM25's words are unpacked."""

_TEXT_INDEX_MIB = 64
"""Memory in which the BM25 index is built; beyond it, in parts."""


def create_text_index(table: Table) -> None:
    """Create or rebuild the BM25 index over title and text, in the language of the table."""
    options = tokenizer_options(language_of(table.schema))
    table.create_index(CONTENT, config=FTS(with_position=False, memory_limit=_TEXT_INDEX_MIB, **options), replace=True)


def ensure_text_index(store: Store) -> None:
    """Create the BM25 index where a process died between creating the table and it."""
    if CONTENT not in store.retry_on_conflict(indexed_columns):
        with store.lock(timeout=LOCK_TIMEOUT):
            if CONTENT not in store.retry_on_conflict(indexed_columns):
                store.retry_on_conflict(create_text_index)


def index_infos(table: Table) -> tuple[IndexInfo, ...]:
    """Return every index with the rows it covers."""
    return tuple(
        IndexInfo(
            config.name, column_of(config), str(config.index_type), config.num_indexed_rows, config.num_unindexed_rows
        )
        for config in table.list_indices()
    )


def warm(store: Store, columns: Collection[str]) -> None:
    """Read the indexes on these columns into LanceDB's cache, where they fit."""

    def read(table: Table) -> None:
        for config in table.list_indices():
            if column_of(config) in columns and _IN_MEMORY * (config.size_bytes or 0) <= store.index_cache_bytes:
                table.prewarm_index(config.name)

    store.retry_on_conflict(read)


def unindexed_tail(table: Table) -> tuple[int, int]:
    """Return how many rows the BM25 index does not cover, and how many it covers."""
    for info in index_infos(table):
        if info.column == CONTENT:
            return info.unindexed_rows, info.indexed_rows
    return table.count_rows(), 0


def fold_is_due(table: Table, policy: IndexPolicy, *, bulk: bool) -> bool:
    """Tell whether the unindexed tail, or the files that small commits leave, cost more than folding.

    `bulk`: more rows are about to follow, so a longer tail is left.
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
    """Bring the indexes up to date when `fold_is_due`, unless another process is doing so."""
    if store.retry_on_conflict(lambda table: fold_is_due(table, store.policy, bulk=bulk)):
        try:
            with store.lock(timeout=0):
                optimize(store)
        except LockedError:
            return  # what was added is committed; the next `add` finds the longer tail and folds it


def optimize(store: Store, *, filter_columns: Sequence[str] = ()) -> IndexReport:
    """Bring all indexes up to date, compact, train the vector index when it is due, and free old versions.

    Each metadata column that is named gets an index for filters, unless it has one. The caller holds the store's lock.
    Safe while others read and write. What is read meanwhile is not kept in the store's caches.
    """
    with large_blocks_given_back(), store.apart() as apart:
        return _optimized(apart, filter_columns)


def _optimized(store: Store, filter_columns: Sequence[str]) -> IndexReport:
    started = time.perf_counter()
    before, covered = store.files.bytes_on_disk(), _coverage(store)
    with store.lock(timeout=WRITE_TIMEOUT, purpose="write"):
        store.finish_restoring()
    complete_rows(store)
    _drop_stale_vectors(store)
    _drop_empty_indexes(store)
    built = store.retry_on_conflict(lambda table: _build_missing(table, store.policy))
    built += store.retry_on_conflict(lambda table: build_filter_indexes(table, filter_columns))
    card = store.card
    if train_if_due(store, card):
        built.append(card.column)
    trim_heap()
    if store.retry_on_conflict(unindexed_tail)[0] >= store.policy.rebuild_rows:
        store.retry_on_conflict(create_text_index)
        built.append(CONTENT)
    trim_heap()
    _let_gone_rows_go(store)
    _count_changes(store, card)
    store.commit(lambda table: _maintain(table, due_age(table, store.files.folder, store.keep_versions)))
    coverage = _coverage(store)
    if coverage is not None and (covered is None or coverage["index"] != covered["index"]):
        store.remembered.keep(**{COVERAGE: coverage})  # indexes that were not written may list rows that are gone
    store.remembered.compact()
    trim_heap()
    recall = recall_of(store, card)  # last, because LanceDB changes partitions while it compacts
    if train_if_due(store, card):  # by the recall just measured
        built.append(card.column)
        recall = recall_of(store, card)
    store.record_files()
    return IndexReport(
        built=tuple(built),
        indexes=store.retry_on_conflict(index_infos),
        recall=recall,
        bytes_before=before,
        bytes_after=store.files.bytes_on_disk(),
        seconds=time.perf_counter() - started,
    )


def _drop_stale_vectors(store: Store) -> None:
    """Free the vectors that a re-embedding left behind when it was interrupted at its end."""
    # The names first, then all cards in one read: a column that comes in between is left alone.
    names = [name for name in store.schema().names if is_vector_column(name)]
    kept = {card.column for card in store.cards()}
    store.drop_columns(name for name in names if name not in kept)


def _drop_empty_indexes(store: Store) -> None:
    """Drop the indexes on columns whose vectors are all gone: LanceDB fails to bring those up to date."""

    def drop(table: Table, column: str) -> None:
        for config in table.list_indices():
            if column_of(config) == column:
                table.drop_index(config.name)

    for column in filter(is_vector_column, store.retry_on_conflict(indexed_columns)):
        if not store.count(f"{column} IS NOT NULL"):
            store.commit(partial(drop, column=column))
            store.remembered.keep(**{TRAINING: None})


def _build_missing(table: Table, policy: IndexPolicy) -> list[str]:
    wanted = [ID, DOCUMENT_ID] if table.count_rows() >= policy.scalar_index_rows else []
    present = indexed_columns(table)
    built = [column for column in (CONTENT, *wanted) if column not in present]
    for column in built:
        if column == CONTENT:
            create_text_index(table)
        else:
            table.create_index(column, config=BTree())
    return built


def _let_gone_rows_go(store: Store) -> None:
    """Make sure that bringing the indexes up to date removes the rows that are gone."""
    if store.retry_on_conflict(lambda table: lists_gone_rows(table, store.remembered.values())):
        if store.count():
            store.commit(touch)
        else:
            store.retry_on_conflict(create_text_index)


def _count_changes(store: Store, card: TableCard) -> None:
    """Keep count of the vectors that are about to be put into the index."""
    training = training_of(store, card)
    tail = sum(info.unindexed_rows for info in store.retry_on_conflict(index_infos) if info.column == card.column)
    if training is not None and tail:
        keep_training(store, dataclasses.replace(training, changed_rows=training.changed_rows + tail))


def _maintain(table: Table, age: timedelta) -> None:
    """Merge small files, free versions of this age, and bring the indexes up to date; LanceDB does all or none.

    No writer may be at work: where dates or the clock are wrong, LanceDB frees files that are being written.
    """
    try:
        table.optimize(cleanup_older_than=age)
    except RuntimeError as error:
        if "tagged version" not in str(error):
            raise
        table.optimize(cleanup_older_than=NOTHING)  # tagged a moment ago


def _coverage(store: Store) -> dict[str, Any] | None:
    return store.retry_on_conflict(lambda table: coverage_in(table.list_indices()))
