"""Hits as an Arrow table and as data frames, whose metadata columns have the types of the stored ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from dpr_lance.documents.values import UNSTORABLE, arrow_array
from dpr_lance.errors import InvalidInputError, MissingExtraError

_COLUMNS = pa.schema(
    [
        pa.field("rank", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("document_id", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("end", pa.int64(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("dense_score", pa.float64()),
        pa.field("bm25_score", pa.float64()),
        pa.field("rerank_score", pa.float64()),
    ]
)
METADATA_PREFIX = "metadata."
"""Put before the name of a metadata column that has the name of one of ours; no stored name has a dot."""


def hits_table(hits: Sequence[Mapping[str, Any]], types: Mapping[str, pa.DataType]) -> pa.Table:
    """Return one row for each hit, given by its fields; `types` are those of the stored metadata columns.

    Those of other fields are inferred.
    """
    arrays = [pa.array([hit[field.name] for hit in hits], type=field.type) for field in _COLUMNS]
    fields = list(_COLUMNS)
    for name in dict.fromkeys([*types, *(name for hit in hits for name in hit["metadata"])]):
        values = [hit["metadata"].get(name) for hit in hits]
        try:
            array = arrow_array(values, types[name]) if name in types else pa.array(values)
        except UNSTORABLE as error:
            raise InvalidInputError(f"the metadata field {name!r} of these hits fits no column ({error})") from error
        arrays.append(array)
        fields.append(pa.field(f"{METADATA_PREFIX}{name}" if name in _COLUMNS.names else name, array.type))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def pandas_frame(table: pa.Table) -> Any:  # noqa: ANN401 - pandas need not be installed
    """Return the table as a pandas data frame, whole numbers and Booleans as such where some are null."""
    try:
        import pandas as pd  # noqa: PLC0415 - optional
    except ImportError as error:
        raise MissingExtraError("to_pandas()", "pandas") from error
    nullable = {
        **{getattr(pa, name.lower())(): getattr(pd, f"{name}Dtype")() for name in _WHOLE},
        pa.bool_(): pd.BooleanDtype(),
    }
    frame = table.to_pandas()
    for field, column in zip(table.schema, table.columns, strict=True):
        if column.null_count and field.type in nullable:
            frame[field.name] = column.to_pandas(types_mapper=nullable.get)
    return frame


_WHOLE = ("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64")


def polars_frame(table: pa.Table) -> Any:  # noqa: ANN401 - polars need not be installed
    """Return the table as a polars data frame."""
    try:
        import polars as pl  # noqa: PLC0415 - optional
    except ImportError as error:
        raise MissingExtraError("to_polars()", "polars") from error
    return pl.from_arrow(table)
