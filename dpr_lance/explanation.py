"""How a search came to its hits: ranks within the legs, what each word adds to BM25, and the effort it took."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace

import pyarrow as pa

from dpr_lance.indexes import unindexed_tail
from dpr_lance.legs import Found, bm25_leg
from dpr_lance.records import Explanation, HitExplanation, Hits, WordScore
from dpr_lance.schema import ID
from dpr_lance.store import Store, among
from dpr_lance.words import distinct_words


def explained(store: Store, found: Found, number: int, asked: int, hits: Hits, pool: Executor) -> Hits:
    """Return the hits of one of the questions with an explanation each, and one of the search.

    Each word of the question is scored once more, alone, on the hits: the index itself tells what it adds.
    """
    ask, candidates = found.asks[number], found.united[number]
    words = _word_scores(store, ask.question, [hit.id for hit in hits], pool) if ask.bm25 is not None else {}
    ranks = [{} if leg is None else _ranks(leg) for leg in (ask.dense, ask.bm25)]
    told = tuple(
        replace(hit, explanation=HitExplanation(ranks[0].get(hit.id), ranks[1].get(hit.id), words.get(hit.id, ())))
        for hit in hits
    )
    explanation = Explanation(
        candidates=len(candidates),
        dense_candidates=None if ask.dense is None else ask.dense.num_rows,
        bm25_candidates=None if ask.bm25 is None else ask.bm25.num_rows,
        candidates_asked=asked,
        effort=found.effort,
        unfolded_rows=0 if ask.bm25 is None else store.steadily(unindexed_tail)[0],
    )
    return replace(hits, hits=told, explanation=explanation)


def _ranks(leg: pa.Table) -> dict[str, int]:
    """Return the rank of each passage in a leg, whose rows come best first."""
    return {name: rank for rank, name in enumerate(leg[ID].to_pylist(), start=1)}


def _word_scores(store: Store, question: str, ids: Sequence[str], pool: Executor) -> dict[str, tuple[WordScore, ...]]:
    """Return, by passage, what each word of the question adds to its BM25 score; most first."""
    if not ids:
        return {}
    words = distinct_words(question)
    legs = pool.map(lambda word: bm25_leg(store, word.text, len(ids), among(ID, ids)), words)
    scores: dict[str, list[WordScore]] = {}
    for word, leg in zip(words, legs, strict=True):
        for name, score in zip(leg[ID].to_pylist(), leg["_score"].to_pylist(), strict=True):
            scores.setdefault(name, []).append(WordScore(word.text, " ".join(word.terms), score))
    return {name: tuple(sorted(found, key=lambda word: -word.score)) for name, found in scores.items()}
