"""Metadata of Haystack's documents as columns that filters can test.

Every document's metadata is kept whole, as JSON, in one column, and comes back as it was. For filters its values are in
columns too. A value within a mapping has the path of its keys, as in `place.country`. A key may hold values of several
kinds: each kind has a column of its own, and the first kind of a key has the column with the key's name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import quote

import pyarrow as pa
from pyarrow import types as kinds

from dpr_lance.integrations.columns import ESCAPED, column_of
from dpr_lance.integrations.literals import is_text

Kind = Literal["text", "number", "flag", "list", "time"]
"""Kinds of values. Lists are compared as JSON; times are the texts that are dates, in microseconds."""

OWN = "haystack:"
"""Prefix of the columns that are not named like a key."""
STORED = f"{OWN}document"
"""The column with what a document has besides text and vector, as JSON."""

_KINDS: tuple[Kind, ...] = ("text", "number", "flag", "list", "time")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class MetadataColumns:
    """The columns of a table by key and kind."""

    def __init__(self, types: Mapping[str, pa.DataType]) -> None:
        self._types = types
        self._plain: dict[str, str] = {name: _kind_of(kind) for name, kind in types.items()}

    def column(self, path: str, kind: Kind) -> str:
        """Return the column for values of this kind, which need not exist yet."""
        if kind not in ("list", "time"):
            plain = _plain_column(path)
            if self._plain.setdefault(plain, kind) == kind:
                return plain
        return _own_column(path, kind)

    def present(self, path: str) -> dict[str, str]:
        """Return the columns of a key that the table has, by kind; "other" is one that this store did not write."""
        found: dict[str, str] = {}
        plain = _plain_column(path)
        if plain in self._types:
            found[_kind_of(self._types[plain])] = plain
        found |= {kind: name for kind in _KINDS if (name := _own_column(path, kind)) in self._types}
        return found

    def values(self, meta: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of metadata that filters can test, by column."""
        found: dict[str, Any] = {}
        for path, value in _leaves(meta):
            kind = kind_of_value(value)
            if kind is not None:
                found[self.column(path, kind)] = value
            if isinstance(value, str) and (time := microseconds(value)) is not None:
                found[self.column(path, "time")] = time
            elif isinstance(value, list):
                found[self.column(path, "list")] = json_of_list(value)
        return found


def kind_of_value(value: object) -> Kind | None:
    """Return the kind of a value that a column holds as it is; None for any other one."""
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, int):
        return "number" if -(2**63) <= value < 2**63 else None
    if isinstance(value, float):
        return "number"
    return "text" if isinstance(value, str) else None


def json_of_list(value: list[Any]) -> str:
    """Return a list as the text by which lists are compared."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def microseconds(value: object) -> int | None:
    """Return the time of a date or time in the form of ISO 8601, UTC where it names no zone; None for another value.

    As in Haystack, at least a full date is needed: "2025" is not a time.
    """
    if isinstance(value, str):
        if not (len(value) >= 10 and value[4] == value[7] == "-" and (len(value) == 10 or value[10] in "Tt ")):
            return None
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value
    return (aware - _EPOCH) // timedelta(microseconds=1)


def _leaves(meta: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in meta.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        elif value is not None and not (isinstance(value, float) and math.isnan(value)):
            yield f"{prefix}{key}", value


def _plain_column(path: str) -> str:
    plain = column_of(path)
    return plain if not plain.startswith(OWN) else ESCAPED + quote(path, safe=" ").replace(".", "%2E")


def _own_column(path: str, kind: Kind) -> str:
    return f"{OWN}{kind}:" + quote(path, safe=" ", errors="surrogatepass").replace(".", "%2E")


def _kind_of(kind: pa.DataType) -> str:
    if is_text(kind):
        return "text"
    if kinds.is_boolean(kind):
        return "flag"
    return "number" if kinds.is_integer(kind) or kinds.is_floating(kind) else "other"
