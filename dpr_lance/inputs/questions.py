"""Labelled questions: what `evaluate` and `calibrate` measure with, streamed from files or from a program.

    .jsonl .ndjson    an object a line: `question` (or `text`), optionally `id` (or `_id`), `answers`, `labels`
    .json             DPR's lists of objects with `question`, `answers` and `positive_ctxs`
    .csv .tsv         DPR's rows: the question, a tab, the list of its answers (no header needed)
    a folder          BEIR's form: queries.jsonl and qrels/SPLIT.tsv (query-id, corpus-id, score)

Files may be compressed (.gz). A label is the id of a passage, or of a document, which means its passages. Lists in rows
are read as data, never evaluated. Every error names the file and the line.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpr_lance.checks import checked_path, checked_text, refused, shown
from dpr_lance.errors import InvalidInputError
from dpr_lance.inputs.lines import BadRecordError
from dpr_lance.inputs.question_files import ID_FIELDS, beir_records, file_records, first_of
from dpr_lance.records.reports import Skipped
from dpr_lance.text.answers import answer_matcher
from dpr_lance.text.language import ENGLISH, Language

QUESTION_FIELDS = ("question", "text")
ANSWER_FIELDS = ("answers", "answer")
CONTEXT_ID_FIELDS = ("passage_id", "psg_id", "id")
_CONTEXT_FIELDS = {
    "positives": ("positive_ctxs", "positives"),
    "hard_negatives": ("hard_negative_ctxs", "hard_negatives"),
    "negatives": ("negative_ctxs", "negatives"),
}
"""What DPR's JSON and our own files call the passages of a record."""


def checked_question(question: object, place: str) -> str:
    """Return a question that can be asked; raise `InvalidInputError` that names `place` for another."""
    text = checked_text(question, name="question", place=place)
    if not text.strip():
        raise InvalidInputError(f"{place} is blank: ask something")
    return text


def checked_questions(asked: object) -> list[str]:
    """Return one question, or a sequence of them, as a list; raise `InvalidInputError` that names what is neither."""
    if isinstance(asked, str):
        return [checked_question(asked, "the question")]
    if not isinstance(asked, Sequence):
        raise refused("question", asked, "a question is a string, or a list of strings")
    return [checked_question(text, f"questions[{number}]") for number, text in enumerate(asked)]


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

    def matcher(self, *, regex: bool = False, language: Language = ENGLISH) -> Callable[[str], bool]:
        """Return the test whether a text of a table in this language holds an answer.

        Raises `InvalidInputError` that names a bad expression.
        """
        try:
            return answer_matcher(self.answers, regex=regex, language=language)
        except InvalidInputError as error:
            raise InvalidInputError(f"{self.place}: {error}") from None


@dataclass(frozen=True, slots=True)
class Context:
    """A passage that stands in a question's record; `id` is empty where it has none."""

    id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class TrainingQuestion(LabelledQuestion):
    """A question with the passages that stand in its record, or the ids of stored ones."""

    positives: tuple[Context | str, ...] = ()
    hard_negatives: tuple[Context | str, ...] = ()
    negatives: tuple[Context | str, ...] = ()
    teacher_scores: Mapping[str, float] = field(default_factory=dict)
    """How well passages answer the question, by id: what a reader may learn from."""


Questions = Generator[LabelledQuestion, None, None]
QuestionSource = str | Path | Iterable[LabelledQuestion | Mapping[str, Any]]


def read_questions(source: QuestionSource, *, split: str | None = None, unanswerable: bool = False) -> Questions:
    """Yield the questions of a file, of a BEIR folder, or of an iterable of mappings or `LabelledQuestion`s.

    `split` names the qrels of a BEIR folder; by default "test", or the only one there is. Ids are unique; a question
    without one gets its number, from 1. Raises `InvalidInputError` that names the file and line, or the position, of
    what cannot be used: a blank question, neither answers nor labels (unless `unanswerable`), a blank answer (it would
    be found in every text).
    """
    return _unique(read_records(source, split=split, unanswerable=unanswerable))


def _unique(records: Generator[LabelledQuestion | Skipped, None, None]) -> Questions:
    seen: set[str] = set()
    with closing(records):  # and the file that they come from, when one is refused
        for question in records:
            if isinstance(question, Skipped):
                raise InvalidInputError(f"{question.place}: {question.reason}")
            if question.id in seen:
                raise InvalidInputError(f"{question.place}: the id {question.id!r} is that of an earlier question")
            seen.add(question.id)
            yield question


def read_records(
    source: QuestionSource, *, split: str | None = None, contexts: bool = False, unanswerable: bool = False
) -> Generator[LabelledQuestion | Skipped, None, None]:
    """Yield each question, or a `Skipped` for a record that cannot be used; see `read_questions`.

    With `contexts` each is a `TrainingQuestion`, for which a positive passage does as a label. Raises
    `InvalidInputError` for a file that cannot be read to its end.
    """
    check_split(split, source)
    if isinstance(source, (str, os.PathLike)):
        path = checked_path(source, "questions")
        records = beir_records(path, split) if path.is_dir() else file_records(path)
    else:
        if isinstance(source, (bytes, Mapping)) or not isinstance(source, Iterable):
            raise refused("questions", source, "give a file or folder, or an iterable of labelled questions")
        records = ((f"questions[{number}]", item) for number, item in enumerate(source))
    return _read(records, contexts, unanswerable)


