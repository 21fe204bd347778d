"""Pieces of Markdown: tables, where a result was measured, intervals and spreads as text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import Parts


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def where(parts: Iterable[Mapping[str, Any]]) -> str:
    """On which machines these parts were measured, and at which commits on each."""
    commits: dict[str, dict[str, None]] = {}
    for part in parts:
        commits.setdefault(part["origin"]["machine"], {})[source(part["origin"])] = None
    places = [f"{machine} (commit {'; '.join(sources)})" for machine, sources in commits.items()]
    return f"Measured on {' and on '.join(places)}."


def source(origin: Mapping[str, Any]) -> str:
    """The commit, with * when the code differed from it, and what is to be known of that code."""
    note = f", {origin['note']}" if origin.get("note") else ""
    return f"{origin['commit']}{'*' * origin['dirty']}{note}"


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Minimum, median and maximum."""
    low, middle, high = (f"{value:,.{digits}f}" for value in values)
    return f"{middle} ({low} to {high})"


def points(values: Sequence[float]) -> str:
    """A difference in points with its interval."""
    return "{:+.1f} ({:+.1f} to {:+.1f})".format(*values)


def means(intervals: Sequence[Sequence[float]]) -> str:
    """Accuracies, one at each k."""
    return " / ".join(f"{mean:.1f}" for mean, _, _ in intervals)


def in_order(parts: Parts, names: Iterable[str]) -> Parts:
    """The parts that there are, in this order."""
    return {name: parts[name] for name in names if name in parts}


def by_size(parts: Parts) -> list[dict[str, Any]]:
    """The parts whose names are sizes, the smallest first."""
    return [parts[name] for name in sorted(parts, key=int)]


def put_between_marks(mark: str, text: str, page: Path) -> None:
    """Replace what is between the marks on a page; raise `ValueError` when there are none."""
    before = page.read_text(encoding="utf-8")
    start, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    pattern = re.compile(re.escape(start) + ".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(before):
        raise ValueError(f"{page}: the lines {start!r} and {end!r}, between which the table belongs, are missing")
    after = pattern.sub(lambda _: f"{start}\n{text.strip()}\n{end}", before)
    if after != before:
        page.write_text(after, encoding="utf-8")


def megabytes(installed: Mapping[str, Any]) -> str:
    """Packages, and the weights that a user would download as well."""
    weights = installed["weights_megabytes"]
    return f"{installed['megabytes']:,.0f}" + (f" + {weights:.0f} MB" if weights else " MB")


def rounded(ratio: float) -> str:
    """A ratio in as many digits as matter."""
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.1g}"
