"""Documents into the table: each batch is compared with the stored passages, embedded where new, and committed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import compress, repeat

import pyarrow as pa

from dpr_lance.documents.columns import ColumnFitting, Columns
from dpr_lance.documents.document import Document
from dpr_lance.encoders.encoder import Encoder
from dpr_lance.encoders.vectors import Vector
from dpr_lance.errors import EncoderMismatchError, InvalidInputError
from dpr_lance.indexes.maintenance import create_text_index, ensure_text_index, fold
from dpr_lance.ingest.embedding import NAMED, PassageEncoder, ProgressReporter, fill_vectors
from dpr_lance.ingest.widening import prepare_columns, stored_values
from dpr_lance.records.passage import Passage
from dpr_lance.records.reports import AddReport, Skipped
from dpr_lance.table.contention import SchemaChangedError, SwitchedError
from dpr_lance.table.filters import among
from dpr_lance.table.memory import trim_heap
from dpr_lance.table.rows import Row, arrow_rows, document_hash_of, document_id_of, rows_of, stored_hash
from dpr_lance.table.schema import DOCUMENT_ID, EMBEDDED, TableCard, metadata_fields, table_schema
from dpr_lance.table.store import Store
from dpr_lance.text.splitter import Splitter

BATCH_CHARACTERS = 600_000
"""Text of one commit, about 1,000 passages of 100 words."""
BATCH_DOCUMENTS = 1_000
SCHEMA_CHANGES = 10
"""Retries of a batch while other processes change the table's columns."""
_FILLED = "_filled_"
"""Prefix of the columns that tell whether a metadata column has a value."""


@dataclass(frozen=True, slots=True)
class _Stored:
    document_hash: str
    passages: int
    embedded: int
    filled: frozenset[str]
    """The metadata fields of the batch that have a value in each of its passages."""


