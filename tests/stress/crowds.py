"""Several processes at once: writers with overlapping ids, one that optimises in a loop, one that only reads.

At the end each document is there once, whole, in the state that one of the writers has written to it last; a reader
never sees half of a document, and never an error.
"""

from __future__ import annotations

import contextlib
import random
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path

import dpr_lance
from dpr_lance import HashEncoder, LockedError, Passage, WordSplitter
from dpr_lance.records.hits import MODES
from tests.stress import scripted_writer as writer
from tests.stress.scripted_writer import Journal, State, Stored
from tests.stress.table_checks import DamageError, check_searches, stored_documents
from tests.tables import opened

DOCUMENTS = 60
"""Ids that all writers share."""
ADDED = 20
SPLITTER = WordSplitter(writer.BLOCK_WORDS)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the processes did."""

    writers: int
    adds: int
    documents: int
    passages: int
    optimised: int
    reads: int


def written_by(number: int, call: int, seed: int) -> State:
    """Return what writer `number` adds in its call: documents whose passages all name the writer and the call."""
    choice = random.Random(f"{seed}/{number}/{call}")
    return {
        name: _document(choice, name, f"writer{number}call{call}")
        for name in (f"doc{index}" for index in choice.sample(range(DOCUMENTS), ADDED))
    }


def _document(choice: random.Random, name: str, state: str) -> Stored:
    blocks = [
        " ".join([name, state, f"part{at}", *choice.choices(writer.VOCABULARY, k=writer.BLOCK_WORDS - 3)])
        for at in range(choice.randint(1, writer.MOST_BLOCKS))
    ]
    return Stored(f"Title of {name}", tuple(blocks), choice.randrange(10), (True,) * len(blocks))


def write(folder: str, number: int, calls: int, seed: int) -> None:
    """Add in this many calls: the body of a writer."""
    writer.lower_bounds()
    with opened(folder, HashEncoder(writer.DIMENSIONS[0]), policy=writer.POLICY) as retriever:
        for call in range(calls):
            documents = written_by(number, call, seed)
            report = retriever.add((stored.document(name) for name, stored in documents.items()), splitter=SPLITTER)
            if report.documents_read != ADDED:
                raise DamageError(f"writer {number}, call {call}: {report}")


def optimise(folder: str, journal: str, end: Event) -> None:
    """Optimise until `end`, and once after it, when nothing gets in the way: the body of a process."""
    writer.lower_bounds()
    times = 0
    with opened(folder, policy=writer.POLICY) as retriever:
        while not end.is_set():
            if len(retriever):
                # While writers never pause, a compaction may find no moment; nothing is lost by that.
                with contextlib.suppress(LockedError):
                    retriever.optimize()
                    times += 1
        retriever.optimize()
    Journal(Path(journal)).write("optimised", times=times + 1)


def read(folder: str, journal: str, end: Event, seed: int) -> None:
    """Search and read until `end`, and once after it: the body of a process.

    Raises `DamageError` at a document of which only a part is visible.
    """
    choice = random.Random(seed)
    reads, ended = 0, False
    with dpr_lance.connect(folder, encoder=HashEncoder(writer.DIMENSIONS[0])) as retriever:
        while not ended:
            ended = end.is_set()
            read_once(retriever, f"doc{choice.randrange(DOCUMENTS)}", choice.choice(writer.VOCABULARY))
            reads += 1
    Journal(Path(journal)).write("read", reads=reads)


def read_once(retriever: dpr_lance.Retriever, name: str, word: str) -> None:
    """Read a document and the whole table, and search in every mode."""
    seen: dict[str, list[Passage]] = {}
    for passage in retriever.passages():
        seen.setdefault(passage.document_id, []).append(passage)
    for found in (retriever.get(name), *seen.values()):
        if len({state_of(passage.text) for passage in found}) > 1 or _gaps(found):
            raise DamageError(f"only a part of a document is visible: {found}")
    for mode in MODES:
        hits = retriever.search(f"{name} {word}", 10, mode=mode)
        if len({hit.id for hit in hits}) != len(hits):
            raise DamageError(f"{mode} search returns a passage twice: {hits}")


def state_of(text: str) -> str:
    """Return the word of a passage that names its writer and the call."""
    return text.split()[1]


def _gaps(passages: list[Passage]) -> bool:
    return sorted(passage.position for passage in passages) != list(range(len(passages)))


def crowd(folder: Path, writers: int, calls: int, seed: int) -> Outcome:
    """Run this many writers, an optimiser and a reader on one new table; raise `DamageError` at any damage."""
    table, journal = str(folder / "table"), Journal(folder / "journal")
    context = get_context("spawn")
    end = context.Event()
    workers = [context.Process(target=write, args=(table, number, calls, seed)) for number in range(writers)]
    others = [
        context.Process(target=optimise, args=(table, str(journal.path), end)),
        context.Process(target=read, args=(table, str(journal.path), end, seed)),
    ]
    for process in (*workers, *others):
        process.start()
    for process in workers:
        process.join()
    end.set()
    for process in others:
        process.join()
    codes = [process.exitcode for process in (*workers, *others)]
    if any(codes):
        raise DamageError(f"seed {seed}: exit codes {codes} (writers, optimiser, reader)")
    stored = stored_documents(Path(table))
    check_states(stored, writers, calls, seed)
    check_searches(Path(table), f"seed {seed}", stored)
    counts = {name: count for record in journal.read() for name, count in record.items() if name != "event"}
    return Outcome(
        writers=writers,
        adds=writers * calls,
        documents=len(stored),
        passages=sum(len(document.blocks) for document in stored.values()),
        optimised=counts["times"],
        reads=counts["reads"],
    )


def check_states(stored: State, writers: int, calls: int, seed: int) -> None:
    """Raise unless all documents are there, each in the state that some writer has written to it last."""
    last: dict[str, list[Stored]] = {}
    for number in range(writers):
        mine: State = {}
        for call in range(calls):
            mine |= written_by(number, call, seed)
        for name, document in mine.items():
            last.setdefault(name, []).append(document)
    if stored.keys() != last.keys():
        raise DamageError(f"seed {seed}: {sorted(stored.keys() ^ last.keys())} are missing or too many")
    for name, document in stored.items():
        if document not in last[name]:
            raise DamageError(f"seed {seed}: {name} is {document}, which no writer wrote last")
