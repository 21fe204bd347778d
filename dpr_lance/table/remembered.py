"""The small table next to the passages: what changes after creation (calibration, cards, training), as JSON by key."""

from __future__ import annotations

import json
import shutil
import threading
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from lancedb.db import DBConnection
from lancedb.table import Table

from dpr_lance.errors import DamagedTableError
from dpr_lance.table.address import STATE_SUFFIX
from dpr_lance.table.contention import TableLock, committed, retry_on_conflict
from dpr_lance.table.engine_errors import errors_named, is_no_table
from dpr_lance.table.files import REBUILD, TableFiles
from dpr_lance.table.identity import Manifests, Mark
from dpr_lance.table.schema import PRIMARY_KEY, TableCard

CARD = "card"
"""Key of the `TableCard` that a re-embedding has put in force."""
NEXT_CARD = "next_card"
"""Key of the `TableCard` that a re-embedding under way is preparing."""

TABLE = "table"
"""Key of the unique name of the table of passages that the values belong to."""

SNAPSHOT = "snapshot:"
"""Prefix of the keys of snapshots: the version, and the values that the small table had then."""
RESTORING = "restoring"
"""Key of the snapshot's values while a snapshot is restored, or since a process died during that."""

_SCHEMA = pa.schema(
    [pa.field("key", pa.string(), nullable=False, metadata=PRIMARY_KEY), pa.field("value", pa.string())]
)

_MANY = 8
"""Versions at which the small table is compacted. Its readers retry where a version is freed."""
_AT_ONCE = timedelta(milliseconds=1)
_LOCK_TIMEOUT = 60.0
"""Seconds to wait for other writers of the small table, who take milliseconds."""

_NOTHING: dict[str, Any] = {}
_UNREAD: tuple[tuple[int, Mark], dict[str, Any]] = ((-1, None), _NOTHING)
"""The version and values that stand for "nothing was read yet"."""


