"""Re-ranking: the best hits of a search are scored again by a reader (paper, section 6) or another re-ranker."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dpr_lance.reader.choice import name_of
from dpr_lance.reader.reranker import PassageText, Reranker
from dpr_lance.reader.scoring import Candidates, RerankScores, scores_of
from dpr_lance.records.hits import Hit, Hits
from dpr_lance.search.fusion import Scores

EVEN = 1e-6
"""Retrieval scores that differ by less, relative to the largest, are equal: they are sums of float32."""
MOST_AT_ONCE = 8
"""Under a time budget, parts of 1, 2, 4 and then this many passages are scored, so that few are late."""


@dataclass(frozen=True, slots=True)
class Reranking:
    """How hits are re-ranked: the first `candidates` of them get `rerank_score + weight · retrieval`.

    Retrieval scores are standardised over a question's candidates, so that a weight means the same for any λ, encoder
    and mode: it is what one standard deviation of retrieval is worth, in the re-ranker's scores. `within` bounds the
    seconds of a question by the `clock`, and so how many are re-scored; nothing else depends on time.
    """

    reranker: Reranker
    candidates: int
    weight: float
    within: float | None = None
    clock: Callable[[], float] = time.perf_counter

    def rerank(self, found: Sequence[Hits]) -> list[Hits]:
        """Return each question's hits in their new order; those that are not re-scored follow in their old one."""
        started = self.clock()
        asked = [candidates_of(hits, self.candidates) for hits in found]
        if self.within is None:
            scores = scores_of(self.reranker, asked)
        else:
            scores = [self._scored_within(each, self.within) for each in asked]
        answers = [self._reranked(hits, each) for hits, each in zip(found, scores, strict=True)]
        taken = self.clock() - started
        return [
            replace(hits, seconds={**hits.seconds, "rerank": taken, "total": hits.seconds["total"] + taken})
            for hits in answers
        ]

    def _scored_within(self, asked: Candidates, within: float) -> RerankScores:
        """Return the scores of the first passages, as many as the budget allows, and at least one."""
        began, size, done = self.clock(), 1, 0
        # The next part is expected to take as long for each character as those so far.
        lengths = [len(asked.question) + len(title) + len(text) for title, text in asked.passages]
        ends = np.cumsum(lengths, dtype=np.float64)
        parts: list[RerankScores] = []
        while done < len(ends) and size > 0:
            parts += scores_of(self.reranker, [asked.part(done, done + size)])
            done += len(parts[-1])
            taken = self.clock() - began
            fits = len(ends) if taken <= 0 else int(np.searchsorted(ends, within / taken * ends[done - 1], "right"))
            size = min(2 * len(parts[-1]), MOST_AT_ONCE, fits - done)
        return np.concatenate(parts) if parts else np.empty(0)

    def _reranked(self, hits: Hits, scores: RerankScores) -> Hits:
        retrieval = np.array([hit.score for hit in hits[: self.candidates]], dtype=np.float64)
        parts = self.weight * standardised(retrieval)
        ranks = combined(scores, parts, len(hits))
        order = sorted(range(len(hits)), key=lambda at: (-ranks[at], hits[at].id))
        rescored = len(scores)
        return replace(
            hits,
            hits=tuple(
                _placed(
                    hits[at],
                    rank,
                    float(ranks[at]),
                    float(scores[at]) if at < rescored else None,
                    float(parts[at]) if at < rescored else None,
                )
                for rank, at in enumerate(order, start=1)
            ),
            reranked=rescored,
            reranker=name_of(self.reranker),
            retrieval_weight=self.weight,
        )


def standardised(retrieval: Scores) -> Scores:
    """Return scores minus their mean, over their standard deviation; zeros where they are all equal: float64[n]."""
    if not len(retrieval) or np.ptp(retrieval) <= EVEN * np.abs(retrieval).max():
        return np.zeros(len(retrieval))
    return np.asarray((retrieval - retrieval.mean()) / retrieval.std())


def combined(scores: RerankScores, parts: Scores, count: int) -> Scores:
    """Return the scores that order hits, of which the first were re-scored: float64[count].

    What retrieval adds is in `parts`, in the order of retrieval. The others follow in their order: they begin 1 below
    the lowest re-scored hit.
    """
    first = scores + parts[: len(scores)]
    lowest = first.min() if len(first) else 0.0
    return np.concatenate([first, lowest - 1.0 - np.arange(count - len(first))])


def candidates_of(hits: Hits, most: int) -> Candidates:
    """Return the first hits as a re-ranker scores them."""
    chosen = hits[:most]
    return Candidates(hits.question, [PassageText(hit.title, hit.text) for hit in chosen], [hit.id for hit in chosen])


def _placed(hit: Hit, rank: int, score: float, rerank_score: float | None, part: float | None) -> Hit:
    explanation = hit.explanation
    if explanation is not None:
        explanation = replace(explanation, retrieval_part=part)
    return replace(hit, rank=rank, score=score, rerank_score=rerank_score, explanation=explanation)
