"""What files of records are read with: lines, JSON values and CSV rows, each fault told with its line or byte."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, ParamSpec, TypeVar

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LONGEST_CELL = 1 << 28
"""Characters of one CSV cell; beyond it a quotation mark is missing rather than a document long."""
_JSON_PART = 1 << 16
_LONGEST_ITEM = 1 << 28
"""Characters of a JSON list's item; beyond it a bracket is missing rather than an item long."""
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")

P = ParamSpec("P")
T = TypeVar("T")


class BadRecordError(ValueError):
    """What is wrong with a record or a file; its place is added where it is reported."""


@contextmanager
def readable() -> Iterator[None]:
    """Turn what goes wrong with a file itself within the block into a `BadRecordError`."""
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BadRecordError(f"the compressed file is damaged or cut short ({error}); pack it again") from None
    except OSError as error:
        raise BadRecordError(f"the file cannot be read ({error.strerror or error})") from None


def unpacked(path: Path, stream: BinaryIO) -> BinaryIO:
    """Return the stream of the file's content: unpacked when its name ends in .gz."""
    return io.BufferedReader(gzip.GzipFile(fileobj=stream)) if path.suffix.lower() == ".gz" else stream


class Line(NamedTuple):
    """A line's number from 1, the offset of its first byte in the file, and its bytes."""

    number: int
    offset: int
    content: bytes


def lines_of(stream: BinaryIO) -> Iterator[Line]:
    """Yield the lines of a stream; a byte order mark at the start is dropped."""
    offset = 0
    for number, line in enumerate(stream, start=1):
        dropped = len(BYTE_ORDER_MARK) if number == 1 and line.startswith(BYTE_ORDER_MARK) else 0
        yield Line(number, offset + dropped, line[dropped:])
        offset += len(line)


def attempt(read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | BadRecordError:
    """Return what `read` returns, or the problem that it raises."""
    try:
        return read(*args, **kwargs)
    except BadRecordError as problem:
        return problem


def decoded(content: bytes, offset: int) -> str:
    """Return the content as text; `offset` is its first byte's place in the file."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        encoding = "UTF-16" if offset == 0 and content[:2] in (b"\xff\xfe", b"\xfe\xff") else "another encoding"
        raise BadRecordError(
            f"not UTF-8: byte 0x{content[error.start]:02x} at offset {offset + error.start} of the file, "
            f"probably {encoding}; save the file as UTF-8"
        ) from None


def json_value(content: bytes, offset: int = 0) -> Any:  # noqa: ANN401 - any JSON value
    """Return the value of a JSON text; `offset` is its first byte's place in the file."""
    text = decoded(content, offset).rstrip()
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}" if "\n" in text else f"column {error.colno}"
        found = f"at {text[error.pos :]!r:.40}" if text[error.pos :] else "where the text ends"
        raise BadRecordError(f"not JSON: {error.msg}, {where}, {found}") from None
    except (ValueError, RecursionError) as error:
        raise BadRecordError(f"JSON that cannot be read ({error})") from None


def csv_rows(stream: BinaryIO, separator: str) -> Iterator[tuple[int, list[str] | BadRecordError]]:
    """Yield the number of each row's first line with its cells, or with what is wrong with it."""
    csv.field_size_limit(_LONGEST_CELL)
    lines: list[Line] = []  # of the row that is being read
    reader = csv.reader(_noted(lines_of(stream), lines), delimiter=separator, strict=True)
    while (cells := attempt(_next_row, reader, lines)) is not None:
        yield lines[0].number, cells


def _noted(lines: Iterator[Line], note: list[Line]) -> Iterator[str]:
    """Yield the lines as text, each noted; bytes that are not UTF-8 pass as escapes, reported with their record."""
    for line in lines:
        note.append(line)
        yield line.content.decode(errors="surrogateescape")


def _next_row(reader: Iterator[list[str]], lines: list[Line]) -> list[str] | None:
    """Return the next row's cells, None at the end; `lines` then holds the lines that it came from."""
    lines.clear()
    try:
        cells = next(reader, None)
    except csv.Error as error:
        raise BadRecordError(
            f"not CSV ({error}); a cell with quotation marks, separators or line breaks must stand in quotation "
            f'marks, with each one inside doubled ("")'
        ) from None
    if any(map(_ESCAPED_BYTE.search, cells or ())):
        for line in lines:
            decoded(line.content, line.offset)
    return cells


def json_items(stream: BinaryIO) -> Iterator[tuple[int, Any]]:
    """Yield the first line of each item of a JSON list with its value; the last one may be a `BadRecordError`.

    A JSON text that is no list is its own only item. Memory holds one item at a time.
    """
    window = _Window(stream)
    try:
        if not window.take("["):
            yield window.line, window.value()
        elif not window.take("]"):
            yield window.line, window.value()
            while window.take(","):
                yield window.line, window.value()
            window.close_list()
        window.end()
    except BadRecordError as problem:
        yield window.line, problem
    except UnicodeDecodeError as error:
        yield window.line, BadRecordError(f"not UTF-8 from here on ({error.reason}); save the file as UTF-8")


class _Window:
    """A moving part of a JSON text that is read as it is needed; `line` is where it begins."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._more = True
        self._text = ""
        self.line = 1

    def take(self, sign: str) -> bool:
        """Pass blanks, and the sign where it comes next; tell whether it did."""
        self._pass_blanks()
        if found := self._text.startswith(sign):
            self._text = self._text[1:]
            self._pass_blanks()
        return found

    def close_list(self) -> None:
        """Pass the bracket that ends the list."""
        if not self.take("]"):
            raise BadRecordError(f"not JSON: a comma or the end of the list is missing, at {self._text!r:.40}")

    def end(self) -> None:
        """Make sure that nothing follows."""
        self._pass_blanks()
        if self._text:
            raise BadRecordError(f"not JSON: more text after its end, at {self._text!r:.40}")

    def value(self) -> Any:  # noqa: ANN401 - any JSON value
        """Return the value that comes next, and pass it; reads on, twice as much each time, until it is whole."""
        self._pass_blanks()
        while True:
            try:
                value, end = json.JSONDecoder().raw_decode(self._text)
            except json.JSONDecodeError as error:
                if not self._read():
                    line, rest = self.line + error.lineno - 1, self._text[error.pos :]
                    raise BadRecordError(f"not JSON: {error.msg}, line {line}, at {rest!r:.40}") from None
            except (ValueError, RecursionError) as error:
                raise BadRecordError(f"JSON that cannot be read ({error})") from None
            else:
                # A number at the end of what has been read may go on.
                if end < len(self._text) or not self._read():
                    self._pass(end)
                    return value

    def _pass_blanks(self) -> None:
        while True:
            self._pass(len(self._text) - len(self._text.lstrip()))
            if self._text or not self._read():
                return

    def _pass(self, end: int) -> None:
        self.line += self._text.count("\n", 0, end)
        self._text = self._text[end:]

    def _read(self) -> bool:
        """Read on, as much again as there is; tell whether there was more."""
        if self._more and len(self._text) < _LONGEST_ITEM:
            part = self._source.read(max(len(self._text), _JSON_PART))
            self._text += self._decoder.decode(part, final=not part)
            self._more = bool(part)
            return self._more
        return False