class Remembered:
    """JSON objects by key, in the small table of a table of passages; shared by threads."""

    def __init__(self, database: DBConnection, table: str, folder: Path | None, place: str) -> None:
        self._database = database
        self.name = f"{table}{STATE_SUFFIX}"
        self.place = f"{place}, its small table {self.name!r}"
        """How error messages name the small table."""
        self.files = TableFiles(folder and folder / f"{self.name}.lance", self.place, derived=True)
        self._exists = False
        self._opening = threading.Lock()
        self._table: Table | None = None
        self._manifests = Manifests(self.files.folder)
        self._identity: str | None = None
        self._read = _UNREAD

    def create(self, identity: str | None) -> None:
        """Create the small table for a table of this unique name; what an earlier table left is removed."""
        with self._opening, errors_named(self.files):
            self._table, self._read = None, _UNREAD
            if self.files.folder is not None and self.files.folder.exists():
                shutil.rmtree(self.files.folder)
            self._database.create_table(self.name, schema=_SCHEMA, exist_ok=True)
        self.open(identity)
        self.keep()

    def open(self, identity: str | None) -> None:
        """Note that the table of passages with this unique name exists, and so the small table."""
        self._exists, self._identity = True, identity

    def is_lost(self) -> bool:
        """Tell whether the small table is missing although the table of passages exists."""
        return self._exists and self._opened() is None

    def values(self) -> dict[str, Any]:
        """Return the values by key; they are read again only when they have changed.

        Empty while the table does not exist, where the values belong to an earlier table in its place, and, with a
        warning, where the small table is missing. Raises `DamagedTableError` when it cannot be read.
        """
        stored = self._stored()
        return stored if self._is_of(stored) else _NOTHING

    def _stored(self) -> dict[str, Any]:
        table = self._opened() if self._exists else None
        if table is None:
            return _NOTHING
        with errors_named(self.files):
            version = int(table.version)
        revision = version, self._manifests.mark(version)
        if self._read[0] != revision:
            rows = retry_on_conflict(lambda table: table.to_arrow(), table, self.files)
            try:
                values = {row["key"]: json.loads(row["value"]) for row in rows.to_pylist()}
            except (ValueError, TypeError) as error:
                raise self._damaged(error) from error
            self._read = revision, {key: value for key, value in values.items() if value is not None}
        return self._read[1]

    def _is_of(self, stored: Mapping[str, Any]) -> bool:
        return bool(stored.get(TABLE, {}).get("id") == self._identity)

    def keep(self, patience: float = _LOCK_TIMEOUT, /, **values: Mapping[str, Any] | None) -> None:
        """Store JSON objects by key in one commit, replacing earlier ones; None removes one.

        Raises `LockedError` where other writers leave no moment within `patience` seconds.
        """
        stored = self._stored()
        if not self._is_of(stored):
            values = dict.fromkeys(stored) | {TABLE: {"id": self._identity}} | values
        rows = [{"key": key, "value": json.dumps(value)} for key, value in values.items()]
        values_by_key = pa.Table.from_pylist(rows, schema=_SCHEMA)

        def merge(table: Table) -> None:
            upsert = table.merge_insert("key").when_matched_update_all().when_not_matched_insert_all()
            upsert.execute(values_by_key)

        table = self._opened()
        if table is None:
            with errors_named(self.files):
                self._database.create_table(self.name, schema=_SCHEMA, exist_ok=True)
            table = self._opened()
        if rows:
            with self._lock(patience):
                committed(merge, partial(retry_on_conflict, table=table, files=self.files), self.files)

    def own_values(self) -> dict[str, Any]:
        """Return the values that belong to the latest version of the table of passages, and go with a snapshot."""
        apart = (TABLE, RESTORING, SNAPSHOT)
        return {name: value for name, value in self.values().items() if not name.startswith(apart)}

    def begin_restoring(self, version: int, values: Mapping[str, Any]) -> None:
        """Note the values that come into force when a version after this one is committed."""
        self.keep(**{RESTORING: {"after": version, "values": dict(values)}})

    def give_up_restoring(self) -> None:
        """Forget the noted values."""
        self.keep(**{RESTORING: None})

    def finish_restoring(self, version: int) -> None:
        """Put the values in force where restoring has committed a version, and forget them in any case."""
        begun = self.values().get(RESTORING)
        if begun is not None:
            changed = {**dict.fromkeys(self.own_values()), **begun["values"]} if version > begun["after"] else {}
            self.keep(**changed, **{RESTORING: None})

    def make_again(self, values: Mapping[str, Any]) -> None:
        """Replace a damaged or missing small table by a new one with these values."""
        if self.files.folder is None:
            with errors_named(self.files):
                self._database.drop_table(self.name, ignore_missing=True)
        self.create(self._identity)
        self.keep(**values)

    def _opened(self) -> Table | None:
        if self._table is None:
            with self._opening, errors_named(self.files):
                try:
                    self._table = self._database.open_table(self.name)
                except ValueError as error:
                    if not is_no_table(error):
                        raise
                    warnings.warn(
                        f"{self.place} is missing, and with it what calibrate() has chosen: {REBUILD}",
                        stacklevel=2,
                    )
        return self._table

    def _damaged(self, error: Exception) -> DamagedTableError:
        return DamagedTableError(f"{self.place} is damaged ({error}); {REBUILD}")

    def cards(self, schema: pa.Schema) -> list[TableCard]:
        """Return the card in force, and the one that a re-embedding is preparing, if any."""
        return self.cards_in(self.values(), schema)

    def cards_in(self, values: Mapping[str, Any], schema: pa.Schema) -> list[TableCard]:
        """Return the same from values that were read before.

        Where an earlier version was restored, the column of the card in force may be gone: the schema's card is used.
        """
        kept = self.card_in(values, CARD)
        if kept is None or kept.column not in schema.names:
            own = TableCard.from_schema(schema, place=self.place)
            kept = own if kept is None or own.column in schema.names else kept
        coming = self.card_in(values, NEXT_CARD)
        return [kept] if coming is None else [kept, coming]

    def card(self, key: str) -> TableCard | None:
        """Return the card kept under `key`; None when there is none."""
        return self.card_in(self.values(), key)

    def card_in(self, values: Mapping[str, Any], key: str) -> TableCard | None:
        """Return the card under `key` in values that were read before; None when there is none."""
        value = values.get(key)
        try:
            return None if value is None else TableCard.from_json(json.dumps(value), place=self.place)
        except DamagedTableError as error:
            raise self._damaged(error) from error

    def compact(self) -> None:
        """Merge the files of the small table and free its old versions, once there are many."""
        if (table := self._opened()) is not None:
            with self._lock():
                if len(retry_on_conflict(lambda opened: opened.list_versions(), table, self.files)) >= _MANY:
                    retry_on_conflict(lambda opened: opened.optimize(cleanup_older_than=_AT_ONCE), table, self.files)
                    self.files.record(prune=True)

    def _lock(self, patience: float = _LOCK_TIMEOUT) -> AbstractContextManager[object]:
        """Return the lock of the small table's writers: a clean-up must not overlap with one."""
        if self.files.folder is None:
            return nullcontext()
        return TableLock(self.files.folder.with_name(f".{self.name}.lock"), timeout=patience)
