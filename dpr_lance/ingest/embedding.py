"""Vectors for passages: encoding and counting, filling in missing vectors, changing the encoder."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpr_lance.checks import checked_callback
from dpr_lance.encoders.encoder import Encoder, TokenCounter
from dpr_lance.encoders.encoding import encoded_passages
from dpr_lance.encoders.vectors import Vector, vector_array
from dpr_lance.indexes import maintenance as indexes
from dpr_lance.indexes.vector_index import train_if_due
from dpr_lance.ingest.write_queue import Stop
from dpr_lance.records.reports import Progress, ReembedReport, Skipped
from dpr_lance.table.completion import complete_rows
from dpr_lance.table.remembered import CARD, NEXT_CARD
from dpr_lance.table.schema import ID, METADATA_KEY, TableCard, column_key, is_vector_column
from dpr_lance.table.store import Store

BATCH_ROWS = 1_000
"""Passages of one commit."""
PLANNED_ROWS = 65_536
"""Passages without a vector that one scan lists."""
ENCODE_PASSAGES = 128
"""Passages between two reports of progress."""
NAMED = 100
"""Skipped documents, and passages without a vector, that a report names; all are counted."""

ProgressCallback = Callable[[Progress], None]


@dataclass(slots=True)
class ProgressReporter:
    """Calls a `progress` callback, if there is one, and measures the time; raises for what cannot be called."""

    callback: ProgressCallback | None = None
    documents_total: int | None = None
    passages_total: int | None = None
    started: float = field(default_factory=time.perf_counter)
    stop: Stop | None = None
    """Asks the work to stop, which it does where it reports."""

    def __post_init__(self) -> None:
        if self.callback is not None:
            checked_callback(self.callback, "progress", "give a function that takes a Progress")

    @property
    def seconds(self) -> float:
        """Seconds since the work began."""
        return time.perf_counter() - self.started

    def check(self) -> None:
        """Raise `StoppedError` where the work is to stop."""
        if self.stop is not None:
            self.stop.check()

    def report(self, passages: int, documents: int = 0) -> None:
        """Report how far the work has come; raise `StoppedError` where it is to stop."""
        self.check()
        if self.callback is not None:
            self.callback(Progress(documents, passages, self.seconds, self.documents_total, self.passages_total))


@dataclass(slots=True)
class PassageEncoder:
    """An encoder that counts passages and cut-off tokens, and calls `report` as it goes on."""

    encoder: Encoder
    report: Callable[[], None]
    passages: int = 0
    truncated_passages: int = 0
    truncated_tokens: int = 0
    without_vector: dict[str, str] = field(default_factory=dict)
    """Why passages have none, by id."""

    def encode(self, passages: Sequence[tuple[str, str]], ids: Sequence[Sequence[str]]) -> list[Vector | None]:
        """Return a vector for each (title, text), in order, or None where the encoder makes none.

        `ids`: for each of them the ids of the passages with this title and text.
        """
        vectors: list[Vector | None] = []
        for start in range(0, len(passages), ENCODE_PASSAGES):
            part = passages[start : start + ENCODE_PASSAGES]
            found = encoded_passages(self.encoder, part)
            vectors.extend(found.vectors)
            for at, reason in found.reasons.items():
                self.without_vector.update(dict.fromkeys(ids[start + at], reason))
            made = [passage for at, passage in enumerate(part) if at not in found.reasons]
            if isinstance(self.encoder, TokenCounter) and made:
                excess = self.encoder.excess_tokens(made)
                self.truncated_passages += int((excess > 0).sum())
                self.truncated_tokens += int(excess.sum())
            self.passages += len(made)
            self.report()
        return vectors

    @property
    def done(self) -> int:
        """Passages that were embedded, or found to have no vector."""
        return self.passages + len(self.without_vector)

    def counts(self) -> dict[str, Any]:
        """Return the counts that `AddReport` and `ReembedReport` share, by field."""
        named = itertools.islice(self.without_vector.items(), NAMED)
        return {
            "passages_embedded": self.passages,
            "truncated_passages": self.truncated_passages,
            "truncated_tokens": self.truncated_tokens,
            "passages_without_vector": len(self.without_vector),
            "without_vector": tuple(Skipped(name, reason) for name, reason in named),
        }


def fill_vectors(store: Store, card: TableCard, encoder: PassageEncoder) -> None:
    """Give a vector in `card.column` to every passage that has none there, 1,000 per commit.

    Each passage is tried once. After an interruption the next call continues.
    """
    tried = np.empty(0, dtype=np.uint64)
    while True:
        complete_rows(store)  # a row without a hash would be encoded, and its vector not stored
        rows = store.row_ids(card.unembedded, limit=PLANNED_ROWS + len(tried))
        rows = np.setdiff1d(rows, tried)
        if not len(rows):
            return
        for start in range(0, len(rows), BATCH_ROWS):
            found = store.take(rows[start : start + BATCH_ROWS], [ID, "content_hash", "title", "text"])
            titles = [title or "" for title in found["title"].to_pylist()]
            passages = list(zip(titles, found["text"].to_pylist(), strict=True))
            made = encoder.encode(passages, [[name] for name in found[ID].to_pylist()])
            there = pa.array([vector is not None for vector in made], type=pa.bool_())
            tried = np.append(tried, found.filter(pc.invert(there))["_rowid"].to_numpy())
            found = found.filter(there)
            if found.num_rows:
                vectors = vector_array([vector for vector in made if vector is not None], card.encoder.dimension)
                named = pa.field(card.column, vectors.type)
                given = found.select([ID, "content_hash"]).append_column(named, vectors)
                store.set_vectors(_each_once(given), card)
            indexes.fold(store, bulk=True)


def _each_once(rows: pa.Table) -> pa.Table:
    """Return one row for each id and content: plain LanceDB may have stored a passage twice."""
    keys = list(zip(rows[ID].to_pylist(), rows["content_hash"].to_pylist(), strict=True))
    first = {key: at for at, key in reversed(list(enumerate(keys)))}
    return rows if len(first) == len(keys) else rows.take(sorted(first.values()))


@dataclass(slots=True)
class Reembedder:
    """New vectors for every passage under another encoder, in a column of their own until all are there."""

    store: Store
    encoder: Encoder
    source: tuple[str, ...]
    progress: ProgressReporter
    _work: PassageEncoder = field(init=False)

    def __post_init__(self) -> None:
        self._work = PassageEncoder(self.encoder, lambda: self.progress.report(self._work.done))

    def run(self) -> ReembedReport:
        """Fill the new column, switch to it in one commit, free the old one. The caller holds the re-embedding lock.

        An interrupted run of the same encoder is continued; one of another encoder is discarded.
        """
        old = next(iter(self.store.cards()), None) or self.store.card
        lost = old.column not in self.store.schema().names
        if old.encoder.fingerprint == self.encoder.card.fingerprint and not lost:
            return ReembedReport(encoder=old.encoder)
        with self._index_lock():
            card = self._prepared(old)
            if lost:  # searches have no vectors until then
                self._switch(old, card)
        self.progress.passages_total = self.store.count(card.unembedded)
        fill_vectors(self.store, card, self._work)
        with self._index_lock():
            train_if_due(self.store, card)
            self._switch(old, card)
        fill_vectors(self.store, card, self._work)  # what was added with the old encoder meanwhile
        with self._index_lock():
            indexes.optimize(self.store)
        return ReembedReport(encoder=card.encoder, **self._work.counts(), seconds=self.progress.seconds)

    def _switch(self, old: TableCard, card: TableCard) -> None:
        self.store.switch(card)
        self.store.drop_columns([old.column])

    def _index_lock(self) -> AbstractContextManager[object]:
        return self.store.lock(timeout=indexes.LOCK_TIMEOUT)

    def _prepared(self, old: TableCard) -> TableCard:
        begun = self.store.remembered.card(NEXT_CARD)
        if begun is not None and begun.encoder.fingerprint == self.encoder.card.fingerprint:
            card = begun
        else:
            column = self._next_column(old)
            card = replace(old, encoder=self.encoder.card, encoder_source=self.source, column=column, mode="hybrid")
        # The card first: the next `optimize` frees a column that no card names.
        self.store.remembered.keep(**{NEXT_CARD: card.to_fields()})
        # The column names its encoder too, for restored versions, and where the small table is lost.
        kind, about = pa.list_(pa.float32(), card.encoder.dimension), card.to_json()
        column = pa.field(card.column, kind, metadata={METADATA_KEY: about})
        self.store.add_columns([column], metadata={column_key(card.column): about})
        if begun is not None and begun.column != card.column:
            self.store.drop_columns([begun.column])
        return card

    def _next_column(self, old: TableCard) -> str:
        """Return a name for a vector column that no known version has used."""
        kept = [self.store.remembered.card(key) for key in (CARD, NEXT_CARD)]
        names = {card.column for card in [old, *kept] if card is not None}
        names |= {name for name in self.store.schema().names if is_vector_column(name)}
        return f"vector_{max(int(re.sub(r'[^0-9]', '', name) or 1) for name in names) + 1}"
