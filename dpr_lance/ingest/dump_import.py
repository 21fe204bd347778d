"""Reading a dump into a table: passages with their vectors, nothing is split or encoded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dpr_lance.documents.columns import ColumnFitting
from dpr_lance.documents.document import Document
from dpr_lance.documents.field_types import declared_type
from dpr_lance.documents.values import python_records
from dpr_lance.encoders.vectors import Vector
from dpr_lance.errors import EncoderMismatchError, InvalidInputError
from dpr_lance.indexes.maintenance import create_text_index, ensure_text_index, fold
from dpr_lance.ingest.dump_file import DumpHead, read_dump
from dpr_lance.ingest.embedding import BATCH_ROWS, ProgressReporter
from dpr_lance.ingest.ingestion import SCHEMA_CHANGES
from dpr_lance.ingest.widening import prepare_columns, stored_values
from dpr_lance.records.passage import Passage
from dpr_lance.records.reports import AddReport
from dpr_lance.table.contention import SchemaChangedError
from dpr_lance.table.filters import among
from dpr_lance.table.rows import Row, arrow_rows, hash_of
from dpr_lance.table.schema import DOCUMENT_ID, EMBEDDED, ID, VECTOR, TableCard, metadata_fields, table_schema
from dpr_lance.table.store import Store

Record = dict[str, Any]


def check_encoder(head: DumpHead, card: TableCard, path: Path, place: str) -> None:
    """Raise `EncoderMismatchError` unless a dump's vectors are of the encoder on the card."""
    theirs, ours = head.card.encoder, card.encoder
    if theirs.fingerprint != ours.fingerprint:
        raise EncoderMismatchError(
            f"{path} holds vectors of encoder {theirs.name!r} (fingerprint {theirs.fingerprint:.12}), and {place} has "
            f"those of {ours.name!r} ({ours.fingerprint:.12}): add the file to a new table without encoder=..., and "
            f"call reembed() there, or add its documents from their source"
        )


