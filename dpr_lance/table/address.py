"""The folder or the address that `connect` is given."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from dpr_lance.checks import checked_path, shown
from dpr_lance.errors import InvalidInputError
from dpr_lance.table.engine_errors import storage_error

DEFAULT_TABLE = "passages"
STATE_SUFFIX = "_dpr_lance"
"""The small table next to `passages` is `passages_dpr_lance`."""

_TABLE_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_FILE_SCHEME = re.compile(r"file(-object-store)?:/", re.IGNORECASE)
"""Prefix of the address of a local folder, as in `file:///data/wiki`; LanceDB knows a second one."""


def checked_address(uri: str | os.PathLike[str], table: str) -> tuple[str, Path | None]:
    """Return the address for LanceDB, and the local folder if it is one.

    Raises for a folder that holds anything but LanceDB's tables and hidden files, unless it has this table.
    """
    folder = local_folder(uri)
    if folder is None:
        return str(uri), None
    try:
        if folder.exists() and not folder.is_dir():
            raise InvalidInputError(
                f"connect({str(folder)!r}): that is a file; give a folder, which is created when missing"
            )
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        if (storage := storage_error(error, f"connect({str(folder)!r:.300})")) is not None:
            raise storage from error
        raise InvalidInputError(
            f"connect({str(folder)!r:.300}): the folder cannot be opened ({error.strerror or error})"
        ) from error
    others = [name for name in names if not name.startswith(".") and not name.endswith(".lance")]
    if others and f"{table}.lance" not in names:
        raise InvalidInputError(
            f"connect({str(folder)!r}): that folder holds other things ({others[0]!r}, …) and no table {table!r}; "
            f"give an empty or a new folder"
        )
    return str(folder), folder


def checked_table(name: object) -> str:
    """Return the name of a table; raise `InvalidInputError` for one that no table of passages can have."""
    if not isinstance(name, str) or not _TABLE_NAME.fullmatch(name) or name.endswith(STATE_SUFFIX):
        raise InvalidInputError(
            f"table={shown(name)}: use letters, digits, '_', '-' and '.', and no name that ends in {STATE_SUFFIX!r}"
        )
    return name


def local_folder(uri: str | os.PathLike[str]) -> Path | None:
    """Return the absolute folder that a path or a `file:` address names; None for another address."""
    path = checked_path(uri, "uri", "give a folder, 'memory://', or an object store's address")
    if isinstance(uri, str) and _FILE_SCHEME.match(uri):
        path = Path(_folder_of(uri))
    elif isinstance(uri, str) and "://" in uri:
        return None
    return path.expanduser().absolute()


def tables_in(folder: Path) -> list[str] | None:
    """Return the names of the tables in a folder, none where it is missing; None where it cannot be opened."""
    try:
        if not folder.exists():
            return []
        return sorted(path.stem for path in folder.iterdir() if path.suffix == ".lance")
    except (OSError, ValueError):
        return None  # `connect` reports what is wrong


def _folder_of(uri: str) -> str:
    """Return the path that a `file:` address names; raise for one that is not a folder of this machine."""
    from urllib.request import url2pathname  # noqa: PLC0415 - it loads the clients of HTTP and e-mail

    parts = urlsplit(uri)
    fault = ""
    if parts.netloc not in ("", "localhost"):
        fault = f"{parts.netloc!r} is read as a host; a local folder has three slashes, as file:///data/wiki"
    elif parts.query or parts.fragment or uri.endswith(("?", "#")):
        fault = "write '?' as %3F and '#' as %23, or give the path without 'file://'"
    elif "\0" in (path := url2pathname(parts.path)):
        fault = "a path cannot contain the character NUL"
    if fault:
        raise InvalidInputError(f"connect({uri!r}): {fault}")
    return path
