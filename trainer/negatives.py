"""Mined negatives in a LanceDB table next to the one that they were mined from: `passages_negatives`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import lancedb
import pyarrow as pa
from lancedb.expr import Expr, col

from .examples import KnownPassage
from .mining import Negative

SUFFIX = "_negatives"
SCHEMA = pa.schema(
    {
        "run": pa.string(),
        "round": pa.int32(),
        "question": pa.string(),
        "passage_id": pa.string(),
        "title": pa.string(),
        "text": pa.large_string(),
        "source": pa.string(),
        "rank": pa.int32(),
        "score": pa.float32(),
        "positive_score": pa.float32(),
        "teacher_score": pa.float32(),
    }
)
_NULLABLE = ("positive_score", "teacher_score")
SCHEMA = pa.schema([column.with_nullable(column.name in _NULLABLE) for column in SCHEMA])
_FIELDS = ("question", "source", "rank", "score", "positive_score", "teacher_score", "round")
"""Columns that are fields of `Negative`."""


class NegativesTable:
    """The table of mined negatives that belongs to the passages in the table `table` at `uri`."""

    def __init__(self, uri: str, table: str, storage_options: Mapping[str, str] | None = None) -> None:
        self.name = table + SUFFIX
        self._database = lancedb.connect(uri, storage_options=dict(storage_options or {}))

    def put(self, run: str, round_number: int, negatives: Sequence[Negative]) -> None:
        """Keep the negatives of a round of a run; they replace earlier ones of the same round."""
        rows = [
            {name: getattr(one, name) for name in _FIELDS}
            | {"run": run, "round": round_number}
            | {"passage_id": one.passage.id, "title": one.passage.title, "text": one.passage.text}
            for one in negatives
        ]
        stored = self._database.create_table(self.name, schema=SCHEMA, exist_ok=True)
        stored.delete(_of(run, round_number).to_sql())
        stored.add(pa.Table.from_pylist(rows, schema=SCHEMA))

    def get(self, run: str, round_number: int) -> list[Negative]:
        """Return the negatives that `put` kept, in their order; [] when there are none."""
        if self.name not in self._database.list_tables().tables:
            return []
        chosen = self._database.open_table(self.name).search().where(_of(run, round_number)).limit(None)
        return [
            Negative(
                passage=KnownPassage(row["passage_id"], row["title"], row["text"]),
                **{name: row[name] for name in _FIELDS},
            )
            for row in chosen.to_arrow().to_pylist()
        ]


def _of(run: str, round_number: int) -> Expr:
    return (col("run") == run) & (col("round") == round_number)
