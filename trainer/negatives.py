"""Mined negatives as a LanceDB table beside the one they were mined from: `passages_negatives`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import lancedb
import pyarrow as pa
from lancedb.expr import Expr, col

from .examples import KnownPassage
from .mining import Negative

SUFFIX = "_negatives"
SCHEMA = pa.schema(
    [
        pa.field("run", pa.string(), nullable=False),
        pa.field("round", pa.int32(), nullable=False),
        pa.field("question", pa.string(), nullable=False),
        pa.field("passage_id", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("text", pa.large_string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("positive_score", pa.float32()),
        pa.field("teacher_score", pa.float32()),
    ]
)


class NegativesTable:
    """The table of mined negatives that belongs to the passages in the table `table` at `uri`."""

    def __init__(self, uri: str, table: str, storage_options: Mapping[str, str] | None = None) -> None:
        self.name = table + SUFFIX
        self._database = lancedb.connect(uri, storage_options=dict(storage_options or {}))

    def put(self, run: str, round_number: int, negatives: Sequence[Negative]) -> None:
        """Keep the negatives of a round of a run, in place of what the same round left before."""
        rows = [
            {
                "run": run,
                "round": round_number,
                "question": negative.question,
                "passage_id": negative.passage.id,
                "title": negative.passage.title,
                "text": negative.passage.text,
                "source": negative.source,
                "rank": negative.rank,
                "score": negative.score,
                "positive_score": negative.positive_score,
                "teacher_score": negative.teacher_score,
            }
            for negative in negatives
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
                question=row["question"],
                passage=KnownPassage(row["passage_id"], row["title"], row["text"]),
                source=row["source"],
                rank=row["rank"],
                score=row["score"],
                positive_score=row["positive_score"],
                teacher_score=row["teacher_score"],
                round=row["round"],
            )
            for row in chosen.to_arrow().to_pylist()
        ]


def _of(run: str, round_number: int) -> Expr:
    return (col("run") == run) & (col("round") == round_number)
