"""What tells one table from another that has taken its place: its versions' files, and a name in its schema."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pyarrow as pa

IDENTITY_KEY = b"dpr_lance_table"
"""Key of the schema metadata under which a table has a name of its own, given when it is created."""

Mark: TypeAlias = tuple[int, int] | str | None
"""The time and size of a version's manifest, which is written once; where it is no local folder, the table's name."""

_HIGHEST = 2**64 - 1


class Revision(NamedTuple):
    """One version of one table. Numbers of versions begin again in a table that takes another's place."""

    table: int
    """Counts the tables that were found in one place, one after the other."""
    version: int
    mark: Mark


def new_identity() -> dict[bytes, bytes]:
    """Return the schema metadata that no other table has."""
    return {IDENTITY_KEY: uuid.uuid4().hex.encode()}


def identity_of(schema: pa.Schema) -> str | None:
    """Return the name that the table was given when it was created; None for one of an earlier dpr_lance."""
    value: bytes | None = (schema.metadata or {}).get(IDENTITY_KEY)
    return None if value is None else value.decode(errors="replace")


class Manifests:
    """The files of a table's versions; nothing is known of them where the table is not a local folder."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._prefix = None if folder is None else os.path.join(folder, "_versions", "")  # noqa: PTH118 - every search

    def mark(self, version: int) -> Mark:
        """Return what tells this version from another of its number; None where its file is gone or unknown."""
        if self._prefix is None:
            return None
        # LanceDB's two ways to name them; the first lists the latest version first.
        for name in (f"{_HIGHEST - version:020}", str(version)):
            try:
                found = os.stat(f"{self._prefix}{name}.manifest")  # noqa: PTH116 - every search
            except OSError:
                continue
            return found.st_mtime_ns, found.st_size
        return None

    def inode(self) -> tuple[int, int] | None:
        """Return what mostly tells the folder from another in its place; None where it is gone or not local."""
        try:
            found = None if self._folder is None else self._folder.stat()
        except OSError:
            return None
        return None if found is None else (found.st_dev, found.st_ino)
