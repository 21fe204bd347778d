"""What a search must answer, computed over every passage in plain Python: BM25, inner products and their sum."""

from dataclasses import dataclass

import numpy as np

TOLERANCE = 1e-4
"""How far a score may be from the computed one: LanceDB adds up in float32."""


@dataclass(frozen=True)
class Entry:
    """One passage that matches a search's filter: its id, what identifies its scores, and the scores."""

    id: str
    content: tuple[str, str]
    bm25: float
    dense: float | None


@dataclass(frozen=True)
class Promise:
    """How exact a search has to be.

    `bm25`: the index holds every passage and no other, so that scores are Lucene's; without it only which passages
    match is certain. `dense`: every vector is compared; without it the best ones may be missed.
    """

    bm25: bool
    dense: bool


def check_hits(hits, entries, k, promise):
    """Assert that `hits` is what a search for `k` passages answers where `entries` are all that match the filter."""
    check_order(hits)
    by_id = {entry.id: entry for entry in entries}
    for hit in hits:
        assert hit.id in by_id, f"{hit.id} does not match the filter or is not stored"
        check_scores(hit, by_id[hit.id], hits.mode, promise)
    matching = [entry for entry in entries if matches(entry, hits.mode)]
    # Of a passage that plain LanceDB has appended again, one copy may be a hit or all of them.
    least = len({entry.id for entry in matching})
    assert min(k, least) <= len(hits) <= min(k, len(matching)), f"{len(hits)} hits of {len(matching)} matches, k={k}"
    if len(by_id) < len(entries):
        return
    assert len({hit.id for hit in hits}) == len(hits), "a passage is listed twice"
    if hits.mode == "hybrid":
        check_sums(hits, by_id, matching, promise)
    complete = promise.bm25 and (promise.dense or hits.mode == "bm25")
    if hits.mode != "hybrid" and (complete or (hits.mode == "dense" and promise.dense)):
        scores = sorted((own(entry, hits.mode) for entry in matching), reverse=True)
        assert np.allclose([hit.score for hit in hits], scores[:k], rtol=0, atol=TOLERANCE), "not the best k"
        check_ties(hits, by_id, matching)


def check_order(hits):
    """Assert that hits are ranked, the best first, equal ones by id."""
    order = [(-hit.score, hit.id) for hit in hits]
    assert order == sorted(order), "hits are not in order"
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))


def matches(entry, mode):
    """Tell whether a search of this mode can find an entry."""
    return (mode != "dense" and entry.bm25 > 0) or (mode != "bm25" and entry.dense is not None)


def own(entry, mode):
    return entry.bm25 if mode == "bm25" else entry.dense


def check_scores(hit, entry, mode, promise):
    """Assert that both scores of a hit are those of its passage."""
    if mode != "dense":
        assert (hit.bm25_score > 0) == (entry.bm25 > 0), f"{hit.id}: bm25 {hit.bm25_score}, really {entry.bm25}"
        if promise.bm25:
            assert abs(hit.bm25_score - entry.bm25) <= TOLERANCE, f"{hit.id}: {hit.bm25_score}, really {entry.bm25}"
    else:
        assert hit.bm25_score is None
    if mode == "bm25" or entry.dense is None:
        assert hit.dense_score is None
    else:
        assert abs(hit.dense_score - entry.dense) <= TOLERANCE, f"{hit.id}: {hit.dense_score}, really {entry.dense}"
    if mode != "hybrid":
        assert hit.score == (hit.bm25_score if mode == "bm25" else hit.dense_score)


def check_sums(hits, by_id, matching, promise):
    """Assert that hybrid scores are `bm25 + weight·dense`, and that neither leg has a passage with a higher one.

    A passage without a vector gets the lowest dense score among the candidates, whichever that is.
    """
    weight = hits.hybrid_weight
    slack = TOLERANCE * (1 + weight)
    filled = []
    for hit in hits:
        if hit.dense_score is None:
            filled.append(hit.score - hit.bm25_score)
        else:
            assert abs(hit.score - hit.bm25_score - weight * hit.dense_score) <= slack, f"{hit.id}: not the sum"
    assert not filled or max(filled) - min(filled) <= slack, "passages without a vector have different dense scores"
    if not promise.bm25 or not hits:
        return
    candidates = max(100, 4 * len(hits))
    legs = [leading(matching, candidates, lambda entry: entry.bm25 or None)]
    if promise.dense:
        legs.append(leading(matching, candidates, lambda entry: entry.dense))
    found = {hit.id for hit in hits}
    for entry in (entry for leg in legs for entry in leg if entry.id not in found and entry.dense is not None):
        missed = entry.bm25 + weight * entry.dense
        assert missed <= hits[-1].score + slack, f"{entry.id} with {missed} is not among the hits"
    if promise.dense and len(matching) <= candidates:
        check_ties(hits, by_id, matching)


def leading(entries, n, score):
    """Return those of a leg's n best that are better than any other one: what its list has for certain."""
    scored = sorted(((score(entry), entry) for entry in entries if score(entry) is not None), key=lambda pair: -pair[0])
    if len(scored) <= n:
        return [entry for _, entry in scored]
    return [entry for value, entry in scored[:n] if value > scored[n][0] + TOLERANCE]


def check_ties(hits, by_id, matching):
    """Assert that of passages with the same title and text those of the lower ids are among the hits."""
    last = {}
    for hit in hits:
        entry = by_id[hit.id]
        content = entry.content, entry.dense is None
        last[content] = max(last.get(content, ""), hit.id)
    found = {hit.id for hit in hits}
    for entry in matching:
        content = entry.content, entry.dense is None
        assert entry.id in found or entry.id >= last.get(content, ""), f"{entry.id} ties with {last[content]}"
