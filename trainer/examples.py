"""Training examples: questions with their passages, read from files and checked before anything is trained.

Read are the JSON of the original DPR (a list of rows), JSON lines (the same rows, or ids of passages), both also
gzipped, and folders in the form of BEIR (`corpus.jsonl`, `queries.jsonl`, `qrels/SPLIT.tsv`). Every bad row is named
with file, line and reason. Needs no torch.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from dpr_lance.errors import InvalidInputError
from dpr_lance.readers.lines import BadRecordError, attempt, json_items, json_lines, open_regular, readable, unpacked
from dpr_lance.records.reports import Skipped
from dpr_lance.table.rows import hash_of
from dpr_lance.text.answers import answer_matcher

from .config import OnBad

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


@dataclass(frozen=True, slots=True)
class Examples:
    """What a file or folder holds: its rows, the passages that they name, and what was wrong or odd."""

    name: str
    rows: tuple[Example, ...]
    passages: Mapping[str, KnownPassage]
    skipped: tuple[Skipped, ...] = ()
    oddities: Mapping[str, int] = field(default_factory=dict)
    """How many rows had what was put right, by what it is."""


@dataclass(slots=True)
class _Draft:
    """A row before the ids in it are looked up."""

    place: Place
    question: str
    answers: tuple[str, ...]
    groups: dict[str, list[KnownPassage | str]]


_GROUPS = {
    "positives": ("positive_ctxs", "positives", "labels"),
    "hard_negatives": ("hard_negative_ctxs", "hard_negatives"),
    "negatives": ("negative_ctxs", "negatives"),
}
"""What a group is called here → its keys in DPR's JSON and in ours (`labels`, as in files that `eval` reads)."""


def read_examples(
    path: str | Path, *, split: str = "train", find: Find | None = None, on_bad: OnBad = "strict"
) -> Examples:
    """Read the examples in `path`; `find` looks up passages that are named by id.

    `split` chooses the labels of a BEIR folder. With `on_bad="skip"` bad rows are left out and listed in `skipped`.
    Questions without passages are kept when they have answers, for distant supervision (see `mining`). Raises
    `InvalidInputError` that names bad rows (all of them are counted), and when no row is left.
    """
    path = Path(path)
    if not path.exists():
        raise InvalidInputError(f"{path} does not exist: name a .json, .jsonl or BEIR folder of questions")
    oddities: Counter[str] = Counter()
    skipped: list[Skipped] = []
    passages: dict[str, KnownPassage] = {}
    if path.is_dir():
        drafts = _beir(path, split, None if find else passages, skipped)
    else:
        drafts = _checked_rows(_json_lines(path) if _is_lines(path) else _json_list(path), skipped, oddities)
    found = _look_up(drafts, find, passages)
    merged: dict[str, Example] = {}
    for draft in drafts:
        try:
            row = _resolved(draft, passages, found, oddities)
        except BadRecordError as problem:
            skipped.append(Skipped(draft.place, str(problem)))
            continue
        if (first := merged.get(row.question)) is not None:
            oddities["the same question again: its passages were joined"] += 1
            row = _joined(first, row)
        merged[row.question] = row
    if skipped and on_bad == "strict":
        raise refused(path, skipped)
    if not merged:
        raise InvalidInputError(f"{path} holds no question that can be used ({len(skipped)} were skipped)")
    return Examples(path.stem.removesuffix(".jsonl"), tuple(merged.values()), passages, tuple(skipped), oddities)


def refused(name: str | Path, skipped: Sequence[Skipped]) -> InvalidInputError:
    """Return the error that names bad rows of a file."""
    lines = [f"{problem.place}: {problem.reason}" for problem in skipped[:SHOWN_PROBLEMS]]
    more = f"\nand {len(skipped) - SHOWN_PROBLEMS:,} more" if len(skipped) > SHOWN_PROBLEMS else ""
    error = InvalidInputError(f"{name}: {len(skipped):,} bad rows\n" + "\n".join(lines) + more)
    error.add_note("correct them, or leave them out and count them: --on-bad skip (on_bad='skip')")
    return error


# Files


def _is_lines(path: Path) -> bool:
    return path.name.removesuffix(".gz").endswith((".jsonl", ".ndjson"))


