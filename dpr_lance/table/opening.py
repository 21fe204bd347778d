"""LanceDB's handles of a table, and whether the table in its place is still the one that was opened."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

import lancedb
import pyarrow as pa
from lancedb.table import AsyncTable, Table

from dpr_lance.errors import DamagedTableError, TableError
from dpr_lance.table.consistency import coverage_in
from dpr_lance.table.contention import SupersededError
from dpr_lance.table.engine_errors import errors_named, is_no_table
from dpr_lance.table.files import RESTORE, TableFiles
from dpr_lance.table.identity import Manifests, Revision, identity_of
from dpr_lance.table.lancedb_internals import AsyncTables, start
from dpr_lance.table.remembered import Remembered
from dpr_lance.table.schema import TableCard

CACHE_BYTES = 320 << 20
"""Bound of LanceDB's caches for one database, a fifth of it for metadata. LanceDB's defaults are 6 GiB and 1 GiB."""

MOST_INDEXES = 8
"""Indexes in a table's caches before these are renewed: LanceDB keeps the files of old indexes open until then."""

_CREATION = {"new_table_enable_stable_row_ids": "true", "new_table_data_storage_version": "2.1"}
"""File format 2.2 decodes a column that is equal in all rows (no titles, one source) as a whole to take one row: 1.6 ms
for a million rows. 2.1 is as fast and as small otherwise."""


class Opening:
    """One table, opened lazily and shared by threads; where another takes its place, `again` opens that one."""

    def __init__(
        self,
        uri: str,
        folder: Path | None,
        name: str,
        storage_options: Mapping[str, str] | None,
        cache_bytes: int,
        files: TableFiles,
        number: int = 0,
    ) -> None:
        self._arguments = (uri, folder, name, storage_options, cache_bytes, files)
        self.name = name
        self._files = files
        self.place = files.place
        self.number = number
        self.index_cache_bytes = cache_bytes - cache_bytes // 5
        self.session = lancedb.Session(
            index_cache_size_bytes=self.index_cache_bytes, metadata_cache_size_bytes=cache_bytes // 5
        )
        # Interval zero: every read sees other processes' commits.
        with errors_named(files):
            self.database = lancedb.connect(
                uri,
                read_consistency_interval=timedelta(0),
                session=self.session,
                storage_options=dict(storage_options) if storage_options else None,
            )
        self.asynchronous = AsyncTables(uri, self.session, storage_options)
        self.remembered = Remembered(self.database, name, folder, self.place)
        self.folder = files.folder
        self.table: Table | None = None
        self._manifests = Manifests(self.folder)
        self._identity: str | None = None
        self._inode: tuple[int, int] | None = None
        self._seen: Revision | None = None
        self._lock = threading.Lock()
        self._indexes: set[str] = set()

    def again(self) -> Opening:
        """Return the table that has taken this one's place, with caches of its own."""
        other = Opening(*self._arguments, number=self.number + 1)
        if other.find() is None:
            raise self._removed()
        return other

    def is_worn(self, table: Table) -> bool:
        """Tell whether the caches hold too many indexes, the table's present one included."""
        coverage = coverage_in(table.list_indices())
        if coverage is not None:
            self._indexes.add(coverage["index"])
        return len(self._indexes) > MOST_INDEXES

    def renewed(self) -> Opening:
        """Return the same table with new caches."""
        other = Opening(*self._arguments, number=self.number)
        # Where another table has just taken the place, `find` must notice it by this one.
        return other if other.find() is not None and self.is_there() else self

    def find(self) -> Table | None:
        """Return the LanceDB table, None while there is none; raise `TableError` when it is not ours."""
        if self.table is None:
            with self._lock:
                if self.table is None and (table := self._found()) is not None:
                    with errors_named(self._files):
                        schema = table.schema
                        TableCard.from_schema(schema, place=self.place)
                        self._identity, self._inode = identity_of(schema), self._manifests.inode()
                        self._seen = self.revision(table)
                    self.remembered.open(self._identity)
                    self.table = table
        return self.table

    def create(self, schema: pa.Schema, prepare: Callable[[Table], None]) -> None:
        """Create the table, and let `prepare` build what it needs."""
        # The small table first: whenever a process dies, it is there if the passages are.
        self.remembered.create(identity_of(schema))
        with errors_named(self._files):
            prepare(self.database.create_table(self.name, schema=schema, storage_options=_CREATION))
        self._files.record()

    def revision(self, table: Table) -> Revision:
        """Return the latest version; raise `SupersededError` when it is another table's."""
        if self.folder is not None:
            version = int(table.version)
            return Revision(self.number, version, self._manifests.mark(version))
        # In an object store the name in the schema is read at the same time, which takes no longer.
        version, schema = start(_version_and_schema(self.asynchronous.of(table))).result()
        found = Revision(self.number, version, identity_of(schema))
        if found.mark != self._identity:
            self._seen = None
            raise SupersededError(f"{self.place} is another table now")
        return found

    def latest(self) -> Table:
        """Return the table opened again; raise `SupersededError` when it was removed meanwhile."""
        try:
            return self.database.open_table(self.name)
        except ValueError as error:
            raise SupersededError(f"{self.place} was removed while it was read") from error

    def note(self, revision: Revision) -> None:
        """Note a version that was opened; raise `SupersededError` when another table took the place meanwhile."""
        if not self.is_there() or (self.folder is not None and self._manifests.mark(revision.version) != revision.mark):
            raise SupersededError(f"{self.place} was replaced while it was read")
        self._seen = revision

    def is_there(self) -> bool:
        """Tell whether the table is certainly still there, by the file of the version that was seen last."""
        seen = self._seen
        if self.folder is None or self.table is None:
            return seen is not None
        if seen is None or seen.mark is None:
            return self.folder.exists()
        return self._manifests.mark(seen.version) == seen.mark

    def goes_on(self) -> bool:
        """Tell whether the table is still there although `is_there` is not sure: its version may have been freed.

        Raises `TableError` when there is no table. A table without a unique name counts as another one.
        """
        latest, seen = self._found(), self._seen
        if latest is None:
            raise self._removed()
        if self.folder is None or seen is None or self._manifests.mark(seen.version) is not None:
            return False
        with errors_named(self._files):
            same = self._identity is not None and identity_of(latest.schema) == self._identity
            revision = self.revision(latest)
        if not same or self._manifests.inode() != self._inode or revision.version < seen.version:
            return False
        self._seen = revision
        return True

    def _removed(self) -> TableError:
        return TableError(f"{self.place} was removed after it was opened here: connect again")

    def _found(self) -> Table | None:
        with errors_named(self._files):
            try:
                return self.database.open_table(self.name)
            except ValueError as error:
                # The same error comes while another process is creating it: the folder is there, the version is not.
                if not is_no_table(error):
                    raise
        data = self.folder and self.folder / "data"
        if data and data.is_dir() and any(data.iterdir()):
            raise DamagedTableError(f"{self.place} has passages and no version of the table that lists them: {RESTORE}")
        return None


async def _version_and_schema(table: AsyncTable) -> tuple[int, pa.Schema]:
    version, schema = await asyncio.gather(table.version(), table.schema())
    return version, schema
