"""Where the command line writes: results on standard output, messages and progress on standard error."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TextIO, TypeVar

from rich.console import Console
from rich.progress import Progress, ProgressColumn
from rich.table import Table

from dpr_lance.records.json_form import json_text

T = TypeVar("T")

PIPE_WIDTH = 120
"""Columns of a table that does not go to a terminal."""

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
"""Control characters, which a stored text must not send to a terminal, and line breaks."""

_HINTS = (
    ("pass on_error='skip'", "pass --on-error skip"),
    ("with max_document_bytes", "with --max-document-bytes"),
    ("call embed()", "run `dpr-lance embed`"),
    ("connect with encoder=None for its own", "leave --encoder out for its own"),
    ("pass it again, connect(..., encoder=...)", "it can be used from Python alone"),
    ("choose another name with table=...", "choose another name with --table"),
    ("pass overwrite=True", "pass --overwrite"),
    ("tables() lists", "`dpr-lance tables` lists"),
    ("optimize(rebuild=True)", "`dpr-lance optimize --rebuild`"),
    ("reembed() with", "`dpr-lance reembed` with"),
    ("pass it as splitter=..., or", "name it with --splitter, or"),
    ("rerank=True: ", "--rerank: "),
    ("True for the packaged reader, False for none,", "--rerank for the packaged reader, or --reranker with"),
    (", a bundle folder, or an object with a method score(question, passages)", " or a bundle folder"),
)
"""Advice in error messages: in Python, and on the command line."""


def for_command_line(message: str) -> str:
    """Return a message of the library with its advice in terms of commands and options."""
    for python, option in _HINTS:
        message = message.replace(python, option)
    return message


def print_text(text: str) -> None:
    """Write a line to standard output."""
    print(text)  # noqa: T201


def say(message: str) -> None:
    """Write a message for people to standard error."""
    print("\n".join(map(one_line, for_command_line(message).split("\n"))), file=sys.stderr, flush=True)  # noqa: T201


class _LogHandler(logging.Handler):
    """Writes the library's log records for people."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"{record.levelname.lower()}: {record.getMessage()}")


def show_log() -> None:
    """Write the library's log, for example that it waits for a lock, to standard error from now on."""
    log = logging.getLogger("dpr_lance")
    if not any(isinstance(handler, _LogHandler) for handler in log.handlers):
        log.addHandler(_LogHandler())
        log.propagate = False


def print_json(value: Any, stream: TextIO | None = None) -> None:  # noqa: ANN401 - dataclasses and JSON values
    """Write one JSON object on a line of its own (standard output by default) and flush it."""
    text = json_text(value)
    # A lone surrogate (an argument that is not UTF-8) is written as its escape.
    print(text.encode(errors="backslashreplace").decode(), file=stream or sys.stdout, flush=True)


def print_failure(message: str, hints: Sequence[str] = (), *, as_json: bool) -> None:
    """Write what went wrong, and what to do about it, to standard error."""
    if as_json:
        print_json({"error": for_command_line(message)} | ({"hint": "; ".join(hints)} if hints else {}), sys.stderr)
    else:
        say("\n".join([f"error: {message}", *(f"hint: {hint}" for hint in hints)]))


def print_facts(facts: Mapping[str, object]) -> None:
    """Write names and values in two columns to standard output; None is shown as a dash."""
    width = max(map(len, facts))
    for name, value in facts.items():
        for number, line in enumerate(_shown(value)):
            print_text(f"{'' if number else name:<{width}}   {line}")


def print_result(value: T, facts: Callable[[T], Mapping[str, object]], *, as_json: bool) -> None:
    """Write a result to standard output: as JSON, or as the names and values that `facts` makes of it."""
    if as_json:
        print_json(value)
    else:
        print_facts(facts(value))


def print_table(table: Table) -> None:
    """Write a table to standard output, without spaces at the ends of its lines."""
    out = console_on(sys.stdout)
    with out.capture() as captured:
        out.print(table)
    print_text("\n".join(line.rstrip() for line in captured.get().splitlines()))


def plain_table() -> Table:
    """Return an empty table without lines around its cells."""
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_edge=False)


def progress_bar(*columns: ProgressColumn) -> Progress:
    """Return a progress display on standard error, which shows nothing where that is not a terminal."""
    return Progress(*columns, console=console_on(sys.stderr), transient=True, disable=not sys.stderr.isatty())


def console_on(stream: TextIO) -> Console:
    """Return a console that writes plain text as it is: no markup, no emoji codes, no guessed colours."""
    width = None if stream.isatty() else PIPE_WIDTH
    return Console(file=stream, width=width, markup=False, emoji=False, highlight=False)


def one_line(text: str) -> str:
    """Return a text without line breaks, and without characters that would drive a terminal."""
    return _UNPRINTABLE.sub(" ", text)


def _shown(value: object) -> list[str]:
    if value is None:
        return ["–"]
    if isinstance(value, bool):
        return ["yes" if value else "no"]
    if isinstance(value, int):
        return [f"{value:,}"]
    if isinstance(value, float):
        return [f"{value:,.2f}" if abs(value) >= 1 else f"{value:.3g}"]
    if isinstance(value, Mapping):
        value = [f"{name} ({kind})" for name, kind in value.items()]
    lines = [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value) or ["none"]
    return [one_line(str(line)) for line in lines]
