"""How a search found its hits: ranks within the legs, what each word adds to BM25, and the effort."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dpr_lance.records.hits import Explanation, HitExplanation, Hits, WeightSource, WordScore
from dpr_lance.search.candidates import LegResults
from dpr_lance.search.legs import bm25_leg
from dpr_lance.table.filters import among
from dpr_lance.table.snapshot import Snapshot
from dpr_lance.text.terms import distinct_words


def explained(
    snapshot: Snapshot, found: LegResults, number: int, asked: int, unfolded: int, hits: Hits, row_ids: Sequence[int]
) -> Hits:
    """Return the hits of one of the questions with explanations of each hit and of the search.

    `asked` is how many candidates each leg was asked for; `unfolded` how many passages the BM25 index
    lacks; `row_ids` are those of the hits. Each word of the question is
    searched once more, alone, among the hits, to find what it adds.
    """
    legs, candidates = found.legs[number], found.candidates[number]
    words = _word_scores(snapshot, hits.question, row_ids) if legs.bm25 is not None else {}
    dense_ranks, bm25_ranks = (
        {} if leg is None else dict(zip(leg.row_ids.tolist(), range(1, len(leg) + 1), strict=True))
        for leg in (legs.dense, legs.bm25)
    )
    explained_hits = tuple(
        replace(
            hit,
            explanation=HitExplanation(
                dense_ranks.get(row), bm25_ranks.get(row), words.get(row, ()), hit.rank, hit.score
            ),
        )
        for hit, row in zip(hits, row_ids, strict=True)
    )
    explanation = Explanation(
        candidates=len(candidates),
        dense_candidates=None if legs.dense is None else len(legs.dense),
        bm25_candidates=None if legs.bm25 is None else len(legs.bm25),
        candidates_asked=asked,
        effort=found.effort,
        unfolded_rows=unfolded,
    )
    return replace(hits, hits=explained_hits, explanation=explanation)


def with_source(hits: Hits, source: WeightSource) -> Hits:
    """Return explained hits with what has chosen their λ."""
    if hits.explanation is None or hits.hybrid_weight is None:
        return hits
    return replace(hits, explanation=replace(hits.explanation, weight_source=source))


def _word_scores(snapshot: Snapshot, question: str, row_ids: Sequence[int]) -> dict[int, tuple[WordScore, ...]]:
    """Return, by row id, what each word of the question adds to a passage's BM25 score; most first."""
    if not row_ids:
        return {}
    words, hits = distinct_words(question, snapshot.card.language), among("_rowid", row_ids)
    legs = [snapshot.ask(bm25_leg(snapshot, word.text, len(row_ids), hits)) for word in words]
    scores: dict[int, list[WordScore]] = {}
    for word, leg in zip(words, (leg.result() for leg in legs), strict=True):
        for row, score in zip(leg.row_ids.tolist(), leg.scores.tolist(), strict=True):
            scores.setdefault(row, []).append(WordScore(word.text, " ".join(word.terms), score))
    return {row: tuple(sorted(found, key=lambda word: -word.score)) for row, found in scores.items()}
