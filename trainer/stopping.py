"""SIGTERM and Ctrl-C during training: the step is finished and kept; a second signal ends the process at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Final

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Stopping:
    """Takes note of signals within a `with` block, in the main thread only."""

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stopping:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}
        if self.asked is not None and kind is None:  # the signal came after the last step
            signal.raise_signal(self.asked)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.asked = signal.Signals(number)
        signal.signal(number, self._before.get(self.asked) or signal.SIG_DFL)

    def stop(self, message: str) -> None:
        """Raise what ends the run: `KeyboardInterrupt` for Ctrl-C, else `SystemExit` with the signal's code."""
        if self.asked is signal.SIGINT:
            raise KeyboardInterrupt(message)
        raise SystemExit(128 + (self.asked or signal.SIGTERM))
