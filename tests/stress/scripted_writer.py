"""A process that works through an endless seeded script on a table and journals what the library reports as done.

`script` says what every step does and what the table must hold after it; `work` does the steps; `Journal` is the file
in which they are recorded, each line on disk before the work goes on. Limits of the library are set low, so that few
documents cause many commits, merges and trainings.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import dpr_lance
from dpr_lance import HashEncoder, WordSplitter
from dpr_lance.ingest import embedding, ingestion
from dpr_lance.ingest.embedding import ProgressCallback
from dpr_lance.records.reports import Progress
from dpr_lance.table.index_policy import IndexPolicy
from tests.tables import opened

KINDS = ("add", "text", "embed", "optimize", "reembed", "delete")
WEIGHTS = (6, 3, 2, 2, 2, 1)
DIMENSIONS = (32, 48)
"""Widths between which the script re-embeds; the first is that of a new table."""
BLOCK_WORDS = 8
MOST_BLOCKS = 6
STEP_DOCUMENTS = 30
BATCH_DOCUMENTS = 8
VOCABULARY = ("river", "mountain", "glacier", "valley", "forest", "island", "desert", "canyon", "lake", "meadow")


@dataclass(frozen=True, slots=True)
class Stored:
    """What the table holds of one document: its passages' texts, and which of them have a vector."""

    title: str
    blocks: tuple[str, ...]
    year: int
    embedded: tuple[bool, ...] = ()

    @property
    def content(self) -> tuple[str, tuple[str, ...], int]:
        """All but the vectors."""
        return self.title, self.blocks, self.year

    @property
    def with_vector(self) -> set[tuple[str, str]]:
        """Title and text of the passages that have a vector."""
        return {(self.title, block) for block, there in zip(self.blocks, self.embedded, strict=True) if there}

    def document(self, name: str) -> dict[str, Any]:
        """The document as `add` takes it."""
        return {"id": name, "title": self.title, "text": " ".join(self.blocks), "year": self.year}


State = dict[str, Stored]


@dataclass(frozen=True, slots=True)
class Step:
    """One call: `add` and `text` (`add` without vectors) take documents, `delete` names, `reembed` a dimension."""

    number: int
    kind: str
    documents: Mapping[str, Stored] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    dimension: int = 0


def script(seed: int) -> Iterator[tuple[Step, State]]:
    """Yield steps without end, each with what the table holds after it."""
    state: State = {}
    dimension = DIMENSIONS[0]
    for number in itertools.count():
        choice = random.Random(f"{seed}/{number}")
        kind = "add" if number == 0 else choice.choices(KINDS, WEIGHTS)[0]
        step = Step(number, kind)
        if kind in ("add", "text"):
            step = Step(number, kind, documents=_written(choice, state, number))
        elif kind == "delete":
            step = Step(number, kind, names=tuple(choice.sample(sorted(state), min(3, len(state)))))
        elif kind == "reembed":
            dimension = DIMENSIONS[1] if dimension == DIMENSIONS[0] else DIMENSIONS[0]
            step = Step(number, kind, dimension=dimension)
        state = after(step, state)
        yield step, state


def states(seed: int, last: int) -> tuple[Step, State, State]:
    """Return step `last` of the script, what the table holds before it, and after it."""
    before: State = {}
    for step, state in script(seed):
        if step.number == last:
            return step, before, state
        before = state
    raise AssertionError("the script has no end")


def after(step: Step, state: State) -> State:
    """Return what the table holds after a step, when it held `state` before."""
    changed = dict(state)
    for name, document in step.documents.items():
        changed[name] = with_vectors(document, state.get(name), all_of_them=step.kind == "add")
    for name in step.names:
        del changed[name]
    if step.kind in ("embed", "reembed"):
        changed = {name: with_vectors(stored, stored, all_of_them=True) for name, stored in changed.items()}
    return changed


def with_vectors(document: Stored, old: Stored | None, *, all_of_them: bool) -> Stored:
    """Return the document with vectors: those of unchanged passages are kept."""
    kept = old.with_vector if old else set()
    flags = tuple(all_of_them or (document.title, block) in kept for block in document.blocks)
    return Stored(document.title, document.blocks, document.year, flags)


