"""Labelled questions: what `evaluate` and `calibrate` measure with, streamed from files or from a program.

    .jsonl .ndjson    an object a line: `question` (or `text`), optionally `id` (or `_id`), `answers`, `labels`
    .json             DPR's lists of objects with `question`, `answers` and `positive_ctxs`
    .csv .tsv         DPR's rows: the question, a tab, the list of its answers (no header needed)
    a folder          BEIR's form: queries.jsonl and qrels/SPLIT.tsv (query-id, corpus-id, score)

Files may be compressed (.gz). A label is the id of a passage, or of a document that stands for its passages. Lists in
rows are read as data, never evaluated. Every error names the file and the line.
"""

from __future__ import annotations

import ast
import json
import os
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from dpr_lance.checks import checked_path, checked_text, refused, shown
from dpr_lance.errors import InvalidInputError
from dpr_lance.readers.lines import (
    BadRecordError,
    attempt,
    csv_rows,
    json_items,
    json_lines,
    open_regular,
    readable,
    unpacked,
)
from dpr_lance.text.answers import answer_matcher

QUESTION_FIELDS = ("question", "text")
ID_FIELDS = ("id", "_id", "question_id")
ANSWER_FIELDS = ("answers", "answer")
CONTEXT_ID_FIELDS = ("passage_id", "psg_id", "id")
DEFAULT_SPLIT = "test"


def checked_question(question: object, place: str) -> str:
    """Return a question that can be asked; raise `InvalidInputError` that names `place` for another."""
    text = checked_text(question, name="question", place=place)
    if not text.strip():
        raise InvalidInputError(f"{place} is blank: ask something")
    return text


@dataclass(frozen=True, slots=True)
class LabelledQuestion:
    """A question with the answers that a passage may hold, or the passages (or documents) known to answer it, or both.

    `labels` gives each id's grade, above 0. `place` is where the question was read, for error messages.
    """

    id: str
    text: str
    answers: tuple[str, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)
    place: str = ""

    def matcher(self, *, regex: bool = False) -> Callable[[str], bool]:
        """Return what tells whether a text holds an answer; raise `InvalidInputError` that names a bad expression."""
        try:
            return answer_matcher(self.answers, regex=regex)
        except InvalidInputError as error:
            raise InvalidInputError(f"{self.place}: {error}") from None


Questions = Generator[LabelledQuestion, None, None]
QuestionSource = str | Path | Iterable[LabelledQuestion | Mapping[str, Any]]


def read_questions(source: QuestionSource, *, split: str | None = None) -> Questions:
    """Yield the questions of a file, of a BEIR folder, or of an iterable of mappings or `LabelledQuestion`s.

    `split` names the qrels of a BEIR folder; by default "test", or the only one there is. Ids are unique; a question
    without one gets its number, from 1. Raises `InvalidInputError` that names the file and line, or the position, of
    what cannot be used: a blank question, neither answers nor labels, a blank answer (it would be found in every text).
    """
    check_split(split, source)
    if isinstance(source, (str, os.PathLike)):
        path = checked_path(source, "questions")
        found = _beir_questions(path, split) if path.is_dir() else _file_questions(path)
    else:
        if isinstance(source, (bytes, Mapping)) or not isinstance(source, Iterable):
            raise refused("questions", source, "give a file or folder, or an iterable of labelled questions")
        found = _given_questions(source)
    return _unique(found)


def check_split(split: object, source: object) -> None:
    """Raise `InvalidInputError` for a split that is no string, or of what is no folder."""
    if split is None:
        return
    checked_text(split, name="the name of a split", place="split")
    if not isinstance(source, (str, os.PathLike)) or not Path(source).is_dir():
        raise refused("split", split, f"it chooses the qrels of a BEIR folder, which {shown(source)} is not")


def _unique(questions: Questions) -> Questions:
    seen: set[str] = set()
    with closing(questions):  # and the file that they come from, when one is refused
        for question in questions:
            if question.id in seen:
                raise InvalidInputError(f"{question.place}: the id {question.id!r} is that of an earlier question")
            seen.add(question.id)
            yield question


def _given_questions(source: Iterable[LabelledQuestion | Mapping[str, Any]]) -> Questions:
    for number, item in enumerate(source, start=1):
        place = f"questions[{number - 1}]"
        if isinstance(item, LabelledQuestion):
            yield item
        elif isinstance(item, Mapping):
            yield _checked(item, number, place)
        else:
            raise InvalidInputError(
                f"{place}: a labelled question is a mapping with 'question' and 'answers' or 'labels', "
                f"not {type(item).__name__} ({item!r:.60})"
            )


