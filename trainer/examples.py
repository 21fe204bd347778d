"""Training examples: questions with their passages, checked before anything is trained.

They are read from the files that `dpr_lance.inputs.questions` knows, and from BEIR folders. Every bad row is named
with file, line and reason. Needs no torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from dpr_lance.errors import InvalidInputError
from dpr_lance.inputs.lines import BadRecordError
from dpr_lance.inputs.question_files import beir_file, read_file
from dpr_lance.inputs.questions import Context, TrainingQuestion, read_context, read_records
from dpr_lance.records.reports import OnError, Skipped
from dpr_lance.table.rows import hash_of
from dpr_lance.text.answers import answer_matcher

Place: TypeAlias = str
"""`file:line`."""

SHOWN_PROBLEMS = 10
"""Bad rows that an error names; the count is complete."""


@dataclass(frozen=True, slots=True)
class KnownPassage:
    """A passage as training needs it."""

    id: str
    title: str
    text: str

    @property
    def same(self) -> str:
        """What passages that differ in spaces and letter case alone have in common."""
        return " ".join(self.text.casefold().split())


Find: TypeAlias = Callable[[Sequence[str]], Mapping[str, Sequence[KnownPassage]]]
"""Returns the passages that ids of passages or documents stand for; ids that are not stored are missing."""


@dataclass(frozen=True, slots=True)
class Example:
    """One question with the ids of its passages. `positives[0]` is the gold one; there may be none yet."""

    place: Place
    question: str
    positives: tuple[str, ...] = ()
    hard_negatives: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()
    """Easier ones, used where hard ones do not suffice."""
    answers: tuple[str, ...] = ()
    teacher_scores: Mapping[str, float] = field(default_factory=dict)
    """How well passages answer the question, by id."""


@dataclass(frozen=True, slots=True)
class Examples:
    """What a file or folder holds: its rows, the passages that they name, and what was wrong or odd."""

    name: str
    rows: tuple[Example, ...]
    passages: Mapping[str, KnownPassage]
    skipped: tuple[Skipped, ...] = ()
    oddities: Mapping[str, int] = field(default_factory=dict)
    """How many rows had what was put right, by what it is."""


def read_examples(
    path: str | Path, *, split: str = "train", find: Find | None = None, on_error: OnError = "raise"
) -> Examples:
    """Read the examples in `path`; `find` looks up passages that are named by id.

    `split` chooses the labels of a BEIR folder. With `on_error="skip"` bad rows are left out and listed in `skipped`.
    Questions without passages are kept when they have answers, for distant supervision (see `mining`). Raises
    `InvalidInputError` that names bad rows (all of them are counted), and when no row is left.
    """
    path = Path(path)
    questions: list[TrainingQuestion] = []
    skipped: list[Skipped] = []
    passages: dict[str, KnownPassage] = {}
    folder = path.is_dir()
    for record in read_records(path, split=split if folder else None, contexts=True):
        if isinstance(record, TrainingQuestion):
            questions.append(record)
        elif isinstance(record, Skipped):
            skipped.append(record)
    if folder and find is None:
        _read_corpus(path, passages, skipped)
    named = {name for question in questions for name in _ids(question) if name not in passages}
    found = find(sorted(named)) if find is not None and named else {}
    passages.update((passage.id, passage) for group in found.values() for passage in group)
    oddities: Counter[str] = Counter()
    merged: dict[str, Example] = {}
    for question in questions:
        try:
            row = _resolved(question, passages, found, oddities)
        except BadRecordError as problem:
            skipped.append(Skipped(question.place, str(problem)))
            continue
        if (first := merged.get(row.question)) is not None:
            oddities["the same question again: its passages were joined"] += 1
            row = _joined(first, row)
        merged[row.question] = row
    if skipped and on_error == "raise":
        raise refused(path, skipped)
    if not merged:
        raise InvalidInputError(f"{path} holds no question that can be used ({len(skipped)} were skipped)")
    return Examples(path.stem.removesuffix(".jsonl"), tuple(merged.values()), passages, tuple(skipped), oddities)


def refused(name: str | Path, skipped: Sequence[Skipped]) -> InvalidInputError:
    """Return the error that names bad rows of a file."""
    lines = [f"{problem.place}: {problem.reason}" for problem in skipped[:SHOWN_PROBLEMS]]
    more = f"\nand {len(skipped) - SHOWN_PROBLEMS:,} more" if len(skipped) > SHOWN_PROBLEMS else ""
    error = InvalidInputError(f"{name}: {len(skipped):,} bad rows\n" + "\n".join(lines) + more)
    error.add_note("correct them, or leave them out and count them: --on-error skip (on_error='skip')")
    return error


def _read_corpus(folder: Path, passages: dict[str, KnownPassage], skipped: list[Skipped]) -> None:
    for place, value in read_file(beir_file(folder, "corpus.jsonl")):
        try:
            if isinstance(value, BadRecordError):
                raise value
            passage = read_context(value, "corpus.jsonl", place)
        except (BadRecordError, InvalidInputError) as problem:
            passage = str(problem)
        if isinstance(passage, Context):
            _keep(passage, passages)
        else:
            skipped.append(Skipped(place, f"it is no passage with _id and text ({passage})"))


def _groups(question: TrainingQuestion) -> dict[str, Iterable[Context | str]]:
    in_record = {passage.id for passage in question.positives if isinstance(passage, Context)}
    positives = [*question.positives, *(name for name in question.labels if name not in in_record)]
    return {"positives": positives, "hard_negatives": question.hard_negatives, "negatives": question.negatives}


def _ids(question: TrainingQuestion) -> list[str]:
    return [entry for group in _groups(question).values() for entry in group if isinstance(entry, str)]


def _resolved(
    question: TrainingQuestion,
    passages: dict[str, KnownPassage],
    found: Mapping[str, Sequence[KnownPassage]],
    oddities: Counter[str],
) -> Example:
    """Return the example with ids in place of passages; a negative that is a positive too is dropped."""
    ids: dict[str, list[str]] = {}
    scores: dict[str, float] = {}
    for name, group in _groups(question).items():
        ids[name] = []
        for entry in group:
            before = len(ids[name])
            if isinstance(entry, Context):
                ids[name].append(_keep(entry, passages))
            elif entry in found:
                meant = found[entry] if name != "positives" else _answering(found[entry], question.answers)
                ids[name].extend(passage.id for passage in meant)
            elif entry in passages:
                ids[name].append(entry)
            elif name == "positives":
                raise BadRecordError(f"the positive passage {entry!r} is not stored: add it, or correct the id")
            else:
                oddities["a negative passage that is not stored: left out"] += 1
            score = question.teacher_scores.get(entry.id if isinstance(entry, Context) else entry)
            if score is not None:
                scores |= dict.fromkeys(ids[name][before:], score)
    positives = tuple(dict.fromkeys(ids["positives"]))
    if not positives:
        oddities["no positive passage, only answers"] += 1
    holds = answer_matcher(question.answers)
    if question.answers and positives and not any(holds(passages[identity].text) for identity in positives):
        oddities["no positive passage holds an answer"] += 1
    same = {passages[identity].same for identity in positives}
    for name in ("hard_negatives", "negatives"):
        kept = [identity for identity in dict.fromkeys(ids[name]) if passages[identity].same not in same]
        if len(kept) < len(set(ids[name])):
            oddities["a negative passage that is a positive too: left out"] += 1
        ids[name] = kept
    return Example(
        question.place,
        question.text.strip(),
        positives,
        tuple(ids["hard_negatives"]),
        tuple(ids["negatives"]),
        question.answers,
        scores,
    )


def _answering(passages: Sequence[KnownPassage], answers: Sequence[str]) -> Sequence[KnownPassage]:
    """Return those of a document's passages that hold an answer; all of them where none does."""
    holds = answer_matcher(answers)
    return [passage for passage in passages if holds(passage.text)] or passages


def _keep(context: Context, passages: dict[str, KnownPassage]) -> str:
    """Keep a passage of a record and return its id: that of its content, where another passage has its own."""
    content = hash_of(context.title, context.text)
    passage = KnownPassage(context.id or content, context.title, context.text)
    known = passages.setdefault(passage.id, passage)
    if (known.title, known.text) == (passage.title, passage.text):
        return passage.id
    passages[content] = replace(passage, id=content)
    return content


def _joined(first: Example, second: Example) -> Example:
    positives = tuple(dict.fromkeys(first.positives + second.positives))

    def rest(name: str) -> tuple[str, ...]:
        both = getattr(first, name) + getattr(second, name)
        return tuple(identity for identity in dict.fromkeys(both) if identity not in positives)

    return replace(
        first,
        positives=positives,
        hard_negatives=rest("hard_negatives"),
        negatives=rest("negatives"),
        answers=tuple(dict.fromkeys(first.answers + second.answers)),
        teacher_scores={**first.teacher_scores, **second.teacher_scores},
    )