def _written(choice: random.Random, state: State, number: int) -> dict[str, Stored]:
    """Return documents of one `add`: new ones, changed ones, ones of changed metadata or title, unchanged ones."""
    count = choice.choice((1, 3, STEP_DOCUMENTS, STEP_DOCUMENTS, 2 * STEP_DOCUMENTS))
    names = [f"doc{choice.randrange(200)}" for _ in range(count)]
    written: dict[str, Stored] = {}
    for name in names:
        old = state.get(name)
        how = "new" if old is None else choice.choice(("text", "text", "year", "title", "same", "same"))
        if old is None or how == "text":
            old_blocks = old.blocks if old else ()
            blocks = [
                old_blocks[at] if at < len(old_blocks) and choice.random() < 0.5 else _block(choice, name, number, at)
                for at in range(choice.randint(1, MOST_BLOCKS))
            ]
            written[name] = Stored(old.title if old else f"Title of {name}", tuple(blocks), number)
        elif how == "year":
            written[name] = Stored(old.title, old.blocks, number)
        elif how == "title":
            written[name] = Stored(f"Title {number} of {name}", old.blocks, old.year)
        else:
            written[name] = Stored(old.title, old.blocks, old.year)
    return written


def _block(choice: random.Random, name: str, number: int, at: int) -> str:
    """Return the text of one passage, which names its document, the step that wrote it, and its place."""
    return " ".join([name, f"step{number}", f"part{at}", *choice.choices(VOCABULARY, k=BLOCK_WORDS - 3)])


@dataclass(frozen=True, slots=True)
class Journal:
    """A file of JSON lines, each on disk before `write` returns; a line that was cut off by a kill is skipped."""

    path: Path

    def write(self, event: str, **values: object) -> None:
        """Append one record."""
        with self.path.open("ab") as file:
            # A cut-off line must not swallow the next one.
            file.write(b"\n" + json.dumps({"event": event, **values}).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> list[dict[str, Any]]:
        """Return all whole records."""
        records = []
        for line in self.path.read_bytes().splitlines() if self.path.exists() else []:
            try:
                records.append(json.loads(line))
            except ValueError:
                continue
        return records

    def done(self) -> int:
        """Return how many steps were reported as done."""
        return sum(record["event"] == "done" for record in self.read())


class CountingEncoder(HashEncoder):
    """Counts the passages that it encodes."""

    def __init__(self, dimension: int) -> None:
        super().__init__(dimension)
        self.passages = 0

    def encode_passages(self, passages: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """Return float32[n, d]."""
        self.passages += len(passages)
        return super().encode_passages(passages)


POLICY = IndexPolicy(
    vector_index_rows=300, rows_per_partition=100, retrain_growth=1.2, scalar_index_rows=100, fold_rows=60
)
"""A policy under which few rows are folded and trained."""


def lower_bounds() -> None:
    """Make the library commit after few rows; for this process alone."""
    ingestion.BATCH_DOCUMENTS = BATCH_DOCUMENTS
    embedding.BATCH_ROWS = 40
    embedding.ENCODE_PASSAGES = 16


def open_table(
    folder: Path, keep_versions: timedelta = timedelta(milliseconds=1)
) -> tuple[dpr_lance.Retriever, CountingEncoder]:
    """Open the table with the encoder that its vectors are of; old versions go at once, to disturb readers."""
    with dpr_lance.connect(folder) as known:
        card = known.info().encoder
    encoder = CountingEncoder(DIMENSIONS[0] if card is None else card.dimension)
    return opened(folder, encoder, policy=POLICY, keep_versions=keep_versions), encoder


def perform(retriever: dpr_lance.Retriever, step: Step, committed: ProgressCallback) -> int:
    """Do one step; `committed` receives the progress. Return how many passages a new encoder has encoded."""
    if step.kind in ("add", "text"):
        documents = (document.document(name) for name, document in step.documents.items())
        retriever.add(documents, splitter=WordSplitter(BLOCK_WORDS), embed=step.kind == "add", progress=committed)
    elif step.kind == "embed":
        retriever.embed()
    elif step.kind == "optimize":
        retriever.optimize()
    elif step.kind == "delete":
        retriever.delete(step.names)
    else:
        encoder = CountingEncoder(step.dimension)
        retriever.reembed(encoder)
        return encoder.passages
    return 0


def work(folder: str, journal_path: str, seed: int, end: int) -> None:
    """Go on with the script where the journal ends, up to step `end` exclusive: the body of a process."""
    lower_bounds()
    journal = Journal(Path(journal_path))
    first = journal.done()
    retriever, encoder = open_table(Path(folder), keep_versions=timedelta(seconds=1))
    journal.write("ready")
    for step, _ in itertools.islice(script(seed), first, end):
        journal.write("begin", step=step.number, kind=step.kind)
        started = time.perf_counter()
        encoder.passages = 0
        reported = 0

        def committed(progress: Progress, step: Step = step) -> None:
            nonlocal reported
            if progress.documents > reported:
                reported = progress.documents
                journal.write("committed", step=step.number, documents=reported)

        fresh = perform(retriever, step, committed)
        seconds = time.perf_counter() - started
        journal.write("done", step=step.number, kind=step.kind, encoded=encoder.passages + fresh, seconds=seconds)
        if step.kind == "reembed":
            retriever.close()
            retriever, encoder = open_table(Path(folder))
    retriever.close()
