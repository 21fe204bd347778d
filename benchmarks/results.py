"""Results: one JSON document a case, with what the tables need and where each part was measured.

Documents in `benchmarks/results/` are tracked, and written from committed code only: changed code is refused. The quick
form writes to `benchmarks/quick/`, which git ignores.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.data import REPOSITORY

TRACKED = REPOSITORY / "benchmarks" / "results"
QUICK = REPOSITORY / "benchmarks" / "quick"
DIGITS = 6
"""Significant digits that are kept."""

Parts = dict[str, dict[str, Any]]
"""What was measured, by the name of the part."""

_folder: ContextVar[Path | None] = ContextVar("folder", default=None)


class UncommittedError(RuntimeError):
    """The code differs from its commit, so that nobody could measure the same again."""


@contextmanager
def within(folder: Path) -> Iterator[None]:
    """Read and write results in this folder."""
    before = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(before)


def check_committed() -> None:
    """Raise `UncommittedError` where results would be tracked and the code is not committed."""
    commit, changed = machine.commit_state()
    if changed and _place() == TRACKED:
        raise UncommittedError(
            f"the code differs from commit {commit}: commit it first, since tracked results name the code that they "
            f"measured; `python -m benchmarks quick CASE` measures without a trace"
        )


def write(case: str, part: str, values: dict[str, Any]) -> None:
    """Store what was measured, in place of an earlier result of this part; raise `UncommittedError` as above."""
    check_committed()
    document = read(case) | {part: {"origin": machine.origin(), **values}}
    _place().mkdir(parents=True, exist_ok=True)
    parts = [f"{json.dumps(name)}: {{\n{_lines(document[name])}\n}}" for name in sorted(document)]
    path = _place() / f"{case}.json"
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def read(case: str) -> Parts:
    """Return all parts of a case that have been measured."""
    path = _place() / f"{case}.json"
    found: Parts = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def _place() -> Path:
    return _folder.get() or TRACKED


def _lines(values: dict[str, Any]) -> str:
    """Return a field a line: as short as can be, and yet a difference shows what has changed."""
    return ",\n".join(
        f" {json.dumps(key)}: {json.dumps(_short(each), ensure_ascii=False)}" for key, each in values.items()
    )


def _short(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _short(each) for key, each in value.items()}
    return [_short(each) for each in value] if isinstance(value, list | tuple) else value