def _json_lines(path: Path) -> Iterator[tuple[Place, Any]]:
    """Yield each line with its place; a value that is a `BadRecordError` tells why the line cannot be used."""
    with _opened(path) as stream:
        for number, value in json_lines(stream):
            yield f"{path}:{number}", value


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with readable(), open_regular(path) as stream:
            yield unpacked(path, stream)
    except BadRecordError as problem:
        raise InvalidInputError(f"{path}: {problem}") from None


def _json_list(path: Path) -> Iterator[tuple[Place, Any]]:
    """Yield the members of a JSON list, each with the line that it begins at."""
    with _opened(path) as stream:
        for line, value in json_items(stream):
            if isinstance(value, BadRecordError):
                raise InvalidInputError(f"{path}:{line}: {value} (JSON lines belong in a file named .jsonl)")
            yield f"{path}:{line}", value


def _checked_rows(rows: Iterable[tuple[Place, Any]], skipped: list[Skipped], oddities: Counter[str]) -> list[_Draft]:
    drafts = []
    for place, value in rows:
        try:
            drafts.append(_draft(place, value, oddities))
        except BadRecordError as problem:
            skipped.append(Skipped(place, str(problem)))
    return drafts


def _draft(place: Place, value: Any, oddities: Counter[str]) -> _Draft:  # noqa: ANN401
    if isinstance(value, BadRecordError):
        raise value
    if not isinstance(value, dict):
        raise BadRecordError(f"it is not a JSON object but {type(value).__name__}")
    question = value.get("question", value.get("text"))
    if not isinstance(question, str) or not question.strip():
        raise BadRecordError(f"'question' is blank or no string ({question!r:.60})")
    groups = {
        name: [_passage(entry, key) for key in keys for entry in _listed(value, key)] for name, keys in _GROUPS.items()
    }
    answers = _answers(value)
    if not groups["positives"] and not answers:
        raise BadRecordError("it has no positive passage, and no answer to find one by")
    if not groups["positives"]:
        oddities["no positive passage, only answers"] += 1
    return _Draft(place, question.strip(), answers, groups)


def _listed(value: Mapping[str, Any], key: str) -> list[Any]:
    entries = value.get(key)
    if entries is None:
        return []
    if key == "labels" and isinstance(entries, dict):  # grades by id
        return list(entries)
    if not isinstance(entries, list):
        raise BadRecordError(f"{key!r} is not a list ({entries!r:.60})")
    return entries


def _answers(value: Mapping[str, Any]) -> tuple[str, ...]:
    answers = _listed(value, "answers")
    for answer in answers:
        if not isinstance(answer, str):
            raise BadRecordError(f"'answers' holds {answer!r:.60}, which is no string")
        if not answer.strip():
            raise BadRecordError("'answers' holds a blank one, which every passage would contain")
    return tuple(dict.fromkeys(answers))


def _passage(entry: Any, key: str) -> KnownPassage | str:  # noqa: ANN401
    """Return a passage, or the id under which one is to be found."""
    if isinstance(entry, BadRecordError):
        raise entry
    if isinstance(entry, str | int) and not isinstance(entry, bool):
        return str(entry)
    if not isinstance(entry, dict):
        raise BadRecordError(f"{key!r} holds {entry!r:.60}, which is neither a passage nor an id")
    named = next((entry[name] for name in ("passage_id", "psg_id", "id", "_id") if entry.get(name)), "")
    title, text = entry.get("title") or "", entry.get("text")
    if text is None and named:
        return str(named)
    if not isinstance(title, str):
        raise BadRecordError(f"{key!r}: a title is {title!r:.60}, which is no string")
    if not isinstance(text, str) or not text.strip():
        raise BadRecordError(f"{key!r}: a passage's 'text' is blank or no string ({text!r:.60})")
    for score in (entry.get("score"), entry.get("title_score")):
        if isinstance(score, float) and not math.isfinite(score):
            raise BadRecordError(f"{key!r}: a score is {score}")
    return KnownPassage(str(named) or hash_of(title, text), title, text)


