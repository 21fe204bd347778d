"""Where a database lies: the folder or the address that `connect` is given."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from dpr_lance.checks import checked_path
from dpr_lance.errors import InvalidInputError

_FILE_SCHEME = re.compile(r"file(-object-store)?:/", re.IGNORECASE)
"""How the address of a local folder begins: `file:///data/wiki`, which LanceDB also knows by a second name."""


def checked_address(uri: str | os.PathLike[str]) -> tuple[str, Path | None]:
    """Return what LanceDB is given and the local folder, if it is one; raise for a path that cannot be ours."""
    path = checked_path(uri, "uri", "give a folder, 'memory://', or an object store's address")
    if isinstance(uri, str) and _FILE_SCHEME.match(uri):
        path = Path(_folder_of(uri))
    elif isinstance(uri, str) and ("://" in uri):
        return uri, None
    folder = path.expanduser().absolute()
    if folder.is_file():
        raise InvalidInputError(
            f"connect({str(folder)!r}): that is a file; give a folder, which is created when missing"
        )
    if folder.is_dir():
        names = [path.name for path in folder.iterdir()]
        if any(not name.startswith(".") for name in names) and not any(name.endswith(".lance") for name in names):
            example = next(name for name in sorted(names) if not name.startswith("."))
            raise InvalidInputError(
                f"connect({str(folder)!r}): that folder holds other things ({example!r}, …) and no LanceDB table; "
                f"give an empty or a new folder"
            )
    return str(folder), folder


def _folder_of(uri: str) -> str:
    """Return the path that a `file:` address stands for; raise for one that names no folder of this machine."""
    parts = urlsplit(uri)
    fault = ""
    if parts.netloc not in ("", "localhost"):
        fault = f"{parts.netloc!r} stands where a host does; a local folder has three slashes, as file:///data/wiki"
    elif parts.query or parts.fragment or uri.endswith(("?", "#")):
        fault = "write '?' as %3F and '#' as %23, or give the path without 'file://'"
    elif "\0" in (path := url2pathname(parts.path)):
        fault = "a path cannot hold the character NUL"
    if fault:
        raise InvalidInputError(f"connect({uri!r}): {fault}")
    return path