@dataclass(slots=True)
class DumpImport:
    """One call of `add` with the path of a dump."""

    store: Store
    card: TableCard
    path: Path
    head: DumpHead
    progress: ProgressReporter
    report: AddReport = field(default_factory=AddReport)

    def run(self) -> AddReport:
        """Store all documents, about 1,000 passages a commit; what is stored already is left as it is."""
        self.progress.passages_total = self.head.passages
        if self.store.find() is None:
            self.store.create(table_schema(self.card, list(self.head.metadata)), create_text_index)
            check_encoder(self.head, self.store.card, self.path, self.store.place)  # of another process, perhaps
        ensure_text_index(self.store)
        passages = 0
        for batch in self._batches():
            with self.store.under(self.card):
                self._write(batch)
            passages += len(batch)
            self.progress.report(passages, self.report.documents_read)
            fold(self.store, bulk=True)
        if passages != self.head.passages:
            raise InvalidInputError(
                f"{self.path}: this dump is cut off: it has {passages:,} of {self.head.passages:,} passages; those are "
                f"stored, export it again for the others"
            )
        fold(self.store, bulk=False)
        return replace(self.report, seconds=self.progress.seconds)

    def _batches(self) -> Iterator[list[Record]]:
        """Yield the passages of whole documents."""
        batch: list[Record] = []
        for _, passages in groupby(self._records(), key=lambda record: record[DOCUMENT_ID]):
            batch += passages
            if len(batch) >= BATCH_ROWS:
                yield batch
                batch = []
        if batch:
            yield batch

    def _records(self) -> Iterator[Record]:
        dimension = self.card.encoder.dimension
        for rows in read_dump(self.path, self.head):
            vectors = rows[VECTOR].combine_chunks()
            flat, ends = vectors.values.to_numpy(), vectors.offsets.to_numpy()
            there = vectors.is_valid().to_pylist()
            for at, record in enumerate(python_records(rows.drop_columns([VECTOR]))):
                vector = flat[ends[at] : ends[at + 1]] if there[at] else None
                self._check(record, vector, dimension)
                yield record | {VECTOR: vector}

    def _check(self, record: Record, vector: Vector | None, dimension: int) -> None:
        name, fault = record[ID], None
        # Plain LanceDB may have added a document of one passage, whose id is the document's.
        if name not in (f"{record[DOCUMENT_ID]}#{record['position']}", record[DOCUMENT_ID]):
            fault = f"its document is {record[DOCUMENT_ID]!r} and its position {record['position']}"
        elif hash_of(record["title"], record["text"]) != record["content_hash"]:
            fault = "its title or text was changed, so the vector is no longer that of it"
        elif vector is not None and (len(vector) != dimension or not np.isfinite(vector).all()):
            fault = f"its vector is not {dimension} finite numbers"
        if fault is not None:
            raise InvalidInputError(f"{self.path}: the passage {name!r} is not as it was exported: {fault}")

    def _write(self, batch: list[Record]) -> None:
        documents: dict[str, list[Record]] = {}
        for record in batch:
            documents.setdefault(record[DOCUMENT_ID], []).append(record)
        stored = self._stored(list(documents))
        new = {name: _state(records) for name, records in documents.items()}
        unchanged = {name for name, state in new.items() if stored.get(name) == state}
        written = [name for name in documents if name not in unchanged]
        if written:
            self._put([record for name in written for record in documents[name]], written)
        replaced = stored.keys() - unchanged
        more = AddReport(
            documents_added=len(documents) - len(stored),
            documents_replaced=len(replaced),
            documents_unchanged=len(unchanged),
            passages_added=sum(len(documents[name]) for name in written),
            passages_removed=sum(len(stored[name]) for name in replaced),
        )
        counted = ("documents_added", "documents_replaced", "documents_unchanged", "passages_added", "passages_removed")
        total = {name: getattr(self.report, name) + getattr(more, name) for name in counted}
        self.report = replace(self.report, **total)

    def _stored(self, names: list[str]) -> dict[str, frozenset[tuple[object, ...]]]:
        columns = {name: name for name in (ID, DOCUMENT_ID, "content_hash", "document_hash")}
        rows = self.store.select(columns | {EMBEDDED: self.card.embedded}, among(DOCUMENT_ID, names)).to_pylist()
        found: dict[str, set[tuple[object, ...]]] = {}
        for row in rows:
            state = row[ID], row["content_hash"], row["document_hash"], row[EMBEDDED]
            found.setdefault(row[DOCUMENT_ID], set()).add(state)
        return {name: frozenset(states) for name, states in found.items()}

    def _put(self, records: list[Record], document_ids: list[str]) -> None:
        types = {column.name: declared_type(column.type) for column in self.head.metadata}
        given = {
            record[ID]: Document("", metadata={name: record[name] for name in types}, types=types) for record in records
        }
        if len(given) < len(records):
            raise InvalidInputError(f"{self.path}: a passage is in this dump twice")
        rows = [
            Row(
                Passage(
                    **{name: record[name] for name in (ID, DOCUMENT_ID, "position", "title", "text", "start", "end")},
                    embedded=False,
                ),
                record["content_hash"],
                record["document_hash"],
            )
            for record in records
        ]
        vectors = {record[ID]: record[VECTOR] for record in records if record[VECTOR] is not None}
        for attempt in range(1, SCHEMA_CHANGES + 1):
            fields = metadata_fields(self.store.schema())
            _, columns = ColumnFitting(fields, partial(stored_values, self.store), self._refuse).fit(given)
            prepare_columns(self.store, fields, columns.new, columns.wider)
            made: pa.Table = arrow_rows(rows, vectors, self.store.schema(), self.card.column, columns.arrays)
            try:
                self.store.replace(made, document_ids, self.card)
            except SchemaChangedError:
                if attempt == SCHEMA_CHANGES:
                    raise
            else:
                return

    def _refuse(self, name: str, reason: str) -> None:
        raise InvalidInputError(f"{self.path}: the passage {name!r}: {reason}")


def _state(records: list[Record]) -> frozenset[tuple[object, ...]]:
    """Return what tells whether a document is stored as it is in the dump."""
    return frozenset(
        (record[ID], record["content_hash"], record["document_hash"], record[VECTOR] is not None) for record in records
    )
