"""Raw results as JSON files; the tables in benchmarks/README.md are generated from them and from nothing else.

The quick form keeps its results, plots and tables in a place of their own, so that it never replaces larger runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import machine
from benchmarks.data import REPOSITORY

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class Place:
    """Where raw results, plots and tables go."""

    folder: Path

    @property
    def raw(self) -> Path:
        """The folder of the JSON files."""
        return self.folder / "results"

    @property
    def plots(self) -> Path:
        """The folder of the pictures."""
        return self.folder / "plots"

    @property
    def readme(self) -> Path:
        """The file of the tables."""
        return self.folder / "README.md"


MAIN = Place(REPOSITORY / "benchmarks")
QUICK = Place(REPOSITORY / "benchmarks" / "quick")
_chosen: ContextVar[Place | None] = ContextVar("chosen", default=None)


def place() -> Place:
    """Where results are read and written now."""
    return _chosen.get() or MAIN


@contextmanager
def within(chosen: Place) -> Iterator[None]:
    """Read and write there meanwhile."""
    before = _chosen.set(chosen)
    try:
        yield
    finally:
        _chosen.reset(before)


def write(case: str, part: str, values: dict[str, Any]) -> Path:
    """Store one raw result (it replaces an earlier one of the same case and part), with the machine and the time."""
    folder = place().raw
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (f"{case}-{part}.json" if part else f"{case}.json")
    record = {
        "case": case,
        "part": part,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        **values,
    }
    path.write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return path


def read(case: str) -> list[dict[str, Any]]:
    """All raw results of a case, by part."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(place().raw.glob(f"{case}*.json"))]
    return [record for record in records if record["case"] == case]


def discard(case: str) -> None:
    """Remove all raw results of a case."""
    for record in read(case):
        name = f"{case}-{record['part']}" if record["part"] else case
        (place().raw / f"{name}.json").unlink()


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def write_plot(figure: Figure, name: str) -> None:
    """Store a picture that the README shows, as small as it can be read, and the same for the same numbers."""
    folder = place().plots
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / name, dpi=80, metadata={"Software": None})


def put_in_readme(case: str, text: str, *, readme: Path | None = None) -> None:
    """Replace what stands between the marks of `case` in the README; raises `ValueError` when there are none."""
    readme = readme or place().readme
    before = readme.read_text(encoding="utf-8")
    mark, end = f"<!-- {case} -->", f"<!-- end of {case} -->"
    pattern = re.compile(re.escape(mark) + ".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(before):
        raise ValueError(f"{readme}: the lines {mark!r} and {end!r}, between which the table belongs, are missing")
    after = pattern.sub(lambda _: f"{mark}\n{text.strip()}\n{end}", before)
    if after != before:
        readme.write_text(after, encoding="utf-8")
