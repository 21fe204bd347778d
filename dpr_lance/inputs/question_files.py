"""Files of labelled questions: their records, each with its line, in the forms of DPR, of BEIR and of JSON lines."""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from dpr_lance.errors import InvalidInputError
from dpr_lance.inputs.lines import (
    BadRecordError,
    attempt,
    csv_rows,
    json_items,
    json_lines,
    open_regular,
    readable,
    unpacked,
)
from dpr_lance.inputs.listing import kind_of

ID_FIELDS = ("id", "_id", "question_id")
DEFAULT_SPLIT = "test"

Records = Generator[tuple[str, object], None, None]
"""The place of each record, with its fields or with what is wrong with it."""
Reader = Callable[[BinaryIO], Iterator[tuple[int, object]]]
"""Yields line numbers with a record's fields, or with what is wrong with it."""


def first_of(fields: Mapping[str, Any], names: Iterable[str]) -> Any:  # noqa: ANN401 - any value of a record
    """Return the first of these fields that has a value."""
    return next((fields[name] for name in names if fields.get(name) is not None), None)


def file_records(path: Path) -> Records:
    """Return the records of a file, read as its name says; raise `InvalidInputError` for another kind of file."""
    reader = _READERS.get(kind_of(path))
    if not path.exists():
        raise InvalidInputError(f"{path}: there is no such file or folder of questions")
    if reader is None:
        raise InvalidInputError(f"{path}: questions come as {', '.join(_READERS)} (also .gz) or as a BEIR folder")
    return read_file(path, reader)


def read_file(path: Path, reader: Reader = json_lines) -> Records:
    """Yield the place of each record of a file, with its fields or a `BadRecordError`; read JSON lines by default.

    Raises `InvalidInputError` for a file that cannot be read to its end.
    """
    try:
        with readable(), open_regular(path) as stream:
            for line, fields in reader(unpacked(path, stream)):
                if isinstance(fields, BadRecordError) and reader is json_items:
                    # The rest of a list that is cut short is not even counted.
                    raise InvalidInputError(f"{path}:{line}: {fields} (JSON lines belong in a file named .jsonl)")
                yield f"{path}:{line}", fields
    except BadRecordError as problem:
        raise InvalidInputError(f"{path}: {problem}") from None


def _tabbed(stream: BinaryIO, parse: Callable[[Sequence[str], int], object]) -> Iterator[tuple[int, object]]:
    """Yield what `parse` makes of each row; None passes over it."""
    for line, cells in csv_rows(stream, "\t"):
        found = cells if isinstance(cells, BadRecordError) else attempt(parse, cells, line)
        if found is not None:
            yield line, found


_READERS: Mapping[str, Reader] = {
    ".jsonl": json_lines,
    ".ndjson": json_lines,
    ".json": json_items,
    ".csv": lambda stream: _tabbed(stream, _row),
    ".tsv": lambda stream: _tabbed(stream, _row),
}


def _row(cells: Sequence[str], line: int) -> Mapping[str, Any] | None:
    if not any(cells) or (line == 1 and [cell.strip().lower() for cell in cells] == ["question", "answers"]):
        return None
    if len(cells) != 2:
        raise BadRecordError(
            f"a row is the question, a tab and the list of its answers; this one has {len(cells)} "
            f"cell{'s' * (len(cells) != 1)} ({cells[0]!r:.60})"
        )
    return {"question": cells[0], "answers": _list(cells[1])}


def _list(text: str) -> list[Any]:
    """Return the list that a cell writes down, in JSON or as Python would; it is parsed, nothing in it is run."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        try:
            with warnings.catch_warnings(action="ignore"):  # "\d" in a regular expression
                value = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
            raise BadRecordError(f"the answers are not a list of strings: {text!r:.60} ({error})") from None
    if not isinstance(value, list | tuple):
        raise BadRecordError(f"the answers are {type(value).__name__}, not a list of strings: {text!r:.60}")
    return list(value)


def beir_records(folder: Path, split: str | None) -> Records:
    """Yield the labelled questions of a split, with their grades as `labels`."""
    path = _qrels(folder, split)
    labels: dict[str, dict[str, int]] = {}
    for place, found in read_file(path, partial(_tabbed, parse=_label)):
        if isinstance(found, BadRecordError):
            yield place, found
        elif isinstance(found, tuple) and found[2] > 0:
            labels.setdefault(found[0], {})[found[1]] = found[2]
    if not labels:
        raise InvalidInputError(f"{path}: no passage is labelled with a score above 0")
    queries = beir_file(folder, "queries.jsonl")
    for place, found in read_file(queries):
        if not isinstance(found, dict):
            yield place, found
        elif (identity := str(first_of(found, ID_FIELDS))) in labels:
            yield place, {**found, "labels": labels.pop(identity)}
    if labels:
        missing = f"{len(labels)} labelled questions are missing, among them {next(iter(labels))!r}"
        yield str(queries), BadRecordError(missing)


def beir_file(folder: Path, name: str) -> Path:
    """Return a file of a BEIR folder, which may be compressed; raise `InvalidInputError` where it is missing."""
    path = next((path for option in (name, f"{name}.gz") if (path := folder / option).is_file()), None)
    if path is None:
        raise InvalidInputError(f"{folder}: a BEIR folder has {name} (or .gz), and there is none")
    return path


def _qrels(folder: Path, split: str | None) -> Path:
    found = {path.stem: path for path in sorted((folder / "qrels").glob("*.tsv"))}
    if not found:
        raise InvalidInputError(f"{folder}: a BEIR folder has qrels/SPLIT.tsv, and there is none")
    chosen = split or (DEFAULT_SPLIT if len(found) > 1 else next(iter(found)))
    if chosen not in found:
        raise InvalidInputError(f"{folder / 'qrels'}: there is no split {chosen!r}; choose one of {', '.join(found)}")
    return found[chosen]


def _label(cells: Sequence[str], line: int) -> tuple[str, str, int] | None:
    if not any(cells) or (line == 1 and cells[-1].strip().lower() == "score"):
        return None
    try:
        question, passage, score = cells
        grade = float(score)
        if grade.is_integer():
            return question, passage, int(grade)
    except ValueError:
        pass
    raise BadRecordError(f"a row is question id, tab, passage id, tab, whole score, not {cells!r:.80}")
