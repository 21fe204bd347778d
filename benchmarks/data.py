"""The question-answering sets, read where they lie: the folder in `DPR_LANCE_DATA`, else `../shared/data`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from dpr_lance.errors import InvalidInputError
from dpr_lance.inputs.files import FileDocuments
from dpr_lance.inputs.questions import read_questions
from dpr_lance.records.reports import Skipped

REPOSITORY = Path(__file__).resolve().parent.parent
DATA_VARIABLE = "DPR_LANCE_DATA"


class MissingDataError(FileNotFoundError):
    """The sets are not on this machine; the message says where they were looked for."""


@dataclass(frozen=True, slots=True)
class LabelledPassage:
    """One passage of a set; `title` may be empty."""

    id: str
    title: str
    text: str

    @property
    def document(self) -> dict[str, str]:
        """The passage as `add` takes it."""
        return {"id": self.id, "title": self.title, "text": self.text}

    @property
    def joined(self) -> str:
        """Title, newline, text: what BM25 indexes and what reference encoders read."""
        return joined(self.title, self.text)


def joined(title: str, text: str) -> str:
    """Title, newline, text."""
    return f"{title}\n{text}" if title else text


@dataclass(frozen=True, slots=True)
class LabelledQuestion:
    """One question with the ids of the passages that are labelled as answering it."""

    id: str
    text: str
    gold: frozenset[str]


@dataclass(frozen=True)
class QuestionSet:
    """A corpus with the labelled questions of one split."""

    name: str
    split: str
    passages: tuple[LabelledPassage, ...]
    questions: tuple[LabelledQuestion, ...]

    @property
    def label(self) -> str:
        """Name and split as the tables show them."""
        return f"{self.name} {self.split}"

    @property
    def texts(self) -> list[str]:
        """The questions as they are asked."""
        return [question.text for question in self.questions]

    @cached_property
    def gold_rows(self) -> list[frozenset[int]]:
        """For each question the positions of its gold passages in `passages`."""
        position = {passage.id: row for row, passage in enumerate(self.passages)}
        return [frozenset(position[identity] for identity in question.gold) for question in self.questions]

    def smaller(self, passages: int) -> QuestionSet:
        """The same questions over their gold passages and as many of the others, in file order, as make `passages`."""
        gold = frozenset().union(*(question.gold for question in self.questions))
        others = [passage.id for passage in self.passages if passage.id not in gold]
        kept = gold | frozenset(others[: max(0, passages - len(gold))])
        return replace(self, passages=tuple(passage for passage in self.passages if passage.id in kept))


def folder() -> Path:
    """The folder that holds the sets; raises `MissingDataError` when there is none."""
    named = os.environ.get(DATA_VARIABLE)
    place = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not place.is_dir():
        raise MissingDataError(
            f"the question-answering sets are not in {place}: set {DATA_VARIABLE} to the folder that holds "
            f"squad/, nq-gold/, … (corpus.jsonl.gz, queries.jsonl.gz, qrels/SPLIT.tsv each)"
        )
    return place


def read(name: str, split: str) -> QuestionSet:
    """Read one set and the questions of one split that have a gold passage, in file order.

    `A+B` are the questions of set A over the passages of both, whose ids are then `A:…` and `B:…`. Raises
    `MissingDataError` when a file is not there and `ValueError` when a label names no passage or question.
    """
    if "+" in name:
        return _over_all(name, split)
    labels = folder() / name / "qrels" / f"{split}.tsv"
    if not labels.is_file():
        raise MissingDataError(f"{labels} is missing: is {folder()} the folder of the question-answering sets?")
    passages = tuple(corpus(name))
    try:
        found = tuple(read_questions(folder() / name, split=split))
    except InvalidInputError as error:
        raise ValueError(str(error)) from error
    questions = tuple(LabelledQuestion(each.id, each.text, frozenset(each.labels)) for each in found)
    if unknown := sorted(set().union(*(each.gold for each in questions)) - {passage.id for passage in passages}):
        raise ValueError(f"{labels}: passage {unknown[0]!r} is labelled, but not in the corpus")
    return QuestionSet(name, split, passages, questions)


def _over_all(name: str, split: str) -> QuestionSet:
    names = name.split("+")
    first = read(names[0], split)
    passages = (
        replace(passage, id=f"{each}:{passage.id}")
        for each in sorted(names)
        for passage in (first.passages if each == names[0] else corpus(each))
    )
    questions = (
        replace(question, gold=frozenset(f"{names[0]}:{identity}" for identity in question.gold))
        for question in first.questions
    )
    return QuestionSet(name, split, tuple(passages), tuple(questions))


def corpus(name: str) -> Iterator[LabelledPassage]:
    """Yield the passages of a set one by one."""
    path = folder() / name / "corpus.jsonl.gz"
    if not path.is_file():
        raise MissingDataError(f"{path} is missing: is {path.parent.parent} the folder of the question-answering sets?")
    for number, found in enumerate(FileDocuments([path])):
        if isinstance(found, Skipped) or found.id is None:
            raise ValueError(f"{path}: passage {number} cannot be used: {found}")
        yield LabelledPassage(found.id, found.title, found.text)


def hundred_word_passages(count: int) -> list[tuple[str, str]]:
    """`count` real (title, text) passages of exactly 100 words, cut from the texts of squad and nq-gold in file order.

    The texts are read again from the start when there are too few of them.
    """
    passages: list[tuple[str, str]] = []
    while len(passages) < count:
        for name in ("squad", "nq-gold"):
            words: list[str] = []
            for passage in corpus(name):
                words += passage.text.split()
                while len(words) >= 100 and len(passages) < count:
                    passages.append((passage.title, " ".join(words[:100])))
                    words = words[100:]
    return passages
