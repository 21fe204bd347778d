"""Readers of lines, JSON values and CSV rows that report each fault with its line or byte.

Only regular files are read, and at most `limit` bytes of a record; a longer record is a fault, and reading continues
after it.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, ParamSpec, TypeVar

MAX_DOCUMENT_BYTES = 64 << 20
"""Default limit of a record (a line, a row, an item of a list, or a text file)."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_PART = 1 << 16
_BLANKS = re.compile(r"\s*")
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")

P = ParamSpec("P")
T = TypeVar("T")


class BadRecordError(ValueError):
    """What is wrong with a record or a file, without its place."""


@contextmanager
def readable() -> Iterator[None]:
    """Turn faults of a file itself within the block into a `BadRecordError`."""
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BadRecordError(f"the compressed file is damaged or cut short ({error}); pack it again") from None
    except OSError as error:
        raise BadRecordError(f"the file cannot be read ({error.strerror or error})") from None


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading; raise `BadRecordError` for a pipe, a device or a folder, also behind a link."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BadRecordError("this is not a regular file but a folder, a pipe or a device")
    return os.fdopen(descriptor, "rb")


def unpacked(path: Path, stream: BinaryIO) -> BinaryIO:
    """Return the stream of the file's content, decompressed when its name ends in .gz."""
    return io.BufferedReader(gzip.GzipFile(fileobj=stream)) if path.suffix.lower() == ".gz" else stream


def too_long(limit: int) -> BadRecordError:
    """Return the error of a record of more than `limit` bytes."""
    return BadRecordError(
        f"longer than {limit:,} bytes, the most that one document may have; split it, or allow more with "
        f"max_document_bytes"
    )


def _skip_line(stream: BinaryIO) -> int:
    length = 0
    while part := stream.readline(_PART):
        length += len(part)
        if part.endswith(b"\n"):
            break
    return length


def bounded(stream: BinaryIO, limit: int) -> bytes:
    """Return all of a stream without its byte order mark; raise `BadRecordError` for more than `limit` bytes."""
    content = stream.read(limit + 1)
    if len(content) > limit:
        raise too_long(limit)
    return content.removeprefix(BYTE_ORDER_MARK)


