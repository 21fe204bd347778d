"""How a search came to its hits: ranks within the legs, what each word adds to BM25, and the effort it took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dpr_lance.indexes.maintenance import unindexed_tail
from dpr_lance.records.hits import Explanation, HitExplanation, Hits, WordScore
from dpr_lance.search.candidates import Found, Leg, bm25_leg
from dpr_lance.table.filters import among
from dpr_lance.table.snapshot import Snapshot
from dpr_lance.text.terms import distinct_words


def explained(snapshot: Snapshot, found: Found, number: int, asked: int, hits: Hits, row_ids: Sequence[int]) -> Hits:
    """Return the hits of one of the questions, whose row ids come along, explained, and the search too.

    Each word of the question is scored once more, alone, on the hits: the index itself tells what it adds.
    """
    ask, candidates = found.asks[number], found.united[number]
    words = _word_scores(snapshot, ask.question, row_ids) if ask.bm25 is not None else {}
    ranks = [{} if leg is None else _ranks(leg) for leg in (ask.dense, ask.bm25)]
    told = tuple(
        replace(hit, explanation=HitExplanation(ranks[0].get(row), ranks[1].get(row), words.get(row, ())))
        for hit, row in zip(hits, row_ids, strict=True)
    )
    explanation = Explanation(
        candidates=len(candidates),
        dense_candidates=None if ask.dense is None else len(ask.dense),
        bm25_candidates=None if ask.bm25 is None else len(ask.bm25),
        candidates_asked=asked,
        effort=found.effort,
        unfolded_rows=0 if ask.bm25 is None else unindexed_tail(snapshot.table)[0],
    )
    return replace(hits, hits=told, explanation=explanation)


def _ranks(leg: Leg) -> dict[int, int]:
    """Return the rank of each passage in a leg, by row id."""
    return {row: rank for rank, row in enumerate(leg.row_ids.tolist(), start=1)}


def _word_scores(snapshot: Snapshot, question: str, row_ids: Sequence[int]) -> dict[int, tuple[WordScore, ...]]:
    """Return, by row id, what each word of the question adds to a passage's BM25 score; most first."""
    if not row_ids:
        return {}
    words = distinct_words(question)
    hits = among("_rowid", row_ids)
    legs = [snapshot.ask(bm25_leg(snapshot, word.text, len(row_ids), hits)) for word in words]
    scores: dict[int, list[WordScore]] = {}
    for word, leg in zip(words, (leg.result() for leg in legs), strict=True):
        for row, score in zip(leg.row_ids.tolist(), leg.scores.tolist(), strict=True):
            scores.setdefault(row, []).append(WordScore(word.text, " ".join(word.terms), score))
    return {row: tuple(sorted(found, key=lambda word: -word.score)) for row, found in scores.items()}