def _read(
    records: Generator[tuple[str, object], None, None], contexts: bool, unanswerable: bool
) -> Generator[LabelledQuestion | Skipped, None, None]:
    number = 0
    with closing(records):
        for place, found in records:
            number += 1
            try:
                yield (
                    found
                    if isinstance(found, LabelledQuestion)
                    else _question(found, number, place, contexts, unanswerable)
                )
            except (BadRecordError, InvalidInputError) as error:
                yield Skipped(place, str(error).removeprefix(f"{place}: "))


def check_split(split: object, source: object) -> None:
    """Raise `InvalidInputError` for a split that is not a string, or whose source is not a folder."""
    if split is None:
        return
    checked_text(split, name="the name of a split", place="split")
    if not isinstance(source, (str, os.PathLike)) or not Path(source).is_dir():
        raise refused("split", split, f"it chooses the qrels of a BEIR folder, which {shown(source)} is not")


def _question(fields: object, number: int, place: str, contexts: bool, unanswerable: bool) -> LabelledQuestion:
    if isinstance(fields, BadRecordError):
        raise fields
    if not isinstance(fields, Mapping):
        raise BadRecordError(
            f"a labelled question is a JSON object, or a mapping, with 'question' and 'answers' or 'labels', not "
            f"{type(fields).__name__} ({fields!r:.60})"
        )
    asked = first_of(fields, QUESTION_FIELDS)
    if asked is None:
        raise BadRecordError(f"there is no 'question'; the fields are {sorted(map(str, fields))}")
    text = checked_text(asked, name="question", place=place)
    if not text.strip():
        raise BadRecordError("the question is blank")
    answers = _answers(first_of(fields, ANSWER_FIELDS), place)
    labels = _grades(fields, place)
    passages = {name: _contexts(fields, keys, place) for name, keys in _CONTEXT_FIELDS.items() if contexts}
    # BEIR's queries may have an empty list of answers next to their labels.
    if not answers and not labels and not passages.get("positives") and not unanswerable:
        raise BadRecordError("the question has neither answers nor labels")
    identity = _identity(fields, place) or str(number)
    if not contexts:
        return LabelledQuestion(identity, text, answers, labels, place)
    return TrainingQuestion(
        identity, text, answers, labels, place, **passages, teacher_scores=_teacher_scores(fields, place)
    )


def _identity(fields: Mapping[str, Any], place: str) -> str | None:
    value = first_of(fields, ID_FIELDS)
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
        if isinstance(context, Mapping) and (name := first_of(context, CONTEXT_ID_FIELDS)) is not None:
            grades.setdefault(_id(name, "a positive passage's id", place), 1)
    return grades


def _teacher_scores(fields: Mapping[str, Any], place: str) -> dict[str, float]:
    given = fields.get("teacher_scores") or {}
    if not isinstance(given, Mapping):
        raise BadRecordError(f"'teacher_scores' has scores by passage id, it is {given!r:.60}")
    scores = {_id(name, "an id in 'teacher_scores'", place): score for name, score in given.items()}
    for name, score in scores.items():
        if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
            raise BadRecordError(f"'teacher_scores': the score of {name!r} is {score!r:.60}, which is not a number")
    return {name: float(score) for name, score in scores.items()}


def _contexts(fields: Mapping[str, Any], keys: Sequence[str], place: str) -> tuple[Context | str, ...]:
    found: list[Context | str] = []
    for key in keys:
        entries = fields.get(key) or ()
        if not isinstance(entries, list | tuple):
            raise BadRecordError(f"{key!r} is a list of passages or of their ids, not {entries!r:.60}")
        found += [read_context(entry, key, place) for entry in entries]
    return tuple(found)


def read_context(entry: object, key: str, place: str) -> Context | str:
    """Return a passage, or the id under which one is to be found; raise an error that says what is wrong with it."""
    if isinstance(entry, str | int) and not isinstance(entry, bool):
        return _id(entry, key, place)
    if not isinstance(entry, Mapping):
        raise BadRecordError(f"{key!r} holds {entry!r:.60}, which is neither a passage nor an id")
    name = first_of(entry, (*CONTEXT_ID_FIELDS, "_id"))
    identity = "" if name is None or name == "" else _id(name, f"{key!r}: an id", place)
    title, text = entry.get("title") or "", entry.get("text")
    if text is None and identity:
        return identity
    if not isinstance(title, str):
        raise BadRecordError(f"{key!r}: a title is {title!r:.60}, which is not a string")
    if not isinstance(text, str) or not text.strip():
        raise BadRecordError(f"{key!r}: a passage's 'text' is blank or not a string ({text!r:.60})")
    for score in (entry.get("score"), entry.get("title_score")):
        if isinstance(score, float) and not math.isfinite(score):
            raise BadRecordError(f"{key!r}: a score is {score}")
    return Context(identity, title, text)