# Files.


def _file_questions(path: Path) -> Questions:
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:] if suffix.lower() != ".gz"]
    reader = _READERS.get(suffixes[-1] if suffixes else "")
    if not path.exists():
        raise InvalidInputError(f"{path}: there is no such file or folder of questions")
    if reader is None:
        raise InvalidInputError(f"{path}: questions come as {', '.join(_READERS)} (also .gz) or as a BEIR folder")
    number = 0
    with closing(_records(path, reader)) as records:
        for place, fields in records:
            if fields is not None:
                number += 1
                yield _checked(fields, number, place)


Fields = Mapping[str, Any] | None
Reader = Callable[[BinaryIO], Iterator[tuple[int, Fields | BadRecordError]]]
"""Yields line numbers with a record's fields (None to pass over), or with what is wrong with it."""


def _records(path: Path, reader: Reader) -> Generator[tuple[str, Fields], None, None]:
    """Yield the place and the fields of each record; raise `InvalidInputError` for the first bad one."""
    try:
        with readable(), open_regular(path) as stream:
            for line, fields in reader(unpacked(path, stream)):
                place = f"{path}:{line}"
                if isinstance(fields, BadRecordError):
                    raise InvalidInputError(f"{place}: {fields}")
                yield place, fields
    except BadRecordError as problem:
        raise InvalidInputError(f"{path}: {problem}") from None


def _json_lines(stream: BinaryIO) -> Iterator[tuple[int, Fields | BadRecordError]]:
    for line, value in json_lines(stream):
        yield line, value if isinstance(value, BadRecordError) else attempt(_object, value)


def _json_list(stream: BinaryIO) -> Iterator[tuple[int, Fields | BadRecordError]]:
    for line, value in json_items(stream):
        yield line, value if isinstance(value, BadRecordError) else attempt(_object, value)


def _rows(stream: BinaryIO) -> Iterator[tuple[int, Fields | BadRecordError]]:
    for line, cells in csv_rows(stream, "\t"):
        yield line, cells if isinstance(cells, BadRecordError) else attempt(_row, cells, line)


_READERS: Mapping[str, Reader] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_list,
    ".csv": _rows,
    ".tsv": _rows,
}


def _object(value: object) -> Fields:
    if not isinstance(value, dict):
        raise BadRecordError(
            f"a labelled question is a JSON object with 'question' and 'answers' or 'labels', not "
            f"{type(value).__name__} ({value!r:.60})"
        )
    return value


def _row(cells: Sequence[str], line: int) -> Fields:
    """Return the fields of a row of DPR's files; None for a blank line and for a header."""
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
            raise BadRecordError(f"the answers are no list of strings: {text!r:.60} ({error})") from None
    if not isinstance(value, list | tuple):
        raise BadRecordError(f"the answers are {type(value).__name__}, not a list of strings: {text!r:.60}")
    return list(value)


# BEIR folders.


def _beir_questions(folder: Path, split: str | None) -> Questions:
    labels = _labels(_qrels(folder, split))
    path = next((path for name in ("queries.jsonl", "queries.jsonl.gz") if (path := folder / name).is_file()), None)
    if path is None:
        raise InvalidInputError(f"{folder}: a BEIR folder has queries.jsonl (or .gz), and there is none")
    with closing(_records(path, _json_lines)) as records:
        for number, (place, fields) in enumerate(records, start=1):
            identity = None if fields is None else _identity(fields, place)
            if fields is not None and identity in labels:
                yield _checked({**fields, "labels": labels.pop(identity)}, number, place)
    if labels:
        raise InvalidInputError(
            f"{path}: {len(labels)} labelled questions are missing, among them {next(iter(labels))!r}"
        )


def _qrels(folder: Path, split: str | None) -> Path:
    """Return the file of labels of a split."""
    found = {path.stem: path for path in sorted((folder / "qrels").glob("*.tsv"))}
    if not found:
        raise InvalidInputError(f"{folder}: a BEIR folder has qrels/SPLIT.tsv, and there is none")
    chosen = split or (DEFAULT_SPLIT if len(found) > 1 else next(iter(found)))
    if chosen not in found:
        raise InvalidInputError(f"{folder / 'qrels'}: there is no split {chosen!r}; choose of {', '.join(found)}")
    return found[chosen]


