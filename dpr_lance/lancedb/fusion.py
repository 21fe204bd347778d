"""The reranker `DprFusion` of LanceDB: the exact `bm25 + λ·dense` of hybrid queries (paper, section 5.1)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from lancedb.query import MatchQuery
from lancedb.rerankers import Reranker
from lancedb.table import Table

from dpr_lance.checks import refused
from dpr_lance.encoders.encoding import encoded_questions
from dpr_lance.encoders.vectors import Vector, vectors_of
from dpr_lance.errors import InvalidInputError
from dpr_lance.lancedb.embedding_function import DprEmbeddings
from dpr_lance.search.fusion import RowIds, Scores, fused_scores
from dpr_lance.search.resident import row_ids_of

ROW_ID, RELEVANCE = "_rowid", "_relevance_score"


class DprFusion(Reranker):  # type: ignore[misc]
    """Orders the union of both result lists by `bm25 + λ·dense`, every row with both exact scores.

        table.search(question, query_type="hybrid").rerank(DprFusion(table)).limit(100).to_arrow()

    LanceDB gives a reranker scores that it has scaled to 0..1 within each list, and none where a row is in one list
    only. So this one asks the table: inner products come from the stored vectors and E_Q of the question, BM25 scores
    from a second full-text query among these rows. `table` is the local LanceDB table that is searched; `weight` is λ,
    None for the encoder's own; `fts_columns` as for `table.search`.

    The candidates are LanceDB's: the best `limit` rows of each list, so ask for 100 and take the first few. Rows that
    the full-text index does not cover yet have scores that differ a little. A row without a vector gets the lowest
    inner product of the rows.
    """

    def __init__(
        self,
        table: Table,
        *,
        weight: float | None = None,
        vector_column: str | None = None,
        fts_columns: str | list[str] | None = None,
        return_score: str = "relevance",
    ) -> None:
        super().__init__(return_score)
        if not isinstance(table, Table):
            raise refused("table", table, "give the table that is searched, as lancedb.connect(...).open_table(...)")
        if weight is not None and (isinstance(weight, bool) or not isinstance(weight, int | float) or not weight >= 0):
            raise refused("weight", weight, "give λ, a number of 0 or more")
        self.table = table
        self.vector_column, self._function = _embedded_column(table, vector_column)
        self.weight = self._function.loaded().card.hybrid_weight if weight is None else float(weight)
        self.fts_columns = fts_columns

    def __str__(self) -> str:
        return f"DprFusion(weight={self.weight:g})"

    def rerank_hybrid(self, query: Any, vector_results: pa.Table, fts_results: pa.Table) -> pa.Table:  # noqa: ANN401
        """Return the rows of both lists by their fused scores, best first; LanceDB calls it."""
        rows = united(self, vector_results, fts_results)
        return ordered(self, rows, self.scores(query, rows))

    def scores(self, query: Any, rows: pa.Table) -> Scores:  # noqa: ANN401 - what LanceDB takes as a full-text query
        """Return `bm25 + λ·dense` of rows with `_rowid` for a question: float64[rows]."""
        if not rows.num_rows:
            return np.empty(0)
        row_ids = row_ids_of(rows)
        return fused_scores(self._dense(question_of(query), row_ids), self._bm25(query, row_ids), self.weight)

    def _dense(self, question: str, row_ids: RowIds) -> Scores:
        vector: Vector = encoded_questions(self._function.loaded(), [question])[0]
        taken = self.table.take_row_ids(np.unique(row_ids).tolist()).with_row_id().select([self.vector_column])
        stored = taken.to_arrow()
        column = stored[self.vector_column]
        there = column.is_valid().to_numpy()
        products = np.multiply(vectors_of(column), vector, dtype=np.float64).sum(axis=1)
        return _aligned(row_ids, row_ids_of(stored)[there], products, np.nan)

    def _bm25(self, query: Any, row_ids: RowIds) -> Scores:  # noqa: ANN401
        search = self.table.search(query, query_type="fts", fts_columns=self.fts_columns)
        among = f"{ROW_ID} IN ({', '.join(map(str, np.unique(row_ids).tolist()))})"
        found = search.where(among).with_row_id(True).select(["_score"]).limit(len(row_ids)).to_arrow()
        return _aligned(row_ids, row_ids_of(found), found["_score"].to_numpy().astype(np.float64), 0.0)


def _aligned(wanted: RowIds, found: RowIds, scores: Scores, missing: float) -> Scores:
    by_row = dict(zip(found.tolist(), scores.tolist(), strict=True))
    return np.array([by_row.get(row, missing) for row in wanted.tolist()])


def _embedded_column(table: Table, name: str | None) -> tuple[str, DprEmbeddings]:
    """Return the vector column and its embedding function."""
    names = (
        [field.name for field in table.schema if pa.types.is_fixed_size_list(field.type)] if name is None else [name]
    )
    known = {each: config.function for each in names if (config := table.embedding_functions.get(each)) is not None}
    ours = [(each, function) for each, function in known.items() if isinstance(function, DprEmbeddings)]
    if len(ours) != 1:
        raise InvalidInputError(
            f"vector_column={name!r}: the table {table.name!r} has {len(ours)} such columns with the embedding "
            f"function 'dpr'; name one of them, or make the table with the function"
        )
    return ours[0]


def question_of(query: Any) -> str:  # noqa: ANN401 - what LanceDB takes as a full-text query
    """Return the text of a full-text query; raise `InvalidInputError` for one that is not a question."""
    text = query.query if isinstance(query, MatchQuery) else query
    if not isinstance(text, str):
        raise refused("query", query, "this reranker needs the question: search with a string or a MatchQuery")
    return text


def united(reranker: Reranker, vector_results: pa.Table, fts_results: pa.Table) -> pa.Table:
    """Return the rows of both result lists of LanceDB, each once."""
    if not vector_results.num_rows and not fts_results.num_rows:
        return vector_results
    return reranker.merge_results(vector_results, fts_results)


def ordered(reranker: Reranker, rows: pa.Table, scores: Scores) -> pa.Table:
    """Return the rows with their scores, best first, as a reranker of LanceDB returns them; ties stay in order."""
    order = pa.array(np.argsort(-scores, kind="stable"), pa.int64())
    if RELEVANCE in rows.column_names:
        rows = rows.drop_columns([RELEVANCE])
    rows = rows.append_column(RELEVANCE, pa.array(scores, pa.float32())).take(order)
    if reranker.score == "relevance":
        rows = rows.drop_columns([name for name in ("_score", "_distance") if name in rows.column_names])
    return rows
