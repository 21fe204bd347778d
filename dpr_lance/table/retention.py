"""What a clean-up frees: versions that were replaced long enough ago, and files left by interrupted writes.

LanceDB counts the age of a version from when it was written, by its writer's clock, and frees none where one of them is
tagged. For readers the time counts when a version was replaced: until then it was the latest one.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Collection, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

from lancedb.table import Table

KEEP_VERSIONS = timedelta(hours=1)
"""How long a version stays after it was replaced: an open plain LanceDB reader stays on its version."""

KEEP_REMOTELY = timedelta(days=1)
"""The least time where no file lock keeps clean-ups and writers apart, which must not overlap."""

MOST_VERSIONS = 500
"""Beyond this number the oldest are freed early: maintenance reads them all, at about 0.1 ms each."""

LEFTOVER_AGE = timedelta(hours=1)
"""How long a file that no version knows is kept: a plain LanceDB writer may be about to commit it."""

NOTHING = timedelta(days=36_500)
"""An age that no version has."""
_MARGIN = 600.0
"""Seconds between our look at the clock and LanceDB's, which follows its compaction."""
_FORGOTTEN = 8 * 86_400
"""Age in seconds at which LanceDB frees a file that no version knows: it waits for 7 days."""


def age_to_free(
    written: Sequence[float], tagged: Collection[int], keep: timedelta, now: float, *, most: int = MOST_VERSIONS
) -> timedelta:
    """Return the age from which LanceDB should free versions, from the times (seconds) at which they were written.

    `written` ends with the latest version. Versions that were replaced less than `keep` ago stay, and so do `tagged`
    positions. A version written by a clock that is behind counts as written when the one before it was.
    """
    latest = len(written) - 1
    replaced, kept = 0.0, []
    for position in range(latest):
        replaced = max(replaced, written[position], written[position + 1])
        young = replaced >= now - keep.total_seconds() and position >= latest - most
        if young or position in tagged:
            kept.append(written[position])
    return timedelta(seconds=max(now - min(kept) + _MARGIN, 0.001)) if kept else timedelta(milliseconds=1)


def due_age(table: Table, folder: Path | None, keep: timedelta) -> timedelta:
    """Return the age from which LanceDB should free versions of a table now; prepare its leftover files for that.

    The caller holds the locks of a local table: no process of this library is writing to `folder`.
    """
    if folder is None:
        return age_to_free(*_versions(table), max(keep, KEEP_REMOTELY), time.time())
    with contextlib.suppress(OSError):  # LanceDB frees them after 7 days anyway
        _age_leftovers(folder)
    if not _many_are_due(folder, keep):
        return NOTHING
    written, tagged = _versions(table)
    return age_to_free(written, tagged, keep, time.time())


def _versions(table: Table) -> tuple[list[float], set[int]]:
    versions = sorted(table.list_versions(), key=lambda version: int(version["version"]))
    tags = {int(tag["version"]) for tag in table.tags.list().values()}
    tagged = {position for position, version in enumerate(versions) if int(version["version"]) in tags}
    return [version["timestamp"].timestamp() for version in versions], tagged


def _many_are_due(folder: Path, keep: timedelta) -> bool:
    """Tell whether an eighth of the versions can go, by the dates of their files: asking LanceDB takes far longer."""
    dates = sorted(path.stat().st_mtime for path in _manifests(folder))
    limit = time.time() - keep.total_seconds()
    due = max(sum(date < limit for date in dates[1:]), len(dates) - 1 - MOST_VERSIONS)
    return due >= max(1, len(dates) // 8)


def _age_leftovers(folder: Path) -> None:
    """Give files that no version knows and that are an hour old a date at which LanceDB frees them.

    LanceDB frees no file that a version knows, so a mistake here does no harm.
    """
    limit = time.time() - LEFTOVER_AGE.total_seconds()
    suspects = {path: name for path, name in _named_files(folder) if path.stat().st_mtime < limit}
    for manifest in sorted(_manifests(folder)):  # the latest one first, which knows most
        if not suspects:
            return
        known = manifest.read_bytes()
        suspects = {path: name for path, name in suspects.items() if name not in known}
    for path in suspects:
        os.utime(path, (limit - _FORGOTTEN, limit - _FORGOTTEN))


def _named_files(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield the files of data and indexes, with the name by which a manifest knows each."""
    for path in _within(folder / "data"):
        yield path, path.name.encode()
    for index in _within(folder / "_indices"):
        with contextlib.suppress(ValueError):  # no index of LanceDB's
            name = uuid.UUID(index.name).bytes
            for path in _within(index):
                yield path, name


def _manifests(folder: Path) -> list[Path]:
    return [path for path in _within(folder / "_versions") if path.suffix == ".manifest"]


def _within(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
