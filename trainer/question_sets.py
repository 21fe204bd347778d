"""The questions of a training: which train and which validate, and negatives that are mined once for a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from .batches import seed_of
from .config import Task
from .distributed import Group
from .examples import Examples
from .log import EveryMinute
from .mining import Mined, Negative, Ranking
from .table_questions import Log

HELD_OUT = 0.1
"""Share of the questions that validate when no dev questions are named."""


def read_sets(task: Task, read: Callable[[str, str], Examples], seed: int) -> tuple[list[Examples], Examples]:
    """Return the sets to train on, and the questions to validate with, which are in none of them.

    `read` returns the questions of a file, or of a split of a folder.
    """
    sets = [read(path, "train") for path in task.questions]
    limit = task.validation_questions
    if task.dev is not None:
        dev = read(task.dev, "dev")
    else:
        folder = next((path for path in task.questions if (Path(path) / "qrels" / "dev.tsv").is_file()), None)
        if folder is not None:
            dev = read(folder, "dev")
        else:
            sets[0], dev = _held_out(sets[0], limit, seed)
    order = np.random.default_rng(seed_of(seed, "dev")).permutation(len(dev.rows))[:limit]
    dev = replace(dev, rows=tuple(dev.rows[int(at)] for at in sorted(order)))
    asked = {row.question for row in dev.rows}
    return [replace(one, rows=tuple(row for row in one.rows if row.question not in asked)) for one in sets], dev


def _held_out(examples: Examples, limit: int, seed: int) -> tuple[Examples, Examples]:
    """Split the rows of a set into training and validation, the same way for the same seed."""
    count = min(limit, max(1, round(HELD_OUT * len(examples.rows))))
    order = np.random.default_rng(seed_of(seed, "held out")).permutation(len(examples.rows))
    apart = set(order[:count].tolist())
    rows = [row for at, row in enumerate(examples.rows) if at not in apart]
    held = [row for at, row in enumerate(examples.rows) if at in apart]
    return replace(examples, rows=tuple(rows)), replace(examples, rows=tuple(held))


@dataclass
class KeptNegatives:
    """The negatives of a run, in the table next to the one that they were mined from; each round is mined once."""

    task: Task
    group: Group
    say: Log
    dropped: Counter[str] = field(default_factory=Counter)
    """Mined passages that each filter left out, over all rounds."""

    def of(self, number: int, mined: Callable[[], Mined], *, reuse: bool) -> list[Negative]:
        """Return the negatives of a round; `mined` makes them first unless they are there and reused."""
        from .negatives import NegativesTable  # noqa: PLC0415 - it loads LanceDB

        task = self.task
        kept = NegativesTable(str(task.table), task.table_name, task.storage_options)
        key = str(task.work_folder.resolve())
        if self.group.first and not (reuse and kept.get(key, number)):
            found = mined()
            self.dropped.update(found.dropped)
            kept.put(key, number, found.negatives)
            dropped = ", ".join(f"{what} {count:,}" for what, count in found.dropped.items() if count)
            self.say(f"round {number}: {len(found.negatives):,} negatives; left out: {dropped or 'none'}; "
                     f"{found.without:,} questions got none")  # fmt: skip
        self.group.agree(0.0)
        return kept.get(key, number)


def watched(rankings: Iterable[Ranking], total: int, say: Log) -> Iterator[Ranking]:
    """Yield the rankings, and report their number once a minute."""
    lines = EveryMinute(say, at_once=False)
    for number, ranking in enumerate(rankings, start=1):
        yield ranking
        lines.report(partial("mining: {:,} of {:,} questions".format, number, total))
