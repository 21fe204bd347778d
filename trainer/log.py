"""The log of a run: a JSON line per step, a bar on a terminal (elsewhere a line per minute), and a plot."""

from __future__ import annotations

import importlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dpr_lance.cli.console import progress_bar, say

LOG = "log.jsonl"
CURVES = "curves.png"
EVERY_SECONDS = 60.0


class EveryMinute:
    """Reports at most one line per minute, the first one `at_once` or after a minute."""

    def __init__(self, say: Callable[[str], None] = say, *, at_once: bool = True) -> None:
        self._say = say
        self._last = -math.inf if at_once else time.monotonic()

    def report(self, line: Callable[[], str]) -> None:
        """Report what `line` returns, when a minute has passed."""
        if time.monotonic() - self._last >= EVERY_SECONDS:
            self._say(line())
            self._last = time.monotonic()


class RunLog:
    """The log of a run in `folder`; a resumed run continues it."""

    def __init__(self, folder: Path | None, *, shown: bool = True, share: str = "in-batch") -> None:
        """Without a folder nothing is written; unless `shown`, nothing goes to standard error.

        `share` is the name of a step's accuracy.
        """
        self._share = share
        self._path = folder / LOG if folder is not None else None
        self._shown = shown
        self._lines: EveryMinute | None = None
        self._steps = self._first = 0
        self._started = 0.0
        self._progress: Progress | None = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def resume_at(self, step: int) -> None:
        """Drop what an interrupted run wrote after its last checkpoint."""
        if self._path is not None and self._path.is_file():
            kept = [json.dumps(record) for record in read_log(self._path) if record.get("step", 0) < step]
            self._path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def write(self, kind: str, **values: object) -> None:
        """Append a record of `kind`."""
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"kind": kind, **values}) + "\n")

    def step(self, number: int, values: Mapping[str, float]) -> None:
        """Record a training step, and show it."""
        self.write("step", step=number, **values)
        if self._progress is not None:
            shown = (
                f"loss {values['loss']:.3f}  {self._share} {values['accuracy']:.0%}  margin {values['margin']:.2f}  "
                f"{values['tokens_per_second']:,.0f} tokens/s"
            )
            self._progress.update(self._progress.task_ids[0], completed=number + 1, metrics=shown)
        elif self._lines is not None:
            self._lines.report(lambda: self._line(number + 1, values))

    def _line(self, done: int, values: Mapping[str, float]) -> str:
        left = (time.monotonic() - self._started) / max(1, done - self._first) * (self._steps - done)
        return (
            f"training: step {done:,} of {self._steps:,}, loss {values['loss']:.3f}, "
            f"{self._share} {values['accuracy']:.0%}, {values['tokens_per_second']:,.0f} tokens/s, "
            f"about {left / 60:,.0f} minutes left"
        )

    def evaluation(self, step: int, values: Mapping[str, float]) -> None:
        """Record an evaluation, and show it."""
        self.write("evaluation", step=step, **values)
        metrics = "  ".join(f"{name} {value:.3f}" for name, value in values.items())
        if self._progress is not None:
            self._progress.console.print(f"step {step}: {metrics}")
        elif self._lines is not None:
            say(f"training: step {step:,}: {metrics}")

    @contextmanager
    def watching(self, steps: int, done: int) -> Iterator[None]:
        """Show a bar on standard error while the block runs, or a line per minute when that is not a terminal."""
        if not self._shown:
            yield
            return
        if not sys.stderr.isatty():
            self._lines, self._steps, self._first, self._started = EveryMinute(), steps, done, time.monotonic()
            yield
            self._lines = None
            return
        columns = (
            TextColumn("training"),
            BarColumn(),
            TextColumn("{task.completed:,}/{task.total:,}"),
            TextColumn("{task.fields[metrics]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with progress_bar(*columns) as self._progress:
            self._progress.add_task("", total=steps, completed=done, metrics="")
            yield
        self._progress = None


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the records of a log; a line that a crash cut off is left out."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def draw_curves(folder: Path, *, accuracy: str = "in-batch top-1") -> Path | None:
    """Draw loss and accuracy of the steps, and the metrics of the evaluations, into a PNG.

    `accuracy` is the name of a step's accuracy. Returns None where matplotlib is not installed, or nothing has been
    logged.
    """
    try:
        figures: Any = importlib.import_module("matplotlib.figure")
    except ModuleNotFoundError:
        return None
    records = read_log(folder / LOG) if (folder / LOG).is_file() else []
    steps = [record for record in records if record["kind"] == "step"]
    evaluations = [record for record in records if record["kind"] == "evaluation"]
    if not steps:
        return None
    figure = figures.Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    at = [record["step"] for record in steps]
    left.plot(at, [record["loss"] for record in steps], linewidth=1, label="loss of the batch")
    evaluated = [record["step"] for record in evaluations]
    left.plot(evaluated, [record["nll"] for record in evaluations], "o-", label="NLL of dev questions")
    left.set(xlabel="step", ylabel="loss", ylim=(0, None))
    left.legend(frameon=False)
    right.plot(at, [100 * record["accuracy"] for record in steps], linewidth=1, color="0.8", label=accuracy)
    for name in ("top-1", "top-5", "top-20"):
        right.plot(evaluated, [100 * record[name] for record in evaluations], "o-", label=f"{name}, dev")
    right.set(xlabel="step", ylabel="per cent of questions", ylim=(0, 101))
    right.legend(frameon=False)
    path = folder / CURVES
    figure.savefig(path, dpi=120)
    return path
