"""What every command does around its work: open the table, read standard input, report what an interruption keeps."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import typer

from dpr_lance.errors import InvalidInputError
from dpr_lance.table.address import STATE_SUFFIX, local_folder, tables_in

if TYPE_CHECKING:
    from dpr_lance.retriever import Retriever
    from dpr_lance.text.language import Language

UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""Wrong options and arguments, as click (which typer may carry inside) reports them."""


class InterruptionError(Exception):
    """Ctrl-C; the message says what was kept."""


def unchanged() -> str:
    """Say that an interruption has changed nothing."""
    return "nothing was changed"


@contextmanager
def interruptible(kept: Callable[[], str] = unchanged) -> Iterator[None]:
    """Turn Ctrl-C within the block into an `InterruptionError` with the text that `kept` returns then."""
    try:
        yield
    except KeyboardInterrupt:
        raise InterruptionError(kept()) from None


@contextmanager
def opened(
    uri: str,
    table: str,
    *,
    kept: Callable[[], str] = unchanged,
    encoder: str | None = None,
    create: bool = False,
    language: Language | None = None,
) -> Iterator[Retriever]:
    """Open the table for one command; only with `create` it may be missing. `kept` as for `interruptible`.

    Raises `InvalidInputError` when there is no such table, and what `dpr_lance.connect` raises.
    """
    with interruptible(kept):
        if not create:
            _check_exists(uri, table)
        from dpr_lance.connection import connect

        with connect(uri, encoder=encoder, table=table, language=language) as retriever:
            yield retriever


def _check_exists(uri: str, table: str) -> None:
    """Raise `InvalidInputError` when nothing was added there: only `add` makes folders and tables."""
    folder = local_folder(uri)
    if folder is None:
        return
    tables = tables_in(folder)
    if tables is None or table in tables:
        return
    if folder.exists():
        names = [name for name in tables if not name.endswith(STATE_SUFFIX)]
        error = InvalidInputError(f"{uri}: there is no table {table!r} in this folder")
        error.add_note(f"it has {', '.join(names)}: choose with --table" if names else "`dpr-lance add` makes tables")
    else:
        error = InvalidInputError(f"{uri}: there is no such folder")
        error.add_note(f"dpr-lance add {shlex.quote(uri)} FILE... makes it")
    raise error


def is_piped(files: Sequence[Path]) -> bool:
    """Return whether documents come from standard input; raise when that is not possible."""
    dash = Path("-") in files
    if dash and len(files) > 1:
        raise UsageError("'-' (standard input) cannot be combined with files")
    if not files and sys.stdin.isatty():
        raise UsageError("name files or folders, or pipe JSON lines to standard input")
    return dash or not files


def piped_questions(stream: BinaryIO) -> Iterator[str]:
    """Yield the questions on standard input, one per line; blank lines are skipped."""
    for number, line in enumerate(stream, start=1):
        try:
            question = line.decode().strip()
        except UnicodeDecodeError as error:
            raise InvalidInputError(f"standard input:{number}: the question is not UTF-8 ({error.reason})") from None
        if question:
            yield question