@dataclass(slots=True)
class Ingestion:
    """One call of `add` or `embed`; without an encoder only text is stored."""

    store: Store
    card: TableCard
    encoder: Encoder | None
    splitter: Splitter | None = None
    skip_errors: bool = False
    progress: ProgressReporter = field(default_factory=ProgressReporter)
    follow: Callable[[TableCard], Encoder] | None = None
    """Returns the encoder of a card that a re-embedding has put in force meanwhile, or raises."""
    report: AddReport = field(default_factory=AddReport)
    _work: PassageEncoder | None = field(init=False)

    def __post_init__(self) -> None:
        self._work = None if self.encoder is None else PassageEncoder(self.encoder, self._report)

    def add(self, items: Iterator[Document | Skipped], total: int | None) -> AddReport:
        """Add all documents, one commit per batch; when one raises, the batches before it stay."""
        self.progress.documents_total = total
        if self.store.find() is not None:
            ensure_text_index(self.store)
        try:
            for documents in self._batches(items):
                self._until_steady(partial(self._write, documents))
                trim_heap()
                fold(self.store, bulk=True)
        except InvalidInputError as error:
            report = self.report
            kept = report.documents_added + report.documents_replaced + report.documents_unchanged
            raise InvalidInputError(f"{error} (the {kept} documents of the batches before are stored)") from error
        return self._finished()

    def embed(self) -> AddReport:
        """Embed every passage that has no vector yet."""
        if self._work is not None:
            self._until_steady(self._fill)
        return self._finished()

    def _fill(self) -> None:
        if self._work is not None:
            self.progress.passages_total = self.store.count(self.card.unembedded)
            fill_vectors(self.store, self.card, self._work)

    def _until_steady(self, work: Callable[[], None]) -> None:
        """Do `work`, again with the new encoder whenever a re-embedding has put one in force."""
        while True:
            report = self.report
            try:
                with self.store.under(self.card):
                    return work()
            except SwitchedError:
                if not self._follow():
                    raise
                self.report = report

    def _follow(self) -> bool:
        card = self.store.find_card()
        if card is None or card == self.card:
            return False
        if self._work is not None and self.follow is not None:
            self._work.encoder = self.follow(card)
        self.card = card
        return True

    def _finished(self) -> AddReport:
        if self.store.find() is not None:
            fold(self.store, bulk=False)
        if self._work is not None:
            self.report = replace(self.report, **self._work.counts())
        return replace(self.report, seconds=self.progress.seconds)

    def _batches(self, items: Iterator[Document | Skipped]) -> Iterator[dict[str, Document]]:
        documents: dict[str, Document] = {}
        characters = 0
        for item in items:
            self.progress.check()
            if isinstance(item, Skipped):
                self._skip(item)
                continue
            name = document_id_of(item)
            if documents.pop(name, None) is not None:
                self._count(documents_duplicate=1)
            documents[name] = item
            characters += len(item.text)
            if characters >= BATCH_CHARACTERS or len(documents) >= BATCH_DOCUMENTS:
                yield documents
                documents, characters = {}, 0
        if documents:
            yield documents

    def _write(self, documents: dict[str, Document]) -> None:
        for attempt in range(1, SCHEMA_CHANGES + 1):
            schema = None if self.store.find() is None else self.store.schema()
            refused: dict[str, str] = {}
            fields = [] if schema is None else metadata_fields(schema)
            fitting = ColumnFitting(fields, partial(stored_values, self.store), partial(self._refuse, refused))
            kept, columns = fitting.fit(documents)
            if schema is None:
                self._create(columns.new)
            if prepare_columns(self.store, fields, columns.new, columns.wider) or schema is None:
                schema = self.store.schema()
            try:
                self._put(kept, columns, schema)
            except SchemaChangedError:
                if attempt == SCHEMA_CHANGES:
                    raise
            else:
                break
        for name, reason in refused.items():
            self._skip(Skipped(f"document {name!r}", reason))
        self._report()

    def _put(self, documents: dict[str, Document], columns: Columns, schema: pa.Schema) -> None:
        hashes = {name: document_hash_of(document, self.splitter) for name, document in documents.items()}
        filled = {
            name: [field for field, value in document.metadata.items() if value is not None]
            for name, document in documents.items()
        }
        stored = self._stored(list(documents), columns.arrays)
        unchanged = {
            name
            for name, old in stored.items()
            # A document is stored again after some of its passages, or one of its columns, were deleted.
            if old.document_hash == stored_hash(hashes[name], old.passages) and old.filled.issuperset(filled[name])
        }
        unembedded = {
            name for name in unchanged if self._work is not None and stored[name].embedded < stored[name].passages
        }
        changed = stored.keys() - unchanged
        written = [name for name in documents if name not in unchanged or name in unembedded]
        rows = [row for name in written for row in rows_of(documents[name], hashes[name], self.splitter)]
        vectors = self._vectors(rows, changed | unembedded)
        # An unchanged document is written again only where it gets more vectors.
        made = Counter(row.passage.document_id for row in rows if row.passage.id in vectors)
        idle = {name for name in unembedded if made[name] <= stored[name].embedded}
        written = [name for name in written if name not in idle]
        rows = [row for row in rows if row.passage.document_id not in idle]
        if rows:
            places = {name: place for place, name in enumerate(documents)}
            of_row = pa.array([places[row.passage.document_id] for row in rows])
            metadata = {name: values.take(of_row) for name, values in columns.arrays.items()}
            new = arrow_rows(rows, vectors, schema, self.card.column, metadata)
            self.store.replace(new, written, self.card)
        self._count(
            documents_added=len(documents) - len(stored),
            documents_replaced=len(changed),
            documents_unchanged=len(unchanged),
            passages_added=sum(row.passage.document_id not in unchanged for row in rows),
            passages_removed=sum(stored[name].passages for name in changed),
        )

    def _create(self, fields: Sequence[pa.Field]) -> None:
        self.store.create(table_schema(self.card, fields), create_text_index)
        first = self.store.card
        self.store.check_language(first)
        if first.encoder.fingerprint != self.card.encoder.fingerprint:
            raise EncoderMismatchError(
                f"{self.store.place} was just created by another process with encoder {first.encoder.name!r}, "
                f"not {self.card.encoder.name!r}"
            )

    def _stored(self, document_ids: Sequence[str], fields: Iterable[str]) -> dict[str, _Stored]:
        columns = {DOCUMENT_ID: DOCUMENT_ID, "document_hash": "document_hash", EMBEDDED: self.card.embedded}
        names = list(fields)
        tests = {f"{_FILLED}{number}": f"`{name}` IS NOT NULL" for number, name in enumerate(names)}
        rows = self.store.select(columns | tests, among(DOCUMENT_ID, document_ids))
        filled = zip(*(rows[test].to_pylist() for test in tests), strict=True) if tests else repeat(())
        own = (rows[name].to_pylist() for name in columns)
        found: dict[str, _Stored] = {}
        for name, document_hash, embedded, flags in zip(*own, filled, strict=False):
            old = found.get(name, _Stored(document_hash, 0, 0, frozenset(names)))
            # Rows of two versions of one document differ in their hash: then neither is the new one.
            same = document_hash if old.document_hash == document_hash else ""
            there = old.filled.intersection(compress(names, flags))
            found[name] = _Stored(same, old.passages + 1, old.embedded + embedded, there)
        return found

    def _refuse(self, refused: dict[str, str], name: str, reason: str) -> None:
        if not self.skip_errors:
            raise InvalidInputError(f"document {name!r}: {reason}")
        refused[name] = reason

    def _vectors(self, rows: Sequence[Row], stored_documents: set[str]) -> dict[str, Vector]:
        """Return vectors by passage id: stored ones where title and text are unchanged, new ones for the rest."""
        known = self._stored_vectors(stored_documents)
        if self._work is not None:
            missing: dict[str, list[Passage]] = {}
            for row in rows:
                if row.content_hash not in known:
                    missing.setdefault(row.content_hash, []).append(row.passage)
            texts = [(same[0].title, same[0].text) for same in missing.values()]
            made = self._work.encode(texts, [[passage.id for passage in same] for same in missing.values()])
            known |= {name: vector for name, vector in zip(missing, made, strict=True) if vector is not None}
        return {row.passage.id: known[row.content_hash] for row in rows if row.content_hash in known}

    def _stored_vectors(self, document_ids: set[str]) -> dict[str, Vector]:
        if not document_ids:
            return {}
        column = self.card.column
        rows = self.store.select(["content_hash", column], among(DOCUMENT_ID, sorted(document_ids)))
        rows = rows.filter(rows[column].is_valid())
        return {
            name: vector.values.to_numpy()
            for name, vector in zip(rows["content_hash"].to_pylist(), rows[column], strict=True)
        }

    def _skip(self, skipped: Skipped) -> None:
        self._count(documents_skipped=1)
        if len(self.report.skipped) < NAMED:
            self.report = replace(self.report, skipped=(*self.report.skipped, skipped))

    def _count(self, **more: int) -> None:
        self.report = replace(self.report, **{name: getattr(self.report, name) + count for name, count in more.items()})

    def _report(self) -> None:
        self.progress.report(0 if self._work is None else self._work.done, self.report.documents_read)
