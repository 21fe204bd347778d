"""Rebuilds what is derived from a table's passages: the indexes, the small table, one row for each id."""

from __future__ import annotations

import contextlib
from operator import methodcaller
from pathlib import Path
from typing import Any

import pyarrow as pa
from lancedb.table import Table

from dpr_lance.errors import DamagedTableError, DprLanceError
from dpr_lance.indexes.filter_indexes import build_filter_indexes
from dpr_lance.indexes.maintenance import create_text_index
from dpr_lance.indexes.vector_index import train_if_due
from dpr_lance.table.consistency import drop_duplicates, indexed_columns, rows_by_embedding
from dpr_lance.table.remembered import CARD, NEXT_CARD
from dpr_lance.table.schema import CONTENT, ID, TableCard
from dpr_lance.table.snapshot import parts_of
from dpr_lance.table.store import Store
from dpr_lance.table.tuning import TRAINING
from dpr_lance.text.language import Language
from dpr_lance.text.normal_form import content_of


def rebuild(store: Store) -> tuple[str, ...]:
    """Rebuild all of it; return the columns whose indexes were built. The caller holds the store's lock.

    Raises `DamagedTableError` where passages themselves are damaged.
    """
    _check_passages(store)
    _make_small_table_again(store)
    _remove_damaged_files(store)
    card = store.card
    store.commit(lambda table: drop_duplicates(table, rows_by_embedding(table, card.embedded)))
    _spell_again(store, card.language)
    built = _index_again(store, card)
    store.files.record_again()
    store.remembered.files.record_again()
    return built


def _check_passages(store: Store) -> None:
    folder = store.files.folder
    for damage in store.files.damages():
        derived = folder is not None and damage.path.relative_to(folder).parts[0] in ("_indices", "_dpr_lance")
        if damage.needed and not derived and not damage.lost_version:
            raise DamagedTableError(f"{store.place}: {damage}, and it contains passages; {damage.remedy}")


def _remove_damaged_files(store: Store) -> None:
    """Remove damaged files of earlier versions only, which would make their clean-up fail."""
    for damage in list(store.files.damages()):
        if not damage.needed:
            Path(damage.path).unlink(missing_ok=True)


def _make_small_table_again(store: Store) -> None:
    """Keep what can be read and is whole; where the small table is lost, the schema has the card."""
    remembered = store.remembered
    whole = next(iter(remembered.files.damages()), None) is None
    values: dict[str, Any] = {}
    try:
        lost = remembered.is_lost()
        values = dict(remembered.values())
        for key in (CARD, NEXT_CARD):
            remembered.card_in(values, key)
        if whole and not lost:
            return
    except DprLanceError:
        values = {key: value for key, value in values.items() if key in (CARD, NEXT_CARD) and _is_card(value, store)}
    if not whole:
        # Anything else may have changed unnoticed; nothing but the cards is needed.
        values = {key: values[key] for key in (CARD, NEXT_CARD) if key in values}
    remembered.make_again(values)


def _is_card(value: Any, store: Store) -> bool:  # noqa: ANN401 - JSON
    with contextlib.suppress(DprLanceError):
        return store.remembered.card_in({CARD: value}, CARD) is not None
    return False


def _spell_again(store: Store, language: Language) -> None:
    """Write the column that BM25 indexes again where it differs from what is made of title and text today."""

    def differing(table: Table) -> pa.Table:
        parts = []
        for part in parts_of(table, [ID, "title", "text", CONTENT]):
            titles, texts = part["title"].to_pylist(), part["text"].to_pylist()
            wanted = [content_of(title, text, language) for title, text in zip(titles, texts, strict=True)]
            stored = part[CONTENT].to_pylist()
            changed = [number for number, content in enumerate(wanted) if content != stored[number]]
            ids = part[ID].take(pa.array(changed, pa.int64()))
            contents = pa.array([wanted[number] for number in changed], part[CONTENT].type)
            schema = pa.schema([table.schema.field(ID), table.schema.field(CONTENT)])
            parts.append(pa.table({ID: ids, CONTENT: contents}, schema=schema))
        return pa.concat_tables(parts) if parts else pa.table({ID: []})

    rows = store.retry_on_conflict(differing)
    if rows.num_rows:
        store.commit(lambda table: table.merge_insert(ID).when_matched_update_all().execute(rows))


def _index_again(store: Store, card: TableCard) -> tuple[str, ...]:
    """Rebuild the BM25 index and the present ones for ids and filters; the vector index, where it is due."""
    columns = store.retry_on_conflict(indexed_columns)
    built = [CONTENT]
    store.retry_on_conflict(lambda table: _rebuild_text_index(table, columns.get(CONTENT)))
    others = [column for column in columns if column not in (CONTENT, card.column)]
    for column in others:
        store.retry_on_conflict(methodcaller("drop_index", columns[column]))
    built += store.retry_on_conflict(lambda table: build_filter_indexes(table, others))
    store.remembered.keep(**{TRAINING: None})
    if train_if_due(store, card):
        built.append(card.column)
    elif card.column in columns:
        store.retry_on_conflict(methodcaller("drop_index", columns[card.column]))
    return tuple(built)


def _rebuild_text_index(table: Table, name: str | None) -> None:
    try:
        create_text_index(table)
    except (RuntimeError, ValueError):  # because of the damaged index
        if name is None:
            raise
        table.drop_index(name)
        create_text_index(table)
