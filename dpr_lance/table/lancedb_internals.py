"""What LanceDB does not publish and this library uses, in this one place, with the public way where it is not there."""

from __future__ import annotations

import asyncio
import copy
import functools
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from datetime import timedelta
from typing import Any, TypeVar

import lancedb
import pyarrow as pa
from lancedb.db import AsyncConnection
from lancedb.table import AsyncTable, Table

from dpr_lance.errors import TableError

try:
    from lancedb.background_loop import LOOP as _LOOP
except ImportError:
    _LOOP = None

FUNCTIONS_KEY = b"embedding_functions"
"""LanceDB's key in the schema metadata of tables that it embeds questions and new rows for."""

T = TypeVar("T")


def start(read: Coroutine[Any, Any, T]) -> Future[T]:
    """Start a coroutine on LanceDB's event loop, or on one of our own where LanceDB has none; return its future."""
    loop = getattr(_LOOP, "loop", None)
    return asyncio.run_coroutine_threadsafe(read, _own_loop() if loop is None else loop)


@functools.cache
def _own_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="dpr_lance-reads", daemon=True).start()
    return loop


class AsyncTables:
    """The asynchronous tables of one database."""

    def __init__(self, uri: str, session: lancedb.Session, storage_options: Mapping[str, str] | None) -> None:
        self._uri = uri
        self._session = session
        self._storage_options = dict(storage_options) if storage_options else None
        self._database: AsyncConnection | None = None

    def of(self, table: Table, version: int | None = None) -> AsyncTable:
        """Return the asynchronous table of a synchronous one, which is checked out at `version`, if one is given.

        LanceDB's own is a shell around it: a query through the shell takes 0.5 ms of CPU more, of 1 to 2 ms.
        """
        inner = getattr(table, "_table", None)
        if isinstance(inner, AsyncTable):
            return inner
        # The public way opens the table once more: 0.5 ms of CPU for each version that is read. Queries take the same.
        if self._uri.startswith("memory://"):
            raise TableError(f"{table.name!r} in {self._uri} cannot be searched with this LanceDB: use a folder")
        return start(self._opened(table.name, version)).result()

    async def _opened(self, name: str, version: int | None) -> AsyncTable:
        if self._database is None:
            self._database = await lancedb.connect_async(
                self._uri,
                read_consistency_interval=timedelta(0),
                session=self._session,
                storage_options=self._storage_options,
            )
        table = await self._database.open_table(name)
        if version is not None:
            await table.checkout(version)
        return table


def without_functions(table: Table) -> Table:
    """Return the same table for writes in which LanceDB does not embed anything.

    In an adopted table it would do so for rows without a vector, and fail once a re-embedding has replaced the column.
    """
    inner = getattr(getattr(table, "_table", None), "_inner", None)
    if inner is None:
        return table
    plain = copy.copy(table)
    plain._table = _WithoutFunctions(inner)
    return plain


class _WithoutFunctions(AsyncTable):  # type: ignore[misc]
    async def schema(self) -> pa.Schema:
        schema = await super().schema()
        return schema.with_metadata(
            {key: kept for key, kept in (schema.metadata or {}).items() if key != FUNCTIONS_KEY}
        )


class Shutdown:
    """Equals the function that LanceDB runs at a process's end, which in a forked child waits forever for its threads.

    To be given to `atexit.unregister`, which does nothing where no function equals it.
    """

    __hash__ = None  # type: ignore[assignment]  # a set cannot hold what equals by name

    def __eq__(self, other: object) -> bool:
        name = getattr(other, "__module__", ""), getattr(other, "__name__", "")
        return name == ("lancedb._lancedb", "shutdown_runtime")