def attempt(read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | BadRecordError:
    """Return what `read` returns, or the `BadRecordError` that it raises."""
    try:
        return read(*args, **kwargs)
    except BadRecordError as problem:
        return problem


def decoded(content: bytes, offset: int) -> str:
    """Return the content as text; `offset` is that of its first byte in the file."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise not_utf8(content, error.start, offset) from None


def not_utf8(content: bytes, at: int, offset: int) -> BadRecordError:
    """Return the error of the byte `at` of the content, which begins at `offset` of the file."""
    encoding = "UTF-16" if offset == 0 and content[:2] in (b"\xff\xfe", b"\xfe\xff") else "another encoding"
    return BadRecordError(
        f"not UTF-8: byte 0x{content[at]:02x} at offset {offset + at} of the file, "
        f"probably {encoding}; save the file as UTF-8"
    )


def json_value(content: bytes, offset: int = 0) -> Any:  # noqa: ANN401 - any JSON value
    """Return the value of a JSON text; `offset` is that of its first byte in the file."""
    text = decoded(content, offset).rstrip()
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}" if "\n" in text else f"column {error.colno}"
        found = f"at {text[error.pos :]!r:.40}" if text[error.pos :] else "where the text ends"
        raise BadRecordError(f"not JSON: {error.msg}, {where}, {found}") from None
    except (ValueError, RecursionError) as error:
        raise BadRecordError(f"JSON that cannot be read ({error})") from None


def json_lines(stream: BinaryIO, limit: int = MAX_DOCUMENT_BYTES) -> Iterator[tuple[int, Any]]:
    """Yield the number of each line that is not blank with its value, or with its `BadRecordError`."""
    offset, number = 0, 1
    while line := stream.readline(limit + 1):
        length = len(line)
        if length > limit and not line.endswith(b"\n"):
            yield number, too_long(limit)
            length += _skip_line(stream)
        else:
            content = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
            if content.strip():
                yield number, attempt(json_value, content, offset + length - len(content))
        offset += length
        number += 1


def csv_rows(
    stream: BinaryIO, separator: str, limit: int = MAX_DOCUMENT_BYTES
) -> Iterator[tuple[int, list[str] | BadRecordError]]:
    """Yield the number of each row's first line with its cells, or with its `BadRecordError`.

    After a bad row of several lines (an unclosed quotation mark), reading continues with its second line.
    """
    csv.field_size_limit(max(csv.field_size_limit(), limit + 1))
    lines = _RowLines(stream, limit)
    reader = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        lines.start_row()
        cells = attempt(_next_row, reader, lines)
        if cells is None:
            return
        yield lines.first_number, cells
        if isinstance(cells, BadRecordError):
            lines.go_back()
            reader = csv.reader(lines, delimiter=separator, strict=True)


class _RowLines(Iterator[str]):
    """The lines of a CSV file as text, with those of the current row, to go back to its second line.

    Bytes that are not UTF-8 become escapes, and are reported with their row.
    """

    def __init__(self, stream: BinaryIO, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._again = io.BytesIO()  # lines to read again
        self._number, self._offset = 1, 0  # of the line that comes next
        self._cut = False
        self.row = bytearray()
        self.first_number, self.first_offset, self._first_length = 1, 0, 0

    def start_row(self) -> None:
        """Begin a row with the next line."""
        self.row.clear()
        self.first_number, self.first_offset, self._first_length = self._number, self._offset, 0

    def __next__(self) -> str:
        line = self._again.readline()
        if not line.endswith(b"\n"):
            line += self._stream.readline(max(1, self._limit + 1 - len(line)))
        if not line:
            raise StopIteration
        if self._offset == 0 and line.startswith(BYTE_ORDER_MARK):
            self._offset = self.first_offset = len(BYTE_ORDER_MARK)
            line = line[len(BYTE_ORDER_MARK) :]
        self._first_length = self._first_length or len(line)
        self._cut = len(line) > self._limit and not line.endswith(b"\n")
        self._number += 1
        self._offset += len(line)
        self.row += line
        if self._cut or len(self.row) > self._limit:
            raise too_long(self._limit)
        return line.decode(errors="surrogateescape")

    def go_back(self) -> None:
        """Read the row's lines again from its second one on; skip the rest of a line that is too long."""
        if len(self.row) > self._first_length:
            self._again = io.BytesIO(bytes(self.row[self._first_length :]) + self._again.read())
            self._number, self._offset = self.first_number + 1, self.first_offset + self._first_length
        elif self._cut:
            self._offset += _skip_line(self._stream)


def _next_row(reader: Iterator[list[str]], lines: _RowLines) -> list[str] | None:
    try:
        cells = next(reader, None)
    except csv.Error as error:
        raise BadRecordError(
            f"not CSV ({error}); a cell with quotation marks, separators or line breaks must stand in quotation "
            f'marks, with each one inside doubled ("")'
        ) from None
    if any(map(_ESCAPED_BYTE.search, cells or ())):
        decoded(bytes(lines.row), lines.first_offset)
    return cells


def json_items(stream: BinaryIO, limit: int = MAX_DOCUMENT_BYTES) -> Iterator[tuple[int, Any]]:
    """Yield the first line of each item of a JSON list with its value; the last one may be a `BadRecordError`.

    A JSON text that is not a list is its own only item, a blank one has none. Memory holds one item at a time; after an
    item beyond the limit, or text that is not JSON, nothing is read.
    """
    window = _Window(stream, limit)
    try:
        if window.at_end():
            return
        if not window.take("["):
            yield window.line, window.value()
        elif not window.take("]"):
            yield window.line, window.value()
            while window.take(","):
                yield window.line, window.value()
            if not window.take("]"):
                raise window.problem("a comma or the end of the list is missing")
        if not window.at_end():
            raise window.problem("more text after its end")
    except BadRecordError as problem:
        yield window.line, problem


class _Window:
    """A moving part of a JSON text that is read on demand; `line` is that of the current place."""

    def __init__(self, source: BinaryIO, limit: int) -> None:
        self._source = source
        self._limit = limit
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._bytes = 0
        self._more = True
        self._text = ""
        self._at = 0
        self._column = 1  # of the window's first character
        self.line = 1

    def at_end(self) -> bool:
        """Skip blanks; tell whether nothing follows."""
        while True:
            found = _BLANKS.match(self._text, self._at)
            self._pass(found.end() if found else self._at)
            if self._at < len(self._text):
                return False
            if not self._read():
                return True

    def take(self, sign: str) -> bool:
        """Skip blanks, and the sign if it comes next; tell whether it did."""
        self.at_end()
        if found := self._text.startswith(sign, self._at):
            self._pass(self._at + 1)
            self.at_end()
        return found

    def problem(self, what: str, at: int | None = None) -> BadRecordError:
        """Return the error at the current place, or at another one in the window."""
        at = self._at if at is None else at
        line = self.line + self._text.count("\n", self._at, at)
        before = self._text.rfind("\n", 0, at)
        column = at - before if before >= 0 else at + self._column
        rest = self._text[at : at + 40]
        where = f"at {rest!r:.40}" if rest else "where the text ends"
        return BadRecordError(f"not JSON: {what}, line {line} column {column}, {where}")

    def value(self) -> Any:  # noqa: ANN401 - any JSON value
        """Return the next value; reads on, twice as much each time, until it is whole."""
        self.at_end()
        while True:
            try:
                value, end = json.JSONDecoder().raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                ahead = error.pos - self._at
                if not self._read():
                    if self._more:
                        raise too_long(self._limit) from None
                    raise self.problem(error.msg, self._at + ahead) from None
            except (ValueError, RecursionError) as error:
                raise BadRecordError(f"JSON that cannot be read ({error})") from None
            else:
                # A number at the end of what has been read may go on.
                if end < len(self._text) or not self._read():
                    if end - self._at > self._limit:
                        raise too_long(self._limit)
                    self._pass(end)
                    return value

    def _pass(self, end: int) -> None:
        self.line += self._text.count("\n", self._at, end)
        self._at = end

    def _read(self) -> bool:
        """Read on, doubling the window; tell whether there was more."""
        remaining = len(self._text) - self._at
        if not self._more or remaining > self._limit:
            return False
        part = self._source.read(max(remaining, _PART))
        self._bytes += len(part)
        try:
            text = self._decoder.decode(part, final=not part)
        except UnicodeDecodeError as error:
            start = self._bytes - len(error.object)
            raise not_utf8(error.object, error.start, start) from None
        before = self._text.rfind("\n", 0, self._at)
        self._column = self._at - before if before >= 0 else self._column + self._at
        self._text, self._at = self._text[self._at :] + text, 0
        self._more = bool(part)
        return self._more
