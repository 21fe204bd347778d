"""The table in its LanceDB database: open, create, look up, replace, delete, scan, and the small table beside it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import lancedb
import pyarrow as pa
from filelock import FileLock, Timeout
from lancedb.expr import Expr, col
from lancedb.table import Table

from dpr_lance.errors import InvalidInputError, LockedError, TableError
from dpr_lance.schema import CONTENT, DOCUMENT_ID, EMBEDDED, ID, PRIMARY_KEY, TableCard, is_vector_column

INDEX_CACHE_BYTES = 256 << 20
METADATA_CACHE_BYTES = 64 << 20
"""Bounds of LanceDB's caches for one database; its own defaults are 6 GiB and 1 GiB."""

CREATE_TIMEOUT = 60.0
"""Seconds to wait for another process that is creating the same table."""

STATE_SUFFIX = "_dpr_lance"
"""The small table beside `passages` is `passages_dpr_lance`: what changes after creation, as JSON by key."""

CARD = "card"
"""Key of the `TableCard` that a re-embedding has put in force."""

_STATE_SCHEMA = pa.schema(
    [pa.field("key", pa.string(), nullable=False, metadata=PRIMARY_KEY), pa.field("value", pa.string())]
)
_SCAN_ROWS = 4096


class Store:
    """One table of passages, opened lazily and shared by threads; it may not exist yet (see `create`)."""

    def __init__(
        self, uri: str | os.PathLike[str], name: str, storage_options: Mapping[str, str] | None = None
    ) -> None:
        self.uri, self.folder = _checked_uri(uri)
        self.name = name
        session = lancedb.Session(
            index_cache_size_bytes=INDEX_CACHE_BYTES, metadata_cache_size_bytes=METADATA_CACHE_BYTES
        )
        # Interval zero: every read sees what other processes have committed.
        self._database = lancedb.connect(
            self.uri,
            read_consistency_interval=timedelta(0),
            session=session,
            storage_options=dict(storage_options) if storage_options else None,
        )
        self._process = os.getpid()
        self._opening = threading.Lock()
        self._table: Table | None = None
        self._state_table: Table | None = None
        self._state: tuple[int, dict[str, Any]] = (-1, {})
        self._card: TableCard | None = None

    @property
    def place(self) -> str:
        """How error messages name this table."""
        return f"table {self.name!r} in {self.uri}"

    def find(self) -> Table | None:
        """Return the LanceDB table, or None while it does not exist; raise `TableError` when it is not ours.

        A process that was forked from the one that opened it is refused: LanceDB's threads did not come along, and a
        call would wait for them forever.
        """
        if os.getpid() != self._process:
            raise TableError(
                f"{self.place} was opened before this process was forked: connect again here, or use spawn"
            )
        if self._table is None:
            with self._opening:
                if self._table is None and (table := self._opened()) is not None:
                    self._card = TableCard.from_schema(table.schema, place=self.place)
                    self._state_table = self._database.open_table(self._state_name)
                    self._table = table
        return self._table

    @property
    def table(self) -> Table:
        """The LanceDB table; raises `TableError` while it does not exist."""
        table = self.find()
        if table is None:
            raise TableError(f"{self.place} does not exist yet: add documents first")
        return table

    def find_card(self) -> TableCard | None:
        """Return what the table says of its encoder, its vectors and its splitter; None while it does not exist.

        A re-embedding puts a newer card beside the one in the schema.
        """
        return self.remembered_card(CARD) or self._card

    @property
    def card(self) -> TableCard:
        """What the table says of its encoder, its vectors and its splitter; raises `TableError` while there is none."""
        card = self.find_card()
        if card is None:
            raise TableError(f"{self.place} does not exist yet: add documents first")
        return card

    def create(self, schema: pa.Schema, prepare: Callable[[Table], None]) -> None:
        """Create the table, and let `prepare` build what it needs, unless another thread or process has done so."""
        with self.lock(timeout=CREATE_TIMEOUT):
            if self.find() is None:
                # The state first: where the table is, its state is too, whenever a process dies.
                self._database.create_table(self._state_name, schema=_STATE_SCHEMA, exist_ok=True)
                stable = {"new_table_enable_stable_row_ids": "true"}
                prepare(self._database.create_table(self.name, schema=schema, storage_options=stable))
        self.find()

    def lock(self, *, timeout: float, purpose: str = "indexes") -> FileLock | _NoLock:
        """Return the lock under which one process at a time creates the table, changes its indexes, or re-embeds it.

        It is a file beside a local table; for object stores and memory there is none. Entering raises `LockedError`.
        """
        if self.folder is None:
            return _NoLock()
        self.folder.mkdir(parents=True, exist_ok=True)
        return _TableLock(self.folder / f".{self.name}.{purpose}.lock", timeout=timeout)

    def remembered_card(self, key: str) -> TableCard | None:
        """Return the card kept under `key` beside the table; None when there is none."""
        value = self.state().get(key)
        return None if value is None else TableCard.from_json(json.dumps(value), place=self.place)

    def add_columns(self, fields: Iterable[pa.Field]) -> None:
        """Add metadata columns that the table does not have yet; stored passages get null there."""
        new = [field for field in fields if field.name not in self.table.schema.names]
        if new:
            self.table.add_columns(pa.schema(new))

    def drop_columns(self, names: Iterable[str]) -> None:
        """Drop those of these columns that are there, and the indexes on them."""
        present = [name for name in names if name in self.table.schema.names]
        if present:
            self.table.drop_columns(present)

    def replace(self, rows: pa.Table, document_ids: Sequence[str]) -> None:
        """Make `rows` all that the table holds of these documents, in one commit.

        A reader sees the old passages or the new ones, never a mix. Rows must be unique by id.
        """
        merge = self.table.merge_insert(ID).when_matched_update_all().when_not_matched_insert_all()
        merge = merge.when_not_matched_by_source_delete(among(DOCUMENT_ID, document_ids))
        # "null" lets passages without a vector through; vectors are checked to be finite before they come here.
        merge.execute(rows, on_bad_vectors="null")

    def set_vectors(self, rows: pa.Table) -> int:
        """Store the vectors of `rows` (id, content hash, vector column) where both still match; return how many did."""
        merge = self.table.merge_insert([ID, "content_hash"]).when_matched_update_all()
        return int(merge.execute(rows).num_updated_rows)

    def delete(self, where: Expr | str) -> int:
        """Delete the passages that match; return how many."""
        return int(self.table.delete(where if isinstance(where, str) else where.to_sql()).num_deleted_rows)

    def select(
        self, columns: Sequence[str] | Mapping[str, str], where: Expr | str | None, *, limit: int | None = None
    ) -> pa.Table:
        """Return these columns (names, or SQL expressions by name) of the passages that match."""
        search = self.table.search().select(dict(columns) if isinstance(columns, Mapping) else list(columns))
        return (search if where is None else search.where(where)).limit(limit).to_arrow()

    def row_ids(self, where: str, *, limit: int) -> list[int]:
        """Return the stable row ids of up to `limit` passages that match."""
        found = self.table.search().where(where).with_row_id(True).select([ID]).limit(limit).to_arrow()
        return list(found["_rowid"].to_pylist())

    def take(self, row_ids: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """Return `_rowid` and these columns of these rows, in no certain order; rows deleted meanwhile are missing."""
        return self.table.take_row_ids(sorted(row_ids)).with_row_id().select(list(columns)).to_arrow()

    def scan(self, where: Expr | str | None = None) -> Iterator[pa.RecordBatch]:
        """Yield all passages that match, in batches, with `_embedded` in place of the vector."""
        search = self.table.search().select(self.passage_columns())
        yield from (search if where is None else search.where(where)).limit(None).to_batches(_SCAN_ROWS)

    def passage_columns(self) -> dict[str, str]:
        """Return the columns that make a `Passage`, as expressions by name."""
        names = [
            name
            for name in self.table.schema.names
            if name not in (CONTENT, "content_hash", "document_hash") and not is_vector_column(name)
        ]
        return {name: f"`{name}`" for name in names} | {EMBEDDED: self.card.embedded}

    def count(self, where: Expr | str | None = None) -> int:
        """Return how many passages match; 0 while the table does not exist."""
        table = self.find()
        return 0 if table is None else int(table.count_rows(where.to_sql() if isinstance(where, Expr) else where))

    def check_filter(self, where: Expr | str) -> None:
        """Raise `InvalidInputError` that names the filter, and what is wrong with it, when LanceDB cannot use it."""
        try:
            self.table.search().where(where).select([ID]).limit(1).to_arrow()
        except (ValueError, RuntimeError, TypeError) as error:
            shown = where.to_sql() if isinstance(where, Expr) else where
            raise InvalidInputError(f"where={shown!r} cannot be used: {error}") from error

    def state(self) -> dict[str, Any]:
        """Return what is remembered beside the table, by key; read again only when it has changed."""
        if self.find() is None or self._state_table is None:
            return {}
        version = self._state_table.version
        if self._state[0] != version:
            rows = self._state_table.to_arrow().to_pylist()
            self._state = (version, {row["key"]: json.loads(row["value"]) for row in rows})
        return self._state[1]

    def remember(self, **values: Mapping[str, Any] | None) -> None:
        """Keep JSON objects by key beside the table, in place of earlier ones, in one commit; None forgets."""
        rows = [{"key": key, "value": json.dumps(value)} for key, value in values.items()]
        table = self._database.open_table(self._state_name)
        merge = table.merge_insert("key").when_matched_update_all().when_not_matched_insert_all()
        merge.execute(pa.Table.from_pylist(rows, schema=_STATE_SCHEMA))

    def bytes_on_disk(self) -> int | None:
        """Return the size of the table's files, old versions included; None where it is not a local folder."""
        if self.folder is None:
            return None
        files = [path for path in (self.folder / f"{self.name}.lance").rglob("*") if path.is_file()]
        return sum(path.stat().st_size for path in files)

    @property
    def _state_name(self) -> str:
        return f"{self.name}{STATE_SUFFIX}"

    def _opened(self) -> Table | None:
        try:
            return self._database.open_table(self.name)
        except ValueError as error:
            # So it is too while another process is creating it: its folder is there, its first version is not.
            if "was not found" in str(error):
                return None
            raise


def among(column: str, values: Iterable[str | int]) -> Expr:
    """Return the filter that a column's value is one of these; values are quoted by LanceDB, not by us."""
    return col(column).isin(list(values))


class _NoLock:
    """Stands where no file lock is possible: LanceDB's own commits keep the table whole there."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


class _TableLock(FileLock):
    """A file lock that raises `LockedError`, naming its file, when its time is over."""

    def __enter__(self) -> _TableLock:
        try:
            super().__enter__()
        except Timeout as error:
            raise LockedError(
                f"{self.lock_file} is held: another process is at work on this table; try again when it is done"
            ) from error
        return self


def _checked_uri(uri: str | os.PathLike[str]) -> tuple[str, Path | None]:
    """Return what LanceDB is given and the local folder, if it is one; raise for a path that cannot be ours."""
    if isinstance(uri, str) and ("://" in uri):
        return uri, None
    if not isinstance(uri, (str, os.PathLike)) or not os.fspath(uri):
        raise InvalidInputError(f"connect({uri!r}): give a folder, 'memory://', or an object store's address")
    folder = Path(uri).expanduser().absolute()
    if folder.is_file():
        raise InvalidInputError(
            f"connect({str(folder)!r}): that is a file; give a folder, which is created when missing"
        )
    if folder.is_dir():
        names = [path.name for path in folder.iterdir()]
        if any(not name.startswith(".") for name in names) and not any(name.endswith(".lance") for name in names):
            example = next(name for name in sorted(names) if not name.startswith("."))
            raise InvalidInputError(
                f"connect({str(folder)!r}): that folder holds other things ({example!r}, …) and no LanceDB table; "
                f"give an empty or a new folder"
            )
    return str(folder), folder
