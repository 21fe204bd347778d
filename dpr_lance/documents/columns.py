"""Metadata of a batch of documents as columns: which values fit, which widen a column, which are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from pyarrow import types as kinds

from dpr_lance.documents.column_casts import cast_expression
from dpr_lance.documents.document import Document
from dpr_lance.documents.field_types import UnstorableError, declared_type, is_conditional, stored_type, takes, widened
from dpr_lance.documents.values import PLAIN, UNSTORABLE, arrow_array, encoded, python_values

Stored = Callable[[str], Iterable[pa.ChunkedArray]]
"""Gives the stored values of a column, part by part."""
_Fit = tuple[pa.DataType, "pa.Array | None"]


@dataclass(frozen=True, slots=True)
class Columns:
    """The metadata of some documents in their order, and the columns that the table needs for it."""

    arrays: Mapping[str, pa.Array]
    """By field name, in the future type of the table's column."""
    new: tuple[pa.Field, ...] = ()
    wider: tuple[pa.Field, ...] = ()


@dataclass(slots=True)
class ColumnFitting:
    """Fits documents' metadata into a table's columns; documents that do not fit are refused one by one.

    `refuse` is called with the name of a document and the reason; it may raise.
    """

    fields: Sequence[pa.Field]
    """The metadata columns that the table has."""
    stored: Stored
    refuse: Callable[[str, str], None]
    _refused: set[str] = field(default_factory=set)

    def fit(self, documents: Mapping[str, Document]) -> tuple[dict[str, Document], Columns]:
        """Return the documents that fit, by name, and their metadata as columns."""
        columns = {column.name: column.type for column in self.fields}
        names = dict.fromkeys(
            name for document in documents.values() for name, value in document.metadata.items() if value is not None
        )
        fits = {name: self._fit(documents, name, columns.get(name)) for name in names}
        kept = {key: document for key, document in documents.items() if key not in self._refused}
        arrays, new, wider = {}, [], []
        for name, (kind, made) in fits.items():
            if kinds.is_null(kind):
                continue
            if made is None or len(made) != len(kept):
                values = [document.metadata.get(name) for document in kept.values()]
                array = arrow_array(values, stored_type(kind))
            else:
                array = made
            arrays[name] = array
            if name not in columns:
                new.append(pa.field(name, array.type))
            elif columns[name] != array.type:
                wider.append(pa.field(name, array.type))
        return kept, Columns(arrays, tuple(new), tuple(wider))

    def _fit(self, documents: Mapping[str, Document], name: str, column: pa.DataType | None) -> _Fit:
        """Return the declared type that the column needs (null where unknown), and the values if all fit."""
        there = {key: document for key, document in documents.items() if key not in self._refused}
        values = {key: document.metadata.get(name) for key, document in there.items()}
        types = {key: _type_in(there[key], name, value) for key, value in values.items() if value is not None}
        now = pa.null() if column is None else declared_type(column)
        distinct = list({id(kind): kind for kind in types.values()}.values())
        together = self._together(name, list(values.values()), distinct, now, column)
        if together is not None:
            return together
        return self._one_by_one(name, {key: (values[key], kind) for key, kind in types.items()}, now, column), None

    def _together(
        self, name: str, values: list[Any], types: list[pa.DataType], now: pa.DataType, column: pa.DataType | None
    ) -> _Fit | None:
        if len(types) == 1 and (kinds.is_null(now) or types[0] == now):
            array = _array(values, types[0])
            return None if array is None or not self._survives(name, column, now, types[0]) else (types[0], array)
        fitting: pa.DataType | None = now
        wide: pa.DataType | None = now
        for kind in types:
            if fitting is not None and not takes(fitting, kind):
                fitting = widened(fitting, kind)
            wide = None if wide is None else widened(wide, kind)
        for target in dict.fromkeys((fitting, wide)):
            if target is None or (array := encoded(values, target)) is None:
                continue
            if self._survives(name, column, now, target):
                return target, array
        return None

    def _one_by_one(
        self,
        name: str,
        present: Mapping[str, tuple[Any, pa.DataType]],
        now: pa.DataType,
        column: pa.DataType | None,
    ) -> pa.DataType:
        """Return the type that takes the values of as many documents as possible, the earlier ones first."""
        first = now
        kept: list[Any] = []
        for key, (value, kind) in present.items():
            for target in (now if takes(now, kind) else None, widened(now, kind)):
                if target is None or encoded([value], target) is None:
                    continue
                if is_conditional(now, target) and encoded(kept, target) is None:
                    continue
                if not self._survives(name, column, first, target):
                    continue
                now = target
                kept.append(value)
                break
            else:
                shown = kind if kinds.is_null(now) else stored_type(now)
                self._refused.add(key)
                self.refuse(
                    key, f"the metadata field {name!r} is {value!r:.60}, the table holds {shown} there; convert it"
                )
        return now

    def _survives(self, name: str, column: pa.DataType | None, now: pa.DataType, target: pa.DataType) -> bool:
        """Tell whether the stored values are unchanged in a wider column."""
        if column is None or target == now:
            return True
        try:
            cast_expression(name, column, stored_type(target))
        except UnstorableError:
            return False
        if not is_conditional(now, target):
            return True
        return all(encoded(python_values(part), target) is not None for part in self.stored(name))


def _type_in(document: Document, name: str, value: object) -> pa.DataType:
    # A struct type without fields is false.
    kind = document.types.get(name)
    return PLAIN[type(value)] if kind is None else kind


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array | None:
    """Return values of a declared type as an array of the stored type; None when one of them does not fit."""
    try:
        return arrow_array(values, stored_type(kind))
    except UNSTORABLE:
        return None
