"""Rows of Arrow tables, data frames and Parquet files as records with the declared types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from dpr_lance.documents.field_types import UnstorableError, plain_type
from dpr_lance.documents.values import UNSTORABLE, python_records, python_values
from dpr_lance.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class ArrowRecord:
    """A row: its fields, their declared types, and why it cannot be used, None when it can."""

    fields: Mapping[str, Any]
    types: Mapping[str, pa.DataType] = field(default_factory=dict)
    problem: str | None = None


class ArrowRecords:
    """The rows of record batches of one schema."""

    def __init__(self, schema: pa.Schema, *, place: str) -> None:
        """Raise `InvalidInputError` naming `place` when two columns have one name."""
        # pandas stores a frame's index under such a name.
        self._names = [name for name in schema.names if not name.startswith("__index_level_")]
        if doubled := [name for name in self._names if self._names.count(name) > 1]:
            raise InvalidInputError(f"{place}: two columns are called {doubled[0]!r}; every column needs its own name")
        self._types: dict[str, pa.DataType] = {}
        self._unstorable: dict[str, str] = {}
        for name in self._names:
            try:
                self._types[name] = plain_type(schema.field(name).type)
            except UnstorableError as error:
                self._unstorable[name] = f"the field {name!r} cannot be stored: {schema.field(name).type} ({error})"

    def rows(self, batch: pa.RecordBatch) -> Iterator[ArrowRecord]:
        """Yield the rows of a batch, in order; each with a problem of its own where it cannot be read."""
        batch = batch.select(self._names)
        if not self._unstorable:
            try:
                batch.validate(full=True)
                records = python_records(batch, strict=True)
            except UNSTORABLE:
                pass
            else:
                yield from (ArrowRecord(fields, self._types) for fields in records)
                return
        for number in range(batch.num_rows):
            yield self._row(batch, number)

    def _row(self, batch: pa.RecordBatch, number: int) -> ArrowRecord:
        fields: dict[str, Any] = {}
        problem = None
        for name, column in zip(self._names, batch.columns, strict=True):
            try:
                value = column.slice(number, 1)
                if value.null_count:
                    fields[name] = None
                elif name in self._unstorable:
                    problem = problem or self._unstorable[name]
                else:
                    fields[name] = python_values(value, strict=True)[0]
            except UNSTORABLE as error:
                problem = problem or f"the field {name!r} cannot be read: {column.type} ({error})"
        return ArrowRecord(fields, self._types, problem)
