"""The question-answering sets, read where they lie: the folder in `DPR_LANCE_DATA`, else `../shared/data`."""

from __future__ import annotations

import csv
import gzip
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

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
    place = folder() / name
    labels = place / "qrels" / f"{split}.tsv"
    if not labels.is_file():
        raise MissingDataError(f"{labels} is missing: is {place.parent} the folder of the question-answering sets?")
    passages = tuple(
        LabelledPassage(record["_id"], record["title"], record["text"])
        for record in _records(place / "corpus.jsonl.gz")
    )
    known = {passage.id for passage in passages}
    gold: dict[str, set[str]] = {}
    with labels.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            if int(row["score"]) > 0:
                gold.setdefault(row["query-id"], set()).add(row["corpus-id"])
    if unknown := sorted(set().union(*gold.values()) - known):
        raise ValueError(f"{labels}: passage {unknown[0]!r} is labelled, but not in the corpus")
    questions = tuple(
        LabelledQuestion(record["_id"], record["text"], frozenset(gold[record["_id"]]))
        for record in _records(place / "queries.jsonl.gz")
        if record["_id"] in gold
    )
    if len(questions) != len(gold):
        raise ValueError(f"{labels}: {len(gold) - len(questions)} labelled questions are not in queries.jsonl.gz")
    return QuestionSet(name, split, passages, questions)


def _over_all(name: str, split: str) -> QuestionSet:
    names = name.split("+")
    asked = read(names[0], split)
    passages = tuple(
        LabelledPassage(f"{each}:{record['_id']}", record["title"], record["text"])
        for each in sorted(names)
        for record in _records(folder() / each / "corpus.jsonl.gz")
    )
    gold = [frozenset(f"{names[0]}:{identity}" for identity in question.gold) for question in asked.questions]
    questions = tuple(replace(question, gold=ids) for question, ids in zip(asked.questions, gold, strict=True))
    return QuestionSet(name, split, passages, questions)


def hundred_word_passages(count: int) -> list[tuple[str, str]]:
    """`count` real (title, text) passages of exactly 100 words, cut from the texts of squad and nq-gold in file order.

    The texts are read again from the start when there are too few of them.
    """
    passages: list[tuple[str, str]] = []
    while len(passages) < count:
        for name in ("squad", "nq-gold"):
            words: list[str] = []
            for record in _records(folder() / name / "corpus.jsonl.gz"):
                words += record["text"].split()
                while len(words) >= 100 and len(passages) < count:
                    passages.append((record["title"], " ".join(words[:100])))
                    words = words[100:]
    return passages


def _records(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        raise MissingDataError(f"{path} is missing: is {path.parent.parent} the folder of the question-answering sets?")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