def _labels(path: Path) -> dict[str, dict[str, int]]:
    """Return the grades above 0 of each question's passages, by its id."""
    labels: dict[str, dict[str, int]] = {}

    def rows(stream: BinaryIO) -> Iterator[tuple[int, Fields | BadRecordError]]:
        for line, cells in csv_rows(stream, "\t"):
            yield line, cells if isinstance(cells, BadRecordError) else attempt(_qrel, cells, line)

    for _, fields in _records(path, rows):
        if fields is not None and fields["grade"] > 0:
            labels.setdefault(fields["question"], {})[fields["passage"]] = fields["grade"]
    if not labels:
        raise InvalidInputError(f"{path}: no passage is labelled with a score above 0")
    return labels


def _qrel(cells: Sequence[str], line: int) -> Fields:
    if not any(cells) or (line == 1 and cells[-1].strip().lower() == "score"):
        return None
    try:
        question, passage, grade = cells
        return {"question": question, "passage": passage, "grade": int(grade)}
    except ValueError:
        raise BadRecordError(f"a row is question id, tab, passage id, tab, whole score, not {cells!r:.80}") from None


# Fields.


def _checked(fields: Mapping[str, Any], number: int, place: str) -> LabelledQuestion:
    """Return the question that these fields are; raise `InvalidInputError` that names the place otherwise."""
    asked = _first(fields, QUESTION_FIELDS)
    if asked is None:
        raise InvalidInputError(f"{place}: there is no 'question'; the fields are {sorted(map(str, fields))}")
    text = checked_text(asked, name="question", place=place)
    if not text.strip():
        raise InvalidInputError(f"{place}: the question is blank")
    answers = _answers(_first(fields, ANSWER_FIELDS), place)
    labels = _grades(fields, place)
    # BEIR's queries may have an empty list of answers beside their labels.
    if not answers and not labels:
        raise InvalidInputError(f"{place}: the question has neither answers nor labels to measure with")
    return LabelledQuestion(_identity(fields, place) or str(number), text, answers, labels, place)


def _first(fields: Mapping[str, Any], names: Iterable[str]) -> Any:  # noqa: ANN401 - any value of a record
    return next((fields[name] for name in names if fields.get(name) is not None), None)


def _identity(fields: Mapping[str, Any], place: str) -> str | None:
    value = _first(fields, ID_FIELDS)
    return None if value is None else _id(value, "id", place)


def _id(value: object, name: str, place: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not checked_text(value, name=name, place=place).strip():
        raise InvalidInputError(f"{place}: {name} is blank")
    return str(value)


def _answers(value: object, place: str) -> tuple[str, ...]:
    if value is None:
        return ()
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise InvalidInputError(f"{place}: 'answers' is a list of strings, not {type(value).__name__} ({value!r:.60})")
    for item in items:
        if not checked_text(item, name="an answer", place=place).strip():
            raise InvalidInputError(f"{place}: an answer is blank ({item!r}): it would be found in every text")
    return tuple(items)


def _grades(fields: Mapping[str, Any], place: str) -> dict[str, int]:
    """Return the grades of `labels` (a list of ids, or grades by id) and of the ids of `positive_ctxs`."""
    given = fields.get("labels") or ()
    if isinstance(given, Mapping):
        grades = {_id(name, "a label", place): grade for name, grade in given.items()}
    elif isinstance(given, list | tuple | set | frozenset):
        grades = {_id(name, "a label", place): 1 for name in given}
    else:
        raise InvalidInputError(f"{place}: 'labels' is a list of passage ids, or grades by id, not {given!r:.60}")
    if bad := [grade for grade in grades.values() if not isinstance(grade, int) or grade < 1]:
        raise InvalidInputError(f"{place}: a label's grade is a whole number above 0, not {bad[0]!r}")
    contexts = fields.get("positive_ctxs") or ()
    if not isinstance(contexts, list | tuple):
        raise InvalidInputError(f"{place}: 'positive_ctxs' is a list of objects, not {contexts!r:.60}")
    for context in contexts:
        if isinstance(context, Mapping) and (name := _first(context, CONTEXT_ID_FIELDS)) is not None:
            grades.setdefault(_id(name, "a positive passage's id", place), 1)
    return grades
