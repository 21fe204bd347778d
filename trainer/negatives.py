"""Mined negatives as a LanceDB table beside the one they were mined from: `passages_negatives`."""

from __future__ import annotations

from collections.abc import Sequence

import lancedb
import pyarrow as pa
from lancedb.expr import col

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


def store_negatives(uri: str, table: str, run: str, round_number: int, negatives: Sequence[Negative]) -> None:
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
    stored = lancedb.connect(uri).create_table(table + SUFFIX, schema=SCHEMA, exist_ok=True)
    stored.delete(((col("run") == run) & (col("round") == round_number)).to_sql())
    stored.add(pa.Table.from_pylist(rows, schema=SCHEMA))


def stored_negatives(uri: str, table: str, run: str, round_number: int) -> list[Negative]:
    """Return the negatives that `store_negatives` kept, in their order; [] when there are none."""
    database = lancedb.connect(uri)
    if table + SUFFIX not in database.list_tables().tables:
        return []
    chosen = (col("run") == run) & (col("round") == round_number)
    rows = database.open_table(table + SUFFIX).search().where(chosen).limit(None).to_arrow().to_pylist()
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
        for row in rows
    ]
