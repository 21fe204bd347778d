"""Where a database lies: the folder or the address that `connect` is given."""

from __future__ import annotations

import os
from pathlib import Path

from dpr_lance.errors import InvalidInputError


def checked_address(uri: str | os.PathLike[str]) -> tuple[str, Path | None]:
    """Return what LanceDB is given and the local folder, if it is one; raise for a path that cannot be ours."""
    if isinstance(uri, str) and ("://" in uri):
        return uri, None
    if not isinstance(uri, (str, os.PathLike)) or not os.fspath(uri):
        raise InvalidInputError(f"connect({uri!r}): give a folder, 'memory://', or an object store's address")
    folder = Path(uri).expanduser().absolute()
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
