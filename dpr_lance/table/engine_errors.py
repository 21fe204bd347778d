"""What LanceDB's errors mean: the disk, a missing or damaged file, another process, or a bad query."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dpr_lance.errors import DamagedTableError, DprLanceError, StorageError, TableError, is_panic
from dpr_lance.table.files import REBUILD, TableFiles

_ENGINE = ("lancedb", "lance", "pyarrow")
"""Packages of the engine: an error raised in their code is the engine's."""
_NUMBER = re.compile(r"\(os error (\d+)\)")
_PATH = re.compile(r"(/?(?:[^\s\"':,]+/)*[^\s\"':,/]+\.(?:lance|idx|manifest|arrow|txn|bin))\b")
_NOISE = re.compile(
    r"lance error: |LanceError\(\w+\): |Generic \S+ error: |^Invalid input, |,? ?/(?:root|rustc)/\S+?:\d+(?::\d+)?"
)
"""Noise in LanceDB's messages: its names for errors, and paths of its build machine."""
_CONFLICTS = ("commit conflict", "concurrent writers")
_FILES_BROKEN = ("LanceError(IO)", "LanceError(Arrow)", "corrupt", "does not appear to be a Lance file")
"""Signs of a damaged file in errors, where no file can be inspected."""

_QUERY = ("Schema error", "Query Execution error", "No field named", "Invalid user input", "Error during planning")
"""Signs of a bad query, for which the table's checksums are not compared."""

_STORAGE = {
    errno.ENOSPC: ("the disk is full", "free some space and repeat the call"),
    errno.EDQUOT: ("the disk quota is used up", "free some space and repeat the call"),
    errno.EFBIG: ("a file would be larger than this process may write", "raise `ulimit -f` and repeat the call"),
    errno.EROFS: ("the folder is read-only: it can be searched, not changed", "copy it to a folder that is not"),
    errno.EACCES: ("permission is denied", "give this user the right to read and write the folder and its files"),
    errno.EPERM: ("permission is denied", "give this user the right to read and write the folder and its files"),
    errno.ENOTDIR: ("a part of the path is a file and not a folder", "give another folder"),
    errno.EMFILE: ("too many files are open in this process", "raise `ulimit -n`, or close what is not needed"),
    errno.ENFILE: ("too many files are open on this machine", "raise its limit, or close what is not needed"),
    errno.EIO: ("the disk fails", "check the disk, and copy the folder to another one"),
}
_KEPT = "What was committed before is kept whole"


def raised_by_engine(error: BaseException) -> bool:
    """Tell whether an error was raised by LanceDB or Arrow, not by this library or a user's code."""
    if isinstance(error, DprLanceError):
        return False
    if is_panic(error):
        return True
    trace, engine = error.__traceback__, False
    while trace is not None:
        package = str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        # Frames of the standard library count for whichever called them.
        engine = package in _ENGINE if package in (*_ENGINE, "dpr_lance") else engine
        trace = trace.tb_next
    return engine and isinstance(error, Exception)


def is_conflict(error: BaseException) -> bool:
    """Tell whether LanceDB failed because another process committed at the same time."""
    return any(sign in str(error) for sign in _CONFLICTS)


def is_no_table(error: BaseException) -> bool:
    """Tell whether LanceDB found no table of a name."""
    return "was not found" in str(error)


def is_missing(error: BaseException) -> bool:
    """Tell whether LanceDB missed a file, which a clean-up has freed or which is lost."""
    return "Not found" in str(error) or _number_of(error) == errno.ENOENT


def reason_of(error: BaseException) -> str:
    """Return an error's message without LanceDB's noise."""
    return _NOISE.sub("", str(error)).strip(" .,") or type(error).__name__


def storage_error(error: BaseException, place: str) -> StorageError | None:
    """Return our error for one of the disk or the system; None for another one."""
    number = _number_of(error)
    if number not in _STORAGE:
        return None
    what, remedy = _STORAGE[number]
    path = getattr(error, "filename", None) or next(iter(_PATH.findall(reason_of(error))), None)
    named = StorageError(f"{place}: {what}{f' ({path})' if path else ''}. {_KEPT}; {remedy}")
    named.errno = number
    return named


def named(error: BaseException, files: TableFiles) -> DprLanceError:
    """Return our error for LanceDB's: of storage, of damage where the files show it, else a `TableError`."""
    if (storage := storage_error(error, files.place)) is not None:
        return storage
    of_query = any(sign in str(error) for sign in _QUERY)
    if (damage := files.first_damage(read=not of_query)) is not None:
        return DamagedTableError(f"{files.place}: {damage}; {damage.remedy}")
    reason = reason_of(error)
    if is_missing(error):
        path = next(iter(_PATH.findall(reason)), None)
        if path is not None:
            lost = files.damage_of(Path("/") / path if files.folder else Path(path), "is missing")
            return DamagedTableError(f"{files.place}: {lost}, and the latest version needs it; {lost.remedy}")
        return DamagedTableError(f"{files.place}: a file is missing ({reason}); {REBUILD}, if it is of an index")
    if is_panic(error) or (files.folder is None and any(sign in str(error) for sign in _FILES_BROKEN)):
        return DamagedTableError(
            f"{files.place}: LanceDB broke off ({reason}), as it does at damaged files; `check()` reads all files and "
            f"names the damaged ones"
        )
    return TableError(f"{files.place}: LanceDB could not do this ({reason}); `check()` shows whether files are damaged")


@contextmanager
def errors_named(files: TableFiles) -> Iterator[None]:
    """Turn the engine's errors within the block into ours."""
    try:
        yield
    except BaseException as error:
        if not raised_by_engine(error):
            raise
        raise named(error, files) from error


@contextmanager
def storage_named(place: str) -> Iterator[None]:
    """Turn the system's errors within the block, where files or folders are opened, into `StorageError`."""
    try:
        yield
    except OSError as error:
        ours = None if isinstance(error, DprLanceError) else storage_error(error, place)
        if ours is None:
            raise
        raise ours from error


def _number_of(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _NUMBER.search(str(error))
    return int(found[1]) if found else None
