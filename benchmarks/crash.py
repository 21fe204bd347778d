"""Case `crash`: processes that are killed (SIGKILL) at random moments, and processes that write over one another.

Kills: a worker goes through a seeded script of add, embed, optimize, reembed and delete; it is killed, the table is
opened anew and compared with the script and with what was reported as committed, and the next worker goes on. At the
end the table equals that of a run without interruption. Crowds: see `benchmarks.crowd`.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import crowd, machine, results, writer
from benchmarks.damage import DamageError, check, rows_of
from benchmarks.writer import Journal, State, Step
from dpr_lance.table.remembered import NEXT_CARD
from dpr_lance.table.store import Store

KILLS = 60
PARTS = ("kills", "crowd")
PATIENCE = 120.0
"""Seconds after which a worker that does not come to its next step has hung."""
LAST_STEPS = 5
SEEDS = 3
"""Scripts, and tables, among which the kills are divided."""
"""Steps that the last worker does without being killed."""


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill: what the worker was at (`between` steps otherwise), and how far it was."""

    kind: str
    step: int
    seconds_into_step: float


@dataclass(slots=True)
class Killing:
    """A table, its script and journal, and what has been seen of them so far."""

    folder: Path
    seed: int
    kills: list[Kill] = field(default_factory=list)
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
        """Kill so many workers, checking after each; then let one come to an end, and compare with a run without."""
        choice = random.Random(self.seed)
        while len(self.kills) < kills:
            kind = (*writer.KINDS, None)[len(self.kills) % (len(writer.KINDS) + 1)]
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
        """Record what the worker was at when it was killed, and how long its steps took."""
        records = self.journal.read()
        for record in records[start:]:
            if record["event"] == "done":
                self.durations.setdefault(record["kind"], []).append(record["seconds"])
        last = records[-1]
        begun = next((record for record in reversed(records) if record["event"] == "begin"), None)
        if last["event"] in ("begin", "committed") and begun is not None:
            self.kills.append(Kill(begun["kind"], begun["step"], time.time() - begun["time"]))
        else:
            self.kills.append(Kill("between", self.journal.done(), 0.0))

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


# The case


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this case."""
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: both)")
    parser.add_argument("--kills", type=int, default=KILLS, help=f"processes to kill (default {KILLS})")
    parser.add_argument("--seed", type=int, default=2020, help="first seed (default 2020)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Kill, and crowd; one raw file each. Returns counts; raises `DamageError` at the first damage."""
    if unknown := set(options.parts) - set(PARTS):
        raise SystemExit(f"unknown part {min(unknown)!r}; known: {', '.join(PARTS)}")
    summary = {}
    for part in options.parts or PARTS:
        values = measure_kills(options.kills, options.seed) if part == "kills" else crowd.measure(options.seed)
        results.write("crash", part, values)
        summary[part] = values["summary"]
    return summary


def measure_kills(kills: int, first_seed: int) -> dict[str, Any]:
    """Divide the kills among several scripts."""
    runs = []
    for number in range(SEEDS):
        with tempfile.TemporaryDirectory(prefix="dpr-lance-crash-") as folder:
            killing = Killing(Path(folder), first_seed + number)
            killing.run(kills * (number + 1) // SEEDS - kills * number // SEEDS)
            runs.append(killing)
            print(f"crash: seed {killing.seed}, {len(killing.kills)} kills", file=sys.stderr)
    of = Counter(kill.kind for killing in runs for kill in killing.kills)
    steps = sum(len(seconds) for killing in runs for seconds in killing.durations.values())
    summary = {"kills": of.total(), "of": dict(of), "whole_steps": steps}
    summary["encodings_compared"] = sum(killing.checked_encodings for killing in runs)
    return {
        "summary": summary,
        "seeds": [killing.seed for killing in runs],
        "kills": [asdict(kill) for killing in runs for kill in killing.kills],
    }


def tables(records: list[dict[str, Any]]) -> str:
    """The section of the README."""
    by_part = {record["part"]: record for record in records}
    parts = []
    if "kills" in by_part:
        summary = by_part["kills"]["summary"]
        rows = [[kind, str(count)] for kind, count in sorted(summary["of"].items())]
        parts += [
            f"{summary['kills']} processes killed at random moments, none with damage ({summary['whole_steps']} whole "
            f"steps besides; for {summary['encodings_compared']} of all steps the passages encoded were compared with "
            f"those that had no vector). Run on {machine.sentence(by_part['kills']['machine'])}.",
            results.table(["killed during", "times"], rows),
        ]
    if "crowd" in by_part:
        parts.append(crowd.table(by_part["crowd"]))
    return "\n\n".join(parts)
