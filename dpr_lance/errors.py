"""The errors that this library raises on purpose, all of them `DprLanceError`s.

Each message names the problem, the value, the place and the remedy.
"""

from __future__ import annotations

from typing import Any


class DprLanceError(Exception):
    """The base of the library's errors."""


class InvalidInputError(DprLanceError, ValueError):
    """A document, question, argument, filter or path that cannot be used; the message names it."""


class EncoderError(DprLanceError, RuntimeError):
    """An encoder that cannot be found, is incomplete or damaged, or fails on its input."""


class EncoderMismatchError(EncoderError):
    """An encoder other than the one that made the table's vectors."""


class ReaderError(DprLanceError, RuntimeError):
    """A reader or another re-ranker that cannot be found, is incomplete or damaged, or fails on its input."""


class TableError(DprLanceError, RuntimeError):
    """A table that was not made by dpr_lance, does not exist yet, is damaged, or has a newer format."""


class DamagedTableError(TableError):
    """A table whose files are missing, damaged or inconsistent; the message names the file and the remedy."""


class StorageError(DprLanceError, OSError):
    """The disk is full, or files may not be read or written; the message says what is kept and what to do."""


class LockedError(DprLanceError, TimeoutError):
    """Another process is changing the table."""


class MissingExtraError(DprLanceError, ImportError):
    """Optional packages are needed; the message gives the command that installs them."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs packages that are not installed: pip install 'dpr-lance[{extra}]'")
        self.feature = feature
        self.extra = extra

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.feature, self.extra), vars(self)


def is_panic(error: BaseException) -> bool:
    """Return whether an error is a panic of a package written in Rust, which is not an `Exception`."""
    return type(error).__name__ in ("PanicException", "RustPanic")
