"""How a table is told from another one in the same place: by its versions' files and a name in its schema."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pyarrow as pa

IDENTITY_KEY = b"dpr_lance_table"
"""Key in the schema metadata of a unique name, given when the table is created."""

Mark: TypeAlias = tuple[int, int] | str | None
"""Time and size of a version's manifest, which is written once; outside local folders the table's unique name."""

_HIGHEST = 2**64 - 1


class Revision(NamedTuple):
    """One version of one table. Version numbers start again in a table that replaces another one."""

    table: int
    """Counts the tables that were found in this place."""
    version: int
    mark: Mark


def new_identity() -> dict[bytes, bytes]:
    """Return schema metadata with a unique name."""
    return {IDENTITY_KEY: uuid.uuid4().hex.encode()}


def identity_of(schema: pa.Schema) -> str | None:
    """Return the table's unique name; None for a table of an earlier dpr_lance."""
    value: bytes | None = (schema.metadata or {}).get(IDENTITY_KEY)
    return None if value is None else value.decode(errors="replace")


class Manifests:
    """The files of a table's versions; only local tables have any that we can see."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._prefix = None if folder is None else os.path.join(folder, "_versions", "")  # noqa: PTH118 - every search

    def mark(self, version: int) -> Mark:
        """Return the time and size of a version's file; None where it is gone or unknown."""
        if self._prefix is None:
            return None
        # LanceDB names them in two ways; the first lists the latest version first.
        for name in (f"{_HIGHEST - version:020}", str(version)):
            try:
                found = os.stat(f"{self._prefix}{name}.manifest")  # noqa: PTH116 - every search
            except OSError:
                continue
            return found.st_mtime_ns, found.st_size
        return None

    def inode(self) -> tuple[int, int] | None:
        """Return device and inode of the folder; None where it is gone or not local."""
        try:
            found = None if self._folder is None else self._folder.stat()
        except OSError:
            return None
        return None if found is None else (found.st_dev, found.st_ino)