def _beir(folder: Path, split: str, corpus: dict[str, KnownPassage] | None, skipped: list[Skipped]) -> list[_Draft]:
    """Return the labelled questions of a split, passages by id; `corpus` takes the passages, unless it is None."""
    labels: dict[str, list[str]] = {}
    path = folder / "qrels" / f"{split}.tsv"
    if not path.is_file():
        there = ", ".join(sorted(other.stem for other in folder.glob("qrels/*.tsv"))) or "none"
        raise InvalidInputError(f"{path} is missing: the splits in {folder} are {there}")
    with path.open(encoding="utf-8", newline="") as lines:
        for number, row in enumerate(csv.DictReader(lines, delimiter="\t"), start=2):
            try:
                if float(row["score"]) > 0:
                    labels.setdefault(row["query-id"], []).append(row["corpus-id"])
            except (KeyError, TypeError, ValueError):
                skipped.append(Skipped(f"{path}:{number}", f"it is not query-id, corpus-id, score ({row!r:.80})"))
    if corpus is not None:
        for place, value in _json_lines(_either(folder, "corpus.jsonl")):
            passage = attempt(_passage, value, "corpus.jsonl")
            if isinstance(passage, KnownPassage):
                corpus[passage.id] = passage
            else:
                skipped.append(Skipped(place, f"it is no passage with _id and text ({passage})"))
    drafts = []
    for place, value in _json_lines(_either(folder, "queries.jsonl")):
        try:
            positives = labels.pop(str(value.get("_id")), None) if isinstance(value, dict) else None
            if positives is not None:
                drafts.append(_draft(place, value | {"positives": positives}, Counter()))
        except BadRecordError as problem:
            skipped.append(Skipped(place, str(problem)))
    skipped.extend(Skipped(str(path), f"question {name!r} is labelled, but not in queries.jsonl") for name in labels)
    return drafts


def _either(folder: Path, name: str) -> Path:
    path = next((folder / option for option in (name, f"{name}.gz") if (folder / option).is_file()), None)
    if path is None:
        raise InvalidInputError(f"{folder / name} is missing (also as .gz): it is not a folder in the form of BEIR")
    return path


# Passages of a row


def _look_up(
    drafts: Sequence[_Draft], find: Find | None, passages: dict[str, KnownPassage]
) -> Mapping[str, Sequence[KnownPassage]]:
    """Find what is named by id and not known yet."""
    named = {entry for draft in drafts for group in draft.groups.values() for entry in group if isinstance(entry, str)}
    wanted = sorted(named - passages.keys())
    found = find(wanted) if find is not None and wanted else {}
    for group in found.values():
        passages.update((passage.id, passage) for passage in group)
    return found


def _resolved(
    draft: _Draft,
    passages: dict[str, KnownPassage],
    found: Mapping[str, Sequence[KnownPassage]],
    oddities: Counter[str],
) -> Example:
    """Return the example with ids in place of passages; a negative that is a positive too is dropped."""
    ids: dict[str, list[str]] = {}
    for name, group in draft.groups.items():
        ids[name] = []
        for entry in group:
            if isinstance(entry, KnownPassage):
                ids[name].append(_kept(entry, passages))
            elif entry in found:
                meant = found[entry] if name != "positives" else _answering(found[entry], draft.answers)
                ids[name].extend(passage.id for passage in meant)
            elif entry in passages:
                ids[name].append(entry)
            elif name == "positives":
                raise BadRecordError(f"the positive passage {entry!r} is not stored: add it, or correct the id")
            else:
                oddities["a negative passage that is not stored: left out"] += 1
    positives = tuple(dict.fromkeys(ids["positives"]))
    holds = answer_matcher(draft.answers)
    if draft.answers and positives and not any(holds(passages[identity].text) for identity in positives):
        oddities["no positive passage holds an answer"] += 1
    same = {passages[identity].same for identity in positives}
    for name in ("hard_negatives", "negatives"):
        kept = [identity for identity in dict.fromkeys(ids[name]) if passages[identity].same not in same]
        if len(kept) < len(set(ids[name])):
            oddities["a negative passage that is a positive too: left out"] += 1
        ids[name] = kept
    return Example(
        draft.place, draft.question, positives, tuple(ids["hard_negatives"]), tuple(ids["negatives"]), draft.answers
    )


def _answering(passages: Sequence[KnownPassage], answers: Sequence[str]) -> Sequence[KnownPassage]:
    """Return those of a document's passages that hold an answer; all of them where none does."""
    holds = answer_matcher(answers)
    return [passage for passage in passages if holds(passage.text)] or passages


def _kept(passage: KnownPassage, passages: dict[str, KnownPassage]) -> str:
    """Keep a passage that came with its row; one of the same id and another text is known by its content."""
    known = passages.setdefault(passage.id, passage)
    if (known.title, known.text) != (passage.title, passage.text):
        identity = hash_of(passage.title, passage.text)
        passages[identity] = replace(passage, id=identity)
        return identity
    return passage.id


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
    )
