"""The methods of a `Retriever` that answer questions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import overload

from dpr_lance.inputs.questions import checked_questions
from dpr_lance.reader.choice import RerankSource
from dpr_lance.records.hits import CANDIDATES, Hits, Mode
from dpr_lance.search.options import SearchOptions
from dpr_lance.search.resident import RESIDENT_BYTES
from dpr_lance.search.searcher import Searcher
from dpr_lance.table.encoder import EncoderSource
from dpr_lance.table.filters import Filter
from dpr_lance.table.holder import TableHolder
from dpr_lance.table.store import Store


class Searchable(TableHolder):
    """A table that can be searched."""

    def __init__(
        self, store: Store, encoder: EncoderSource | None, resident_bytes: int = RESIDENT_BYTES, *, learn: bool = True
    ) -> None:
        super().__init__(store, encoder)
        self._searcher = Searcher(store, self._encoder, resident_bytes, learn=learn)

    @overload
    def search(  # type: ignore[overload-overlap]  # a string is a sequence of strings, and the first one that fits
        self,
        question: str,
        k: int = 10,
        *,
        mode: Mode | None = None,
        where: Filter = None,
        explain: bool = False,
        rerank: RerankSource = None,
        candidates: int = CANDIDATES,
        rerank_within: float | None = None,
        group_by: str | None = None,
        per_group: int = 1,
        diversity: float = 0.0,
        offset: int = 0,
        min_score: float | None = None,
    ) -> Hits: ...
    @overload
    def search(
        self,
        question: Sequence[str],
        k: int = 10,
        *,
        mode: Mode | None = None,
        where: Filter = None,
        explain: bool = False,
        rerank: RerankSource = None,
        candidates: int = CANDIDATES,
        rerank_within: float | None = None,
        group_by: str | None = None,
        per_group: int = 1,
        diversity: float = 0.0,
        offset: int = 0,
        min_score: float | None = None,
    ) -> list[Hits]: ...
    def search(  # noqa: PLR0913 - keywords, each with its default
        self,
        question: str | Sequence[str],
        k: int = 10,
        *,
        mode: Mode | None = None,
        where: Filter = None,
        explain: bool = False,
        rerank: RerankSource = None,
        candidates: int = CANDIDATES,
        rerank_within: float | None = None,
        group_by: str | None = None,
        per_group: int = 1,
        diversity: float = 0.0,
        offset: int = 0,
        min_score: float | None = None,
    ) -> Hits | list[Hits]:
        """Return the k best passages for a question, or a list of such results for a list of questions.

        `mode`: "hybrid" (`bm25 + λ·dense` over the union of both legs, with both exact scores for every candidate),
        "dense" or "bm25"; None is the mode that `calibrate` chose, else hybrid. Hybrid answers with BM25 alone, and
        gives the reason in `Hits.fallback`, when no passage has a vector or the table's encoder is not available.
        `where` filters before ranking: a `lancedb.expr` expression (`col("year") > 2000`) or a SQL string. Ties are
        ordered by id. `explain` adds `Hits.explanation` and `Hit.explanation`, and takes one extra search per word.

        `rerank`: what scores the first `candidates` hits again, each with the question at hand: True (the packaged
        reader), "late-interaction", a bundle folder, or an object with `score(question, passages)`; False is nothing,
        None what `calibrate` chose for the table, else nothing. They are ordered by `rerank_score + w · retrieval`,
        where retrieval is the score of the mode, standardised over the candidates of the question; the other hits
        follow. `rerank_within`: the seconds that this may take for a question; as many of the best are re-scored as
        fit, at least one, so that answers may depend on time. `Hits.reranked` counts them.

        `group_by`: "document_id", "title" or a metadata column; the result has the best `per_group` passages of each of
        k different values, always of k where the table has them. A passage without a value is a group of its own.
        `diversity` from 0 to 1 chooses passages that differ from those before them (maximal marginal relevance on the
        stored vectors, among the best 5·k, 50 at least): the first is the best, and the order is no longer by score.
        Both work on the re-ranked list.

        `min_score` leaves out hits with a lower `score`, and with re-ranking those that were not re-scored. `offset`
        leaves out the first of the others, or with `group_by` the first groups: the result is the end of that of
        `offset + k`, and ranks go on.

        Raises `InvalidInputError` for a blank question, a `k` below 1, an unknown mode or an unusable filter, in dense
        mode `EncoderError` when there is no encoder or no vector, and `ReaderError` when the re-ranker is not available
        or gives anything but one finite number for each passage.
        """
        self._store.check_usable()
        options = SearchOptions(
            k=k,
            mode=mode,
            where=where,
            explain=explain,
            rerank=rerank,
            candidates=candidates,
            rerank_within=rerank_within,
            group_by=group_by,
            per_group=per_group,
            diversity=diversity,
            offset=offset,
            min_score=min_score,
        ).checked()
        found = self._searcher.search(checked_questions(question), options)
        return found[0] if isinstance(question, str) else found

    async def search_async(  # noqa: PLR0913 - keywords, each with its default
        self,
        question: str,
        k: int = 10,
        *,
        mode: Mode | None = None,
        where: Filter = None,
        explain: bool = False,
        rerank: RerankSource = None,
        candidates: int = CANDIDATES,
        rerank_within: float | None = None,
        group_by: str | None = None,
        per_group: int = 1,
        diversity: float = 0.0,
        offset: int = 0,
        min_score: float | None = None,
    ) -> Hits:
        """Return what `search` does for one question, without keeping the event loop from other work meanwhile.

        `asyncio.gather` over a few questions answers them in parallel. A cancelled search runs to its end unseen.
        """
        self._store.check_usable()
        # Not in the retriever's pool: searches that fill it would wait there for ever for their own parts.
        return await asyncio.to_thread(
            self.search,
            question,
            k,
            mode=mode,
            where=where,
            explain=explain,
            rerank=rerank,
            candidates=candidates,
            rerank_within=rerank_within,
            group_by=group_by,
            per_group=per_group,
            diversity=diversity,
            offset=offset,
            min_score=min_score,
        )

    def warm(self) -> None:
        """Load the encoder and the vectors, where they fit in memory, and the indexes, where they fit in the cache.

        The reader is loaded where the table re-ranks by default. The first search then is as fast as the next ones.

        Raises `EncoderError` when the encoder is not available, `ReaderError` when the default reader is not.
        """
        self._store.check_usable()
        self._searcher.warm()
