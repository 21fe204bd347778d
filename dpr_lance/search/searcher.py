"""Searches of one table: its vectors in memory, its encoder and the threads of its searches, bound together."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from dpr_lance.encoders.onnx_encoder import available_threads
from dpr_lance.encoders.vectors import Vector
from dpr_lance.errors import MissingExtraError, ReaderError
from dpr_lance.indexes.maintenance import warm
from dpr_lance.reader.choice import Rerankers, default_weight, fingerprint_of
from dpr_lance.reader.reranker import Reranker
from dpr_lance.records.hits import Hits, Mode
from dpr_lance.records.table_info import RerankCalibration
from dpr_lance.search.asked import AskedQuestions
from dpr_lance.search.candidates import CandidateSearch, Encode, LegResults
from dpr_lance.search.options import SearchOptions
from dpr_lance.search.ranking import RankingRules, ranked_hits
from dpr_lance.search.reranking import Reranking
from dpr_lance.search.resident import ResidentVectors
from dpr_lance.search.selection import Pool, encoded_once
from dpr_lance.search.stopwatch import Stopwatch
from dpr_lance.table.encoder import TableEncoder
from dpr_lance.table.filters import Filter, checked_filter
from dpr_lance.table.forks import is_cut_off
from dpr_lance.table.passages import around
from dpr_lance.table.schema import CONTENT
from dpr_lance.table.snapshot import Snapshot
from dpr_lance.table.store import Store
from dpr_lance.table.tuning import reranking_in

QUESTIONS_AT_ONCE = 64
"""Questions of a batch that are searched together; this bounds the memory that a long list of them needs."""
CANDIDATES_AT_ONCE = 400 * QUESTIONS_AT_ONCE
"""Candidates of a leg that are in memory at once, with their vectors: 40 MB at 384 dimensions."""

_WARMING = "what is asked first?"


class Searcher:
    """Searches one table, as it is at the moment of each call; shared by threads."""

    def __init__(self, store: Store, encoder: TableEncoder, resident_bytes: int, *, learn: bool = True) -> None:
        self.store, self.encoder = store, encoder
        self.asked = AskedQuestions(store, learn=learn)
        self.memory = ResidentVectors(resident_bytes)
        self.rerankers = Rerankers()
        self._pool = ThreadPoolExecutor(max_workers=max(2, available_threads()), thread_name_prefix="dpr_lance")

    def search(self, questions: Sequence[str], options: SearchOptions) -> list[Hits]:
        """Return the best passages for each question; see `Retriever.search`. A long list is searched in parts."""
        source = options.rerank
        reranker = self.rerankers.loaded(source) if source is not None and source is not False else None
        size = questions_at_once(self.store.policy.candidates(options.pool(reranks=reranker is not None), "hybrid"))
        found: list[Hits] = []
        while len(found) < len(questions):
            # What the table learns from a part holds for the next one, as if the questions were asked one by one.
            part = questions[len(found) : len(found) + min(size, self._until_learnt(options) or size)]
            found += self._search(part, options, reranker)
        return [replace(hits, _around=partial(around, self.store)) for hits in found]

    def _until_learnt(self, options: SearchOptions) -> int:
        """Return how many such questions may be asked before λ changes; 0 where it does not."""
        if not options.learn or options.where is not None or not self.asked.counted:
            return 0
        card = self.store.find_card()
        if card is None or (options.mode or card.mode) != "hybrid":
            return 0
        return self.asked.wanted_in(self.store.remembered.values(), card)

    def _search(self, questions: Sequence[str], options: SearchOptions, reranker: Reranker | None) -> list[Hits]:
        where = None if options.where is None else checked_filter(options.where)
        if self.store.find() is None:
            return [Hits(question, (), options.mode or "hybrid", seconds=Stopwatch().seconds) for question in questions]
        if options.mode != "bm25":
            self.encoder.load_named()

        selection = options.selection
        if selection.grouping is not None:
            selection.grouping.check(self.store.schema())

        def rank(search: CandidateSearch, questions: Sequence[str], k: int, mode: Mode | None) -> list[Hits]:
            snapshot = search.snapshot
            ranking = self.asked.ranking_in(snapshot.state, snapshot.card)
            learns = options.learn and self.asked.wanted_in(snapshot.state, snapshot.card)
            rules = RankingRules(ranking, options.explain, self.asked if learns else None)
            return ranked_hits(search, questions, k, mode, rules)

        def answer(snapshot: Snapshot) -> tuple[Pool, Reranking | None, str | None]:
            encode = self.encoder.encode_questions
            search = self._in(snapshot, where, encode if selection.grouping is None else encoded_once(encode))
            calibrated = reranking_in(snapshot.state, snapshot.card)
            reranking, why_not = self._reranking(reranker, options, calibrated)
            most, reranks = options.pool(reranks=reranking is not None), reranking is not None
            found = rank(search, questions, most, options.mode)
            return selection.pool_of(search, found, most, options.page.end, rank, reranks=reranks), reranking, why_not

        try:
            pool, reranking, why_not = self.store.with_snapshot(answer)
        except (ValueError, RuntimeError, TypeError):
            self.store.check_usable()  # closed meanwhile, or its threads ended by a fork
            if where is not None:
                self.store.check_filter(where)
            raise
        if reranking is not None:
            pool = replace(pool, found=reranking.rerank(pool.found))
        elif why_not is not None:
            pool = replace(pool, found=[replace(hits, not_reranked=why_not) for hits in pool.found])
        return selection.chosen(pool, options.page)

    def _reranking(
        self, reranker: Reranker | None, options: SearchOptions, calibrated: RerankCalibration | None
    ) -> tuple[Reranking | None, str | None]:
        """Return how to re-rank; None without, with the reason where the table's default is not available."""
        if reranker is None:
            if options.rerank is False or calibrated is None or not calibrated.by_default:
                return None, None
            try:
                reranker = self.rerankers.loaded(calibrated.source)
            except (ReaderError, MissingExtraError) as error:
                return None, str(error)
        known = calibrated is not None and calibrated.fingerprint == fingerprint_of(reranker)
        weight = calibrated.retrieval_weight if known and calibrated is not None else default_weight(reranker)
        return Reranking(reranker, options.candidates, weight, options.rerank_within), None

    def candidates(self, questions: Sequence[str], vectors: Vector, n: int) -> LegResults:
        """Return up to n candidates of both legs, merged, for questions with these vectors."""
        return self.store.with_snapshot(
            lambda snapshot: self._in(snapshot, None, lambda *_: vectors).collect_candidates(
                questions, n, "hybrid", Stopwatch()
            )
        )

    def _in(self, snapshot: Snapshot, where: Filter, encode: Encode) -> CandidateSearch:
        return CandidateSearch(snapshot, where, self.store.policy, self.memory, encode, self._pool)

    def warm(self) -> None:
        """Load the encoder and the vectors, where they fit in memory, the indexes, and the table's re-ranker."""
        self.encoder.encode_questions([_WARMING])
        card = self.store.find_card()
        if card is not None:
            held = self.store.with_snapshot(self.memory.load)
            warm(self.store, {CONTENT} if held else {CONTENT, card.column})
            calibrated = reranking_in(self.store.remembered.values(), card)
            if calibrated is not None and calibrated.by_default:
                self.rerankers.loaded(calibrated.source)
            self.search([_WARMING], SearchOptions(k=1, learn=False))

    def close(self) -> None:
        """End the threads and free the vectors and readers in memory."""
        self.memory, self.rerankers = ResidentVectors(0), Rerankers()
        if not is_cut_off():  # a forked child has no threads to end, and could wait forever for one of their locks
            self._pool.shutdown()


def questions_at_once(candidates: int) -> int:
    """Return how many questions are searched together, each with this many candidates of a leg."""
    return max(1, min(QUESTIONS_AT_ONCE, CANDIDATES_AT_ONCE // candidates))
