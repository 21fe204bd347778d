"""The table as it is at one moment, which is what a search reads; its reads go on side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

from lancedb.background_loop import LOOP
from lancedb.table import AsyncTable, Table

from dpr_lance.contention import SupersededError
from dpr_lance.schema import TableCard

T = TypeVar("T")


class Snapshot:
    """One version of the table, and what was remembered beside it then; shared by threads.

    Others may commit meanwhile: nothing of it is seen here. A clean-up may free the version, and reads fail then;
    `SupersededError` is raised where it has done so already. The table that is given is its own from then on.
    """

    def __init__(self, table: Table, version: int, card: TableCard, state: Mapping[str, Any], place: str) -> None:
        try:
            table.checkout(version)
        except ValueError as error:
            raise SupersededError(f"{place}: {error}") from error
        self.table = table
        """Checked out at the version."""
        self.version = version
        self.names: list[str] = table.schema.names
        self.card = card
        self.state = state
        self.place = place
        """How error messages name the table."""

    @property
    def reads(self) -> AsyncTable:
        """The asynchronous table that LanceDB's own is a shell around.

        It does not hand it out; a query through the shell takes half a millisecond of CPU more, of one or two.
        """
        return self.table._table

    def ask(self, read: Coroutine[Any, Any, T]) -> Future[T]:
        """Start to read, on LanceDB's event loop, and return where the answer will be."""
        return asyncio.run_coroutine_threadsafe(read, LOOP.loop)
