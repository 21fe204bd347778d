"""The tables of a folder or an object store: which there are, and dropping one with what lies next to it."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path

import lancedb
from lancedb.db import DBConnection

from dpr_lance.checks import checked_storage_options
from dpr_lance.errors import DamagedTableError, TableError
from dpr_lance.table.address import DEFAULT_TABLE, STATE_SUFFIX, checked_address, checked_table, local_folder
from dpr_lance.table.contention import TableLock
from dpr_lance.table.engine_errors import errors_named, is_no_table, storage_named
from dpr_lance.table.files import TableFiles
from dpr_lance.table.forks import check_process, note_use
from dpr_lance.table.schema import TableCard

DROP_TIMEOUT = 60.0
"""Seconds to wait for other processes that are at work on a table."""

_LOCKS = ("reembed", "indexes", "write")
_DROPPED = ".dropped-"
"""In the name of a folder that was a table, until its files are removed."""


def tables(uri: str | os.PathLike[str], *, storage_options: Mapping[str, str] | None = None) -> list[str]:
    """Return the names of the tables that dpr_lance has made in a folder or an object store, sorted.

    Tables of other programs are left out, and a folder that does not exist has none.

        for name in dpr_lance.tables("wiki.lance"):
            print(len(dpr_lance.connect("wiki.lance", table=name)))
    """
    folder, options = local_folder(uri), checked_storage_options(storage_options)
    if folder is not None and not folder.is_dir():
        checked_address(uri, DEFAULT_TABLE)  # a file, or what else is wrong
        return []
    database, place = _database(uri, folder, options), str(folder or uri)
    with errors_named(TableFiles(None, place)):
        names = _names(database)
    own = [name for name in names if not name.endswith(STATE_SUFFIX)]
    return [name for name in own if _is_broken(database, name, names) or _is_ours(database, name, place)]


def drop(
    uri: str | os.PathLike[str], table: str = DEFAULT_TABLE, *, storage_options: Mapping[str, str] | None = None
) -> None:
    """Drop a table with its snapshots and all that dpr_lance keeps next to it; nothing brings it back.

    A local table is gone at once, before its files are removed: a process that dies meanwhile leaves none of it. Open
    retrievers raise `TableError` from then on.

    Raises `TableError` where there is no such table or another program made it, `LockedError` while another process
    maintains or re-embeds it.
    """
    folder, options = local_folder(uri), checked_storage_options(storage_options)
    checked_table(table)
    place = f"table {table!r} in {folder or uri}"
    if folder is not None and not folder.is_dir():
        checked_address(uri, table)
        raise _absent(place)
    database = _database(uri, folder, options)
    with errors_named(TableFiles(None, place)):
        names = _names(database)
    if table not in names and f"{table}{STATE_SUFFIX}" not in names:
        raise _absent(place)
    if table in names and not _is_broken(database, table, names):
        _check_ours(database, table, place)
    if folder is None:
        with errors_named(TableFiles(None, place)):
            database.drop_table(table, ignore_missing=True)
            database.drop_table(f"{table}{STATE_SUFFIX}", ignore_missing=True)
    else:
        with storage_named(place):
            drop_folders(folder, table)


def drop_folders(folder: Path, table: str, timeout: float = DROP_TIMEOUT) -> None:
    """Remove the folders and locks of a local table and of its small table, when no other process is at work on it."""
    locks = [TableLock(folder / f".{table}.{purpose}.lock", timeout=timeout) for purpose in _LOCKS]
    with locks[0], locks[1], locks[2]:
        # The passages first: without them the small table is removed when a table is made here.
        for name in (table, f"{table}{STATE_SUFFIX}"):
            if (path := folder / f"{name}.lance").exists():
                path.rename(folder / f".{name}{_DROPPED}{uuid.uuid4().hex}")
        for left in [*folder.glob(f".{table}{_DROPPED}*"), *folder.glob(f".{table}{STATE_SUFFIX}{_DROPPED}*")]:
            shutil.rmtree(left)
        (folder / f".{table}{STATE_SUFFIX}.lock").unlink(missing_ok=True)
        for lock in locks:
            Path(lock.lock_file).unlink(missing_ok=True)


def _database(uri: str | os.PathLike[str], folder: Path | None, options: dict[str, str] | None) -> DBConnection:
    place = str(folder or uri)
    check_process(place)
    note_use()
    with errors_named(TableFiles(None, place)):
        return lancedb.connect(str(folder or uri), storage_options=options)


def _names(database: DBConnection) -> list[str]:
    names: list[str] = []
    token: str | None = None
    while True:
        page = database.list_tables(page_token=token)
        names += page.tables
        token = page.page_token
        if not token:
            return sorted(names)


def _is_broken(database: DBConnection, name: str, names: Collection[str]) -> bool:
    """Tell whether a table cannot be opened that has our small table next to it."""
    if f"{name}{STATE_SUFFIX}" not in names:
        return False
    try:
        _check_ours(database, name, name)
    except DamagedTableError:
        return True
    except TableError:
        return False
    return False


def _check_ours(database: DBConnection, name: str, place: str) -> None:
    """Raise `TableError` for a table that another program made, `DamagedTableError` where it cannot be opened."""
    with errors_named(TableFiles(None, place)):
        try:
            schema = database.open_table(name).schema
        except ValueError as error:
            if not is_no_table(error):
                raise
            raise DamagedTableError(f"{place} has no version that can be read ({error})") from error
        TableCard.from_schema(schema, place=place)


def _is_ours(database: DBConnection, name: str, place: str) -> bool:
    try:
        _check_ours(database, name, f"table {name!r} in {place}")
    except TableError:
        return False
    return True


def _absent(place: str) -> TableError:
    return TableError(f"{place} does not exist: tables() lists those that do")
