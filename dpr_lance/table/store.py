"""The table in its LanceDB database: open, create, look up, replace, delete, scan."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lancedb.expr import Expr
from lancedb.table import Table
from numpy.typing import NDArray

from dpr_lance.errors import DamagedTableError, InvalidInputError, LockedError, StorageError, TableError
from dpr_lance.table.address import checked_address
from dpr_lance.table.consistency import stored_ids
from dpr_lance.table.contention import SupersededError, SwitchedError, TableLock, committed, retry_on_conflict
from dpr_lance.table.engine_errors import storage_named
from dpr_lance.table.files import TableFiles
from dpr_lance.table.filters import among, sql_for, unusable
from dpr_lance.table.forks import check_process, note_use
from dpr_lance.table.index_policy import IndexPolicy
from dpr_lance.table.lancedb_internals import without_functions
from dpr_lance.table.opening import CACHE_BYTES, Opening
from dpr_lance.table.remembered import CARD, NEXT_CARD, RESTORING, Remembered
from dpr_lance.table.retention import KEEP_VERSIONS
from dpr_lance.table.rows import fitted_rows
from dpr_lance.table.schema import DOCUMENT_ID, EMBEDDED, ID, PASSAGE_COLUMNS, VECTOR, TableCard, columns_read
from dpr_lance.table.snapshot import Snapshot, lost_vectors
from dpr_lance.table.table_columns import add_missing, drop_present
from dpr_lance.text.language import Language

MAINTENANCE_CACHE_BYTES = 32 << 20
"""Bound of the caches of maintenance, which reads everything: see `Store.apart`."""

CREATE_TIMEOUT = 60.0
"""Seconds to wait for another process that is creating the same table."""

_SCAN_DOCUMENTS = 500

WRITE_TIMEOUT = 600.0
"""Seconds that a writer waits for its turn: maintenance of a large table takes minutes."""

T = TypeVar("T")


class Store:
    """One table of passages, opened lazily and shared by threads; it may not exist yet (see `create`)."""

    def __init__(
        self,
        uri: str | os.PathLike[str],
        name: str,
        storage_options: Mapping[str, str] | None = None,
        cache_bytes: int = CACHE_BYTES,
        keep_versions: timedelta = KEEP_VERSIONS,
        policy: IndexPolicy | None = None,
        language: Language | None = None,
    ) -> None:
        self.uri, self.folder = checked_address(uri, name)
        self.name = name
        self.keep_versions = keep_versions
        self.policy = policy or IndexPolicy()
        self.language = language
        """The language that a new table gets; None is English, and says nothing about one that exists."""
        check_process(self.place)
        note_use()
        self.files = TableFiles(self.folder and self.folder / f"{name}.lance", self.place)
        self._opening = Opening(self.uri, self.folder, name, storage_options, cache_bytes, self.files)
        self._replacing = threading.Lock()
        self._closed = False
        self._snapshot: Snapshot | None = None

    @property
    def place(self) -> str:
        """How error messages name this table."""
        return f"table {self.name!r} in {self.uri}"

    def check_usable(self) -> None:
        """Raise `TableError` when it is closed, or when this process was forked from one in which LanceDB worked."""
        check_process(self.place)
        if self._closed:
            raise TableError(f"{self.place}: this retriever is closed, connect again")

    @property
    def index_cache_bytes(self) -> int:
        """Bound of LanceDB's cache of indexes."""
        return self._opening.index_cache_bytes

    def close(self) -> None:
        """Let go of the table; later calls raise."""
        self._closed, self._snapshot = True, None

    def find(self) -> Table | None:
        """Return the LanceDB table, or None while it does not exist; a table that has taken its place is opened.

        Raises `TableError` when it is not ours or was removed, and as `check_usable` does.
        """
        self.check_usable()
        if self._opening.table is not None and not self._opening.is_there():
            with self._replacing:
                if not self._opening.is_there() and not self._opening.goes_on():
                    self._opening, self._snapshot = self._opening.again(), None
        return self._opening.find()

    @property
    def table(self) -> Table:
        """The LanceDB table; raises `TableError` while it does not exist."""
        table = self.find()
        if table is None:
            raise self.absent()
        return table

    def absent(self) -> TableError:
        """Return the error of what needs a table where there is none."""
        return TableError(f"{self.place} does not exist yet: add documents first")

    def find_card(self) -> TableCard | None:
        """Return the table's card (encoder, vectors, splitter); None while the table does not exist.

        Raises `DamagedTableError` when the card's vectors are gone.
        """
        if self.find() is None:
            return None
        return self._card_in(self.schema())

    def _card_in(self, schema: pa.Schema) -> TableCard:
        card = self.remembered.cards(schema)[0]
        if (lost := lost_vectors(card, schema.names, self.place)) is not None:
            raise DamagedTableError(lost)
        return card

    @property
    def card(self) -> TableCard:
        """The table's card; raises `TableError` while the table does not exist."""
        card = self.find_card()
        if card is None:
            raise self.absent()
        return card

    def check_language(self, card: TableCard) -> None:
        """Raise `InvalidInputError` where the table has another language than the one that it was opened with."""
        if self.language not in (None, card.language):
            raise InvalidInputError(
                f"language={self.language!r}: {self.place} was created with language={card.language!r} and keeps it: "
                f"connect without language=..., or add the documents to a new table (another table=... or folder)"
            )

    def create(self, schema: pa.Schema, prepare: Callable[[Table], None]) -> None:
        """Create the table and `prepare` it, unless another thread or process has done so."""
        with self.lock(timeout=CREATE_TIMEOUT):
            if self.find() is None:
                self._opening.create(schema, prepare)
        self.find()

    @contextlib.contextmanager
    def apart(self) -> Iterator[Store]:
        """Yield the same table with its own caches, which are freed at the end; `self` where it is not local."""
        self.find()
        if self.folder is None:
            yield self
        else:
            yield Store(self.uri, self.name, None, MAINTENANCE_CACHE_BYTES, self.keep_versions, self.policy)

    def lock(self, *, timeout: float, purpose: str = "indexes") -> AbstractContextManager[object]:
        """Return the lock under which one process at a time creates the table, changes its indexes, or re-embeds it.

        It is a file next to a local table; object stores and memory have none. Entering raises `LockedError`.
        """
        if self.folder is None:
            return contextlib.nullcontext()  # LanceDB's own commits keep the table whole there
        if self._opening.table is None:  # else a lock would make a removed folder again
            with storage_named(self.place):
                self.folder.mkdir(parents=True, exist_ok=True)
        return TableLock(self.folder / f".{self.name}.{purpose}.lock", timeout=timeout)

    @property
    def remembered(self) -> Remembered:
        """The small table next to this one; empty while this one does not exist."""
        self.find()
        return self._opening.remembered

    def cards(self) -> list[TableCard]:
        """Return the card in force, and the one that a re-embedding is preparing, if any."""
        table = self.find()
        return [] if table is None else self.remembered.cards(table.schema)

    @contextlib.contextmanager
    def under(self, card: TableCard) -> Iterator[None]:
        """Raise `SwitchedError` for an error within the block if the card is no longer one of the table's."""
        try:
            yield
        except (ValueError, RuntimeError):
            if self.find() is not None:
                self._check_card(card, self.schema())
            raise

    def _check_card(self, card: TableCard | None, schema: pa.Schema) -> None:
        if card is not None and card not in self.remembered.cards(schema):
            raise SwitchedError(
                f"{self.place} no longer has the vectors of {card.encoder.name!r} in {card.column!r}: it was "
                f"re-embedded or replaced meanwhile; call again"
            )

    def retry_on_conflict(self, call: Callable[[Table], T]) -> T:
        """Return `call(table)`, retried when another process's commit or clean-up conflicts with it.

        `call` must be idempotent. A clean-up may free a version that a reader has just opened and another writer has
        replaced since. Raises as `contention.retry_on_conflict` does.
        """
        # Looked up at every try: another table may have taken the place.
        return retry_on_conflict(lambda _: call(self.table), self.table, self.files)

    def schema(self) -> pa.Schema:
        """Return the schema of the table's latest version."""
        return self.retry_on_conflict(lambda table: table.schema)

    def with_snapshot(self, call: Callable[[Snapshot], T]) -> T:
        """Return `call` of the table's latest version, retried as `retry_on_conflict` does."""

        def attempt(table: Table) -> T:
            try:
                return self._now(table).answer(call)
            except BaseException:
                self._snapshot = None
                raise

        return self.retry_on_conflict(attempt)

    def _now(self, table: Table) -> Snapshot:
        # The state first: the vectors that it names stay in the table until a re-embedding has put others in force.
        opening = self._opening
        state, revision, last = opening.remembered.values(), opening.revision(table), self._snapshot
        if last is None or last.revision != revision or last.state is not state:
            last = Snapshot(opening, revision, state)
            opening.note(revision)
            if (lost := lost_vectors(last.card, last.names, self.place)) is not None:
                raise (DamagedTableError if opening.remembered.values() is state else SupersededError)(lost)
            self._snapshot = last
            if opening.is_worn(table):
                with self._replacing:
                    if self._opening is opening:
                        self._opening, self._snapshot = opening.renewed(), None
        return last

    def commit(self, call: Callable[[Table], T]) -> T:
        """Return `call(table)`, which writes; see `retry_on_conflict`. Local writers take turns."""
        # LanceDB finds two upserts of one new id in the versions between a writer's read and its commit. Where a
        # clean-up had freed one of these, both were inserted (once in about 13 runs), so they must not overlap either.
        with self.lock(timeout=WRITE_TIMEOUT, purpose="write"):
            self.finish_restoring()
            return committed(lambda table: call(without_functions(table)), self.retry_on_conflict, self.files)

    def finish_restoring(self) -> None:
        """Complete the restoring of a snapshot that was interrupted. The caller holds the lock of writers."""
        if RESTORING in self.remembered.values():
            self.remembered.finish_restoring(self.retry_on_conflict(lambda table: int(table.version)))

    def on_another_handle(self, call: Callable[[Table], T]) -> T:
        """Return `call(table)`, retried as `retry_on_conflict` does, where `call` checks out other versions."""
        return self.retry_on_conflict(lambda _: call(self._opening.latest()))

    def record_files(self) -> None:
        """Add the checksums of files that maintenance has written; drop those of files that it has freed."""
        with self.lock(timeout=WRITE_TIMEOUT, purpose="write"):
            self.files.record(prune=True)

    def switch(self, card: TableCard) -> None:
        """Put a card in force in one commit, while no writer is active."""
        with self.lock(timeout=WRITE_TIMEOUT, purpose="write"):
            self.remembered.keep(**{CARD: card.to_fields(), NEXT_CARD: None})

    def add_columns(self, fields: Iterable[pa.Field], metadata: Mapping[bytes, bytes] | None = None) -> None:
        """Add the columns, and with them the keys of schema metadata, that the table does not have yet."""
        if fields := list(fields):
            self.commit(lambda table: add_missing(table, fields, metadata))

    def drop_columns(self, names: Iterable[str]) -> None:
        """Drop those of these columns that exist, and their indexes."""
        if names := list(names):
            self.commit(lambda table: drop_present(table, names))

    def replace(self, rows: pa.Table, document_ids: Sequence[str], card: TableCard | None = None) -> None:
        """Replace all passages of these documents by `rows`, unique by id, in one commit.

        Raises `SwitchedError` when the table no longer has the vectors of `card`, and `SchemaChangedError` when a
        column now has another type; nothing is written then.
        """

        def put(table: Table) -> None:
            schema = table.schema
            self._check_card(card, schema)
            whole = fitted_rows(rows, schema, VECTOR if card is None else card.column)
            # Where writers take turns, what is stored now decides: appending joins with nothing, an upsert with the
            # rows that no index covers, and a deletion with every column of the whole table.
            stored = stored_ids(table, document_ids) if self.folder is not None else None
            # "null" accepts passages without a vector; vectors were checked to be finite before.
            if stored is not None and not len(stored):
                table.add(whole, on_bad_vectors="null")
                return
            upsert = table.merge_insert(ID).when_matched_update_all().when_not_matched_insert_all()
            if stored is None or not pc.all(pc.is_in(stored, value_set=whole[ID].combine_chunks())).as_py():
                upsert = upsert.when_not_matched_by_source_delete(among(DOCUMENT_ID, document_ids))
            upsert.execute(whole, on_bad_vectors="null")

        self.commit(put)

    def set_vectors(self, rows: pa.Table, card: TableCard) -> None:
        """Store the vectors of `rows` (id, content hash, vector) where id and hash match; raises as `replace` does."""

        def put(table: Table) -> None:
            self._check_card(card, table.schema)
            table.merge_insert([ID, "content_hash"]).when_matched_update_all().execute(rows)

        self.commit(put)

    def delete(self, where: Expr | str) -> int:
        """Delete the passages that match; return how many."""
        return int(self.commit(lambda table: table.delete(sql_for(table, where))).num_deleted_rows)

    def select(self, columns: Sequence[str] | Mapping[str, str], where: Expr | str | None) -> pa.Table:
        """Return these columns (names, or SQL expressions by name) of the passages that match."""
        chosen = dict(columns) if isinstance(columns, Mapping) else list(columns)

        def read(table: Table) -> pa.Table:
            search = table.search().select(chosen)
            return (search if where is None else search.where(where)).limit(None).to_arrow()

        return self.retry_on_conflict(read)

    def row_ids(self, where: Expr | str | None, *, limit: int | None = None) -> NDArray[np.uint64]:
        """Return the stable row ids of up to `limit` matching passages, ascending."""

        def read(table: Table) -> pa.Table:
            search = table.search().with_row_id(True).select([ID])
            return (search if where is None else search.where(where)).limit(limit).to_arrow()

        return np.sort(self.retry_on_conflict(read)["_rowid"].to_numpy())

    def take(self, row_ids: Iterable[int], columns: Sequence[str]) -> pa.Table:
        """Return `_rowid` and these columns of the rows, by row id; rows deleted meanwhile are missing."""
        rows, chosen = sorted(int(row) for row in row_ids), list(columns)
        return self.retry_on_conflict(lambda table: table.take_row_ids(rows).with_row_id().select(chosen).to_arrow())

    def passages(self, where: Expr | str) -> pa.Table:
        """Return the matching passages of one version; `_embedded` is a column."""
        schema = self.schema()
        shown = {name: f"`{name}`" for name in columns_read(schema.names, PASSAGE_COLUMNS)}
        return self.select(shown | {EMBEDDED: self._card_in(schema).embedded}, where)

    def scan(self) -> Iterator[pa.Table]:
        """Yield all passages, roughly in storage order; `_embedded` is a column.

        The passages of one document are all of one version; later documents are missing. Batches let a long scan
        outlive clean-ups; memory holds the ids of the documents.
        """
        for where in self._documents():
            yield self.passages(where)

    def by_document(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield these columns of all passages, those of some documents at a time; see `scan`."""
        for where in self._documents():
            yield self.select(columns, where)

    def _documents(self) -> Iterator[Expr | str]:
        """Yield filters for the passages of some documents each; the last one is for rows without a document."""
        names = pc.unique(self.select([DOCUMENT_ID], None)[DOCUMENT_ID])
        known = names.drop_null()
        for start in range(0, len(known), _SCAN_DOCUMENTS):
            yield among(DOCUMENT_ID, known.slice(start, _SCAN_DOCUMENTS).to_pylist())
        if names.null_count:
            yield f"{DOCUMENT_ID} IS NULL"

    def count(self, where: Expr | str | None = None) -> int:
        """Return the number of matching passages; 0 while the table does not exist."""

        def count(table: Table) -> int:
            return int(table.count_rows(None if where is None else sql_for(table, where)))

        return 0 if self.find() is None else self.retry_on_conflict(count)

    def check_filter(self, where: Expr | str) -> None:
        """Raise `InvalidInputError` that says what is wrong with a filter that LanceDB cannot use."""
        try:
            self.retry_on_conflict(lambda table: table.search().where(where).select([ID]).limit(1).to_arrow())
        except (DamagedTableError, StorageError, LockedError):
            raise
        except (ValueError, RuntimeError, TypeError) as error:
            cause = (
                error.__cause__ if isinstance(error, TableError) and isinstance(error.__cause__, Exception) else error
            )
            raise unusable(where, cause, self.schema()) from cause
