"""The asynchronous writes of one retriever: in a thread of their own, in the order of the calls."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from dpr_lance.table.forks import is_cut_off

T = TypeVar("T")


class StoppedError(Exception):
    """A write whose caller no longer waits for it."""


class Stop:
    """Asks a write to stop; it looks now and then."""

    def __init__(self) -> None:
        self._asked = threading.Event()

    def ask(self) -> None:
        """Ask for it."""
        self._asked.set()

    def check(self) -> None:
        """Raise `StoppedError` where it was asked for."""
        if self._asked.is_set():
            raise StoppedError


class WriteQueue:
    """Runs one write at a time. The thread starts with the first one."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="dpr_lance-writes")

    async def run(self, write: Callable[[Stop], T]) -> T:
        """Return what `write` returns, after the writes that were called before.

        Where the caller is cancelled, a write that has not begun never does. One that has begun is asked to stop, and
        `CancelledError` is raised when it has ended.
        """
        stop = Stop()
        work = self._thread.submit(contextvars.copy_context().run, write, stop)
        try:
            return await asyncio.wrap_future(work)
        except asyncio.CancelledError:
            stop.ask()
            if not work.cancelled():
                await asyncio.wait([ended := asyncio.wrap_future(work)])
                ended.exception()  # looked at: it is the caller's no longer
            raise

    def close(self) -> None:
        """Let the write at work end; the others never begin."""
        if not is_cut_off():  # a forked child has no such thread
            self._thread.shutdown(cancel_futures=True)
