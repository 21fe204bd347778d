"""The reranker `DprReader` of LanceDB: results scored again by a reader (paper, section 6)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from lancedb.rerankers import Reranker

from dpr_lance.checks import checked_text, refused
from dpr_lance.errors import InvalidInputError
from dpr_lance.lancedb.fusion import DprFusion, ordered, question_of, united
from dpr_lance.reader.choice import Rerankers, RerankSource, checked_reranker, default_weight, name_of
from dpr_lance.reader.reranker import PassageText
from dpr_lance.reader.scoring import Candidates, scores_of
from dpr_lance.search.fusion import Scores
from dpr_lance.search.reranking import standardised

_TITLE = "title"


class DprReader(Reranker):  # type: ignore[misc]
    """Orders results by `reader + w · retrieval`, as `Retriever.search(rerank=...)` does.

        table.search(question).rerank(DprReader()).limit(30).to_arrow()

    `reader` as `rerank` of `Retriever.search`; it reads the columns `text` and `title` (None, or a missing "title":
    no titles), so a `select` must name them. Retrieval is the distance of a vector search, the score of a full-text
    search, and in hybrid queries the score of `fusion`, without which the reader alone decides. These are standardised
    over the results; `weight` is w, None for the reader's own. All results are scored: `limit` bounds the time.
    A row without text comes last.
    """

    def __init__(
        self,
        reader: RerankSource = True,
        *,
        text: str = "text",
        title: str | None = _TITLE,
        weight: float | None = None,
        fusion: DprFusion | None = None,
        return_score: str = "relevance",
    ) -> None:
        super().__init__(return_score)
        if reader in (None, False):
            raise refused("reader", reader, "name the reader to use; True is the packaged one")
        self.text = checked_text(text, name="text", place="DprReader")
        self.title = title if title is None else checked_text(title, name="title", place="DprReader")
        if fusion is not None and not isinstance(fusion, DprFusion):
            raise refused("fusion", fusion, "give a DprFusion of the table")
        if weight is not None and (isinstance(weight, bool) or not isinstance(weight, int | float) or not weight >= 0):
            raise refused("weight", weight, "give a number of 0 or more")
        self.reader = Rerankers().loaded(checked_reranker(reader, "reader"))
        self.weight = default_weight(self.reader) if weight is None else float(weight)
        self.fusion = fusion

    def __str__(self) -> str:
        return f"DprReader({name_of(self.reader)}, weight={self.weight:g})"

    def rerank_hybrid(self, query: Any, vector_results: pa.Table, fts_results: pa.Table) -> pa.Table:  # noqa: ANN401
        """Return the rows of both lists in their new order; LanceDB calls it."""
        rows = united(self, vector_results, fts_results)
        return self._reranked(query, rows, None if self.fusion is None else self.fusion.scores(query, rows))

    def rerank_vector(self, query: str, vector_results: pa.Table) -> pa.Table:
        """Return the results of a vector search in their new order; LanceDB calls it."""
        return self._reranked(query, vector_results, -_column(vector_results, "_distance"))

    def rerank_fts(self, query: Any, fts_results: pa.Table) -> pa.Table:  # noqa: ANN401
        """Return the results of a full-text search in their new order; LanceDB calls it."""
        return self._reranked(query, fts_results, _column(fts_results, "_score"))

    def _reranked(self, query: Any, rows: pa.Table, retrieval: Scores | None) -> pa.Table:  # noqa: ANN401
        texts, titles = self._texts(rows)
        readable = np.array([bool(text and text.strip()) for text in texts], dtype=np.bool_)
        pairs = zip(titles, texts, strict=True)
        passages = [PassageText(title or "", text) for title, text in pairs if text and text.strip()]
        names = [f"result {number + 1}" for number in np.flatnonzero(readable).tolist()]
        scores = np.zeros(rows.num_rows)
        if passages:
            (scores[readable],) = scores_of(self.reader, [Candidates(question_of(query), passages, names)])
            if retrieval is not None:
                scores[readable] += self.weight * standardised(retrieval[readable])
            scores[~readable] = scores[readable].min() - 1.0
        return ordered(self, rows, scores)

    def _texts(self, rows: pa.Table) -> tuple[list[str | None], list[str | None]]:
        names, absent = rows.column_names, [None] * rows.num_rows
        wanted = [self.text] if self.title in (None, _TITLE) else [self.text, self.title]
        for name in wanted:
            if name not in names and rows.num_rows:
                raise InvalidInputError(
                    f"DprReader reads the column {name!r}, and the results have {', '.join(names)}: select it, or name "
                    f"others with text=..., title=..."
                )
        return tuple(rows[name].to_pylist() if name in names else absent for name in (self.text, self.title))  # type: ignore[return-value]


def _column(rows: pa.Table, name: str) -> Scores:
    return rows[name].to_numpy().astype(np.float64) if name in rows.column_names else np.zeros(rows.num_rows)
