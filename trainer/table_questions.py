"""Questions for a table: their passages looked up in it, and hard negatives mined from it. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from dpr_lance.errors import InvalidInputError
from dpr_lance.records.reports import OnError, Skipped
from dpr_lance.table.address import DEFAULT_TABLE, local_folder, tables_in

from .config import Mining, Source
from .examples import Example, Examples, Find, KnownPassage, read_examples, refused
from .mining import Mined, distant_positives, mine, rank_through, with_negatives

if TYPE_CHECKING:  # LanceDB is needed where a table is
    from dpr_lance.retriever import Retriever

Log: TypeAlias = Callable[[str], None]

IDS_AT_ONCE = 2000
"""Ids in one filter."""
SHOWN_ROWS = 10
"""Skipped rows that are named; all are counted."""


@dataclass(frozen=True, slots=True)
class MineReport:
    """What `mine_table` did; `dropped` counts what each filter left out."""

    table: str
    questions: int
    negatives: int
    without: int
    """Questions that got no negative."""
    dropped: dict[str, int]
    answered: int
    """Passages that hold an answer and are not labelled: candidates for positives."""


def open_table(stack: ExitStack, uri: str, name: str, storage_options: Mapping[str, str] | None = None) -> Retriever:
    """Return the table; raises `InvalidInputError` when it has no passages."""
    from dpr_lance.connection import connect  # noqa: PLC0415

    folder = local_folder(uri)
    tables = None if folder is None else tables_in(folder)
    if tables is not None and name not in tables:
        raise InvalidInputError(f"{uri} has no table {name!r}: make it with `dpr-lance add {uri} FILE...`")
    retriever = stack.enter_context(connect(uri, table=name, storage_options=storage_options))
    if not len(retriever):
        raise InvalidInputError(f"{uri} has no passages in its table {name!r}: add documents first")
    return retriever


def read_questions(path: str, *, split: str, retriever: Retriever | None, on_error: OnError) -> Examples:
    """Read questions; those with answers alone get the best BM25 passage that holds one (paper, section 4.2)."""
    examples = read_examples(path, split=split, find=finder(retriever) if retriever else None, on_error=on_error)
    if retriever is not None:
        examples = distant_positives(retriever, examples)
    return examples


def log_oddities(examples: Examples, path: str, say: Log) -> None:
    """Report which rows were skipped, and what was corrected."""
    for problem in examples.skipped[:SHOWN_ROWS]:
        say(f"skipped: {problem.place}: {problem.reason}")
    if len(examples.skipped) > SHOWN_ROWS:
        say(f"skipped: {len(examples.skipped):,} rows of {path} in all")
    for what, count in examples.oddities.items():
        say(f"{path}: {count:,} rows: {what}")


def finder(retriever: Retriever) -> Find:
    """Return a function that finds passages of a table by the ids of passages or documents."""

    def find(names: Sequence[str]) -> dict[str, list[KnownPassage]]:
        found: dict[str, list[KnownPassage]] = {}
        wanted = set(names)
        for start in range(0, len(names), IDS_AT_ONCE):
            for passage in retriever.get(names[start : start + IDS_AT_ONCE]):
                known = KnownPassage(passage.id, passage.title, passage.text)
                for name in {passage.id, passage.document_id} & wanted:
                    found.setdefault(name, []).append(known)
        return found

    return find


def mine_table(  # noqa: PLR0913 - each argument is one choice
    uri: str,
    questions: str,
    *,
    table: str = DEFAULT_TABLE,
    storage_options: Mapping[str, str] | None = None,
    sources: Sequence[Source] = ("bm25",),
    settings: Mining | None = None,
    split: str = "train",
    on_error: OnError = "raise",
    out: str | Path | None = None,
    say: Log = lambda _: None,
) -> MineReport:
    """Mine hard negatives for questions from a table's BM25 index, and from the vectors that it stores.

    They are kept in the table `TABLE_negatives` next to it, under the name of the questions' file; `out` is a file of
    JSON lines for `train`. Raises as `read_examples` does, and `EncoderError` when dense search is not possible.
    """
    settings = settings or Mining()
    with ExitStack() as stack:
        retriever = open_table(stack, uri, table, storage_options)
        examples = read_questions(questions, split=split, retriever=retriever, on_error=on_error)
        log_oddities(examples, questions, say)

        def unencodable(row: Example, reason: str) -> None:
            if on_error == "raise":
                raise refused(questions, [Skipped(row.place, reason)])
            say(f"skipped: {row.place}: {reason}")

        found = Mined()
        for source in sources:
            rankings = rank_through(retriever, examples.rows, source, settings.depth, unencodable=unencodable)
            found += mine(examples.rows, examples.passages, rankings, settings)
    from .negatives import NegativesTable  # noqa: PLC0415

    kept = NegativesTable(uri, table, storage_options)
    kept.put(Path(questions).name, 0, found.negatives)
    if out is not None:
        _write(Path(out), with_negatives(examples, found.negatives))
    return MineReport(
        table=kept.name,
        questions=len(examples.rows),
        negatives=len(found.negatives),
        without=found.without,
        dropped=dict(found.dropped),
        answered=len(found.answered),
    )


def _write(path: Path, examples: Examples) -> None:
    with path.open("w", encoding="utf-8") as stream:
        for row in examples.rows:
            fields = ("question", "answers", "positives", "hard_negatives")
            record = {name: getattr(row, name) for name in fields}
            stream.write(json.dumps(record, ensure_ascii=False) + "\n")
