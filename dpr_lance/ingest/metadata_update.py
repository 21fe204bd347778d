"""Setting metadata of stored passages, whose text and vectors stay."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import pyarrow as pa
from lancedb.table import Table

from dpr_lance.checks import shown
from dpr_lance.documents.columns import ColumnFitting, Columns
from dpr_lance.documents.document import Document
from dpr_lance.errors import InvalidInputError
from dpr_lance.indexes.maintenance import fold
from dpr_lance.ingest.ingestion import SCHEMA_CHANGES
from dpr_lance.ingest.widening import prepare_columns, stored_values
from dpr_lance.inputs.documents import storable
from dpr_lance.table.contention import SchemaChangedError
from dpr_lance.table.filters import Filter
from dpr_lance.table.passages import Ids, meant_by
from dpr_lance.table.rows import UPDATED_HASH
from dpr_lance.table.schema import ID, metadata_fields
from dpr_lance.table.store import Store

_PLACE = "update()"


def update_metadata(store: Store, ids: Ids, where: Filter, metadata: Mapping[str, Any] | None) -> int:
    """Set these fields on the passages of `ids` or `where`, in one commit; see `Retriever.update`."""
    if not isinstance(metadata, Mapping) or not metadata:
        raise InvalidInputError(f"{_PLACE}: metadata={shown(metadata)} is not a mapping of fields to set")
    meant = meant_by(store, "update", ids, where)
    document = storable(Document("", metadata=metadata), place=_PLACE)
    if meant is None:
        return 0
    for attempt in range(1, SCHEMA_CHANGES + 1):
        fields = metadata_fields(store.schema())
        _, columns = ColumnFitting(fields, partial(stored_values, store), _refuse).fit({"": document})
        prepare_columns(store, fields, columns.new, columns.wider)
        try:
            count = store.commit(partial(_set, where=meant, metadata=metadata, columns=columns))
            break
        except SchemaChangedError:
            if attempt == SCHEMA_CHANGES:
                raise
    fold(store, bulk=False)
    return count


def _refuse(_: str, reason: str) -> None:
    raise InvalidInputError(f"{_PLACE}: {reason}")


def _set(table: Table, *, where: Filter, metadata: Mapping[str, Any], columns: Columns) -> int:
    names = table.search().where(where).select([ID]).limit(None).to_arrow()[ID]
    schema = table.schema
    fields = [schema.field(name) for name in metadata if name in schema.names]
    if any(field.name in columns.arrays and columns.arrays[field.name].type != field.type for field in fields):
        raise SchemaChangedError(f"{_PLACE}: other programs keep changing the columns: try again when they are done")
    values = [
        columns.arrays.get(field.name, pa.nulls(1, field.type)).take(pa.repeat(0, len(names))) for field in fields
    ]
    hashes = pa.repeat(UPDATED_HASH, len(names))
    rows = pa.Table.from_arrays(
        [names, hashes, *values], schema=pa.schema([schema.field(ID), schema.field("document_hash"), *fields])
    )
    if len(names):
        table.merge_insert(ID).when_matched_update_all().execute(rows)
    return len(names)
