"""Processes that are killed (SIGKILL) at random moments while they write to a table.

A worker goes through a seeded script of add, embed, optimize, reembed and delete. It is killed, the table is opened
again and compared with the script and with what was reported as committed, and the next worker goes on. At the end the
table equals that of a run without interruption. Whenever the kills fall, all of this must hold.
"""

from __future__ import annotations

import random
import sys
import time
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from statistics import median

from dpr_lance.table.remembered import NEXT_CARD
from dpr_lance.table.store import Store
from tests.stress import scripted_writer as writer
from tests.stress.scripted_writer import Journal, State, Step
from tests.stress.table_checks import DamageError, check, rows_of

PATIENCE = 120.0
"""Seconds after which a worker that does not come to its next step has hung."""
LAST_STEPS = 5
"""Steps that the last worker does without being killed."""


@dataclass(slots=True)
class Killing:
    """A table, its script and journal, and what has been seen of them so far."""

    folder: Path
    seed: int
    kills: int = 0
    durations: dict[str, list[float]] = field(default_factory=dict)
    checked_encodings: int = 0
    _seen: tuple[int, State] | None = None
    """Step that was under way at the last check, and what the table held then."""
    _owed: tuple[int, int] | None = None
    """Step that was interrupted, and how many passages calling it again may encode."""

    @property
    def table(self) -> Path:
        """Where the table is."""
        return self.folder / "table"

    @property
    def journal(self) -> Journal:
        """What the workers have reported."""
        return Journal(self.folder / "journal")

    def run(self, kills: int) -> None:
        """Kill this many workers, checking after each; then let one finish, and compare with a run without kills."""
        choice = random.Random(self.seed)
        while self.kills < kills:
            kind = (*writer.KINDS, None)[self.kills % (len(writer.KINDS) + 1)]
            self._kill_one(choice, kind)
            self._check_life()
            step, observed = check(self.table, self.seed, self.journal, self._seen)
            self._seen = (step.number, observed)
            self._owed = (step.number, owed(step, observed, self.table))
        end = self.journal.done() + LAST_STEPS
        finish(self.table, self.journal.path, self.seed, end)
        self._check_life()
        finish(self.folder / "uninterrupted", self.folder / "uninterrupted journal", self.seed, end)
        check(self.table, self.seed, self.journal, None)
        if rows_of(self.table) != rows_of(self.folder / "uninterrupted"):
            raise DamageError(f"seed {self.seed}: after {end} steps the table differs from an uninterrupted run's")

    def _kill_one(self, choice: random.Random, kind: str | None) -> None:
        """Start a worker and kill it: at a random moment of a step of `kind`, or at any moment when None."""
        start = len(self.journal.read())
        process = started(self.table, self.journal.path, self.seed, sys.maxsize)
        try:
            self._await(process, start, "ready", None)
            if kind is not None:
                self._await(process, start, "begin", kind)
            time.sleep(choice.random() * (median(self.durations.get(kind or "", ())[-9:] or [0.3]) if kind else 1.0))
        finally:
            process.kill()
            process.join()
        if process.exitcode != -9:
            raise DamageError(f"seed {self.seed}: the worker ended by itself with exit code {process.exitcode}")
        self._note(start)

    def _await(self, process: BaseProcess, start: int, event: str, kind: str | None) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and process.is_alive():
            # A step of that kind that is already over would make the moment of the kill less random, not wrong.
            for record in self.journal.read()[start:]:
                if record["event"] == event and kind in (None, record.get("kind")):
                    return
            time.sleep(0.002)
        raise DamageError(f"seed {self.seed}: no {event!r} of {kind} by the worker (exit code {process.exitcode})")

    def _note(self, start: int) -> None:
        """Count the kill, and record how long the worker's steps took."""
        self.kills += 1
        for record in self.journal.read()[start:]:
            if record["event"] == "done":
                self.durations.setdefault(record["kind"], []).append(record["seconds"])

    def _check_life(self) -> None:
        """Compare what the last worker encoded with what had no vector, for each of its steps that came to an end."""
        records = self.journal.read()
        begin = max(at for at, record in enumerate(records) if record["event"] == "ready")
        for record in records[begin:]:
            if record["event"] != "done":
                continue
            step, before, _ = writer.states(self.seed, record["step"])
            interrupted = self._owed is not None and self._owed[0] == step.number
            expected = self._owed[1] if self._owed and interrupted else owed(step, before, None)
            if record["encoded"] != expected:
                raise DamageError(
                    f"seed {self.seed}, step {step.number} ({step.kind}, {'continued' if interrupted else 'whole'}): "
                    f"{record['encoded']} passages were encoded, {expected} had no vector"
                )
            self.checked_encodings += 1


def started(table: Path, journal: Path, seed: int, end: int) -> BaseProcess:
    """Start a worker."""
    process = get_context("spawn").Process(target=writer.work, args=(str(table), str(journal), seed, end))
    process.start()
    return process


def finish(table: Path, journal: Path, seed: int, end: int) -> None:
    """Let a worker come to the end of step `end`, exclusive."""
    process = started(table, journal, seed, end)
    process.join()
    if process.exitcode != 0:
        raise DamageError(f"seed {seed}: the worker that was not killed ended with exit code {process.exitcode}")


def owed(step: Step, stored: State, table: Path | None) -> int:
    """Return how many passages the step has to encode when the table holds `stored`: those that have no vector."""
    if step.kind == "add":
        return sum(
            len({(new.title, block) for block in new.blocks} - (stored[name].with_vector if name in stored else set()))
            for name, new in step.documents.items()
        )
    if step.kind == "embed":
        return sum(not there for document in stored.values() for there in document.embedded)
    if step.kind == "reembed":
        count = sum(len(document.blocks) for document in stored.values())
        return count if table is None else without_vector(table, step.dimension, count)
    return 0


def without_vector(folder: Path, dimension: int, count: int) -> int:
    """Return how many passages have no vector of that width yet, where a re-embedding may have been interrupted."""
    store = Store(folder, "passages")
    for card in (store.find_card(), store.remembered.card(NEXT_CARD)):
        if card is not None and card.encoder.dimension == dimension:
            return store.count(card.unembedded) if card.column in store.table.schema.names else count
    return count
