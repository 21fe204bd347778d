"""Hits: the candidates of a search, ranked by the mode's score, with the stored fields of the best."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from dpr_lance.documents.values import python_records
from dpr_lance.encoders.encoding import UnencodableError
from dpr_lance.errors import EncoderError, MissingExtraError
from dpr_lance.indexes.maintenance import unindexed_tail
from dpr_lance.records.hits import Hit, Hits, Mode
from dpr_lance.search.asked import AskedQuestions, Ranking, agreements_in
from dpr_lance.search.candidates import CandidateSearch, HitBudget
from dpr_lance.search.explanation import explained, with_source
from dpr_lance.search.fusion import Candidates, known, leading
from dpr_lance.search.stopwatch import Stopwatch
from dpr_lance.table.index_policy import MOST_CANDIDATES
from dpr_lance.table.rows import completed
from dpr_lance.table.schema import HIT_COLUMNS, ID, columns_read, metadata_of
from dpr_lance.table.snapshot import Snapshot
from dpr_lance.text.language import Language

TIES = 16
"""Where ties go on to the last candidate, this multiple is asked for. Beyond it, LanceDB chooses among them."""


class _Ranked(NamedTuple):
    """A candidate by its index among the question's candidates."""

    at: int
    row_id: int
    score: float


@dataclass(frozen=True, slots=True)
class RankingRules:
    """How a search ranks: the weight and mode in force, whether it explains, and what learns from the questions."""

    ranking: Ranking
    explain: bool = False
    learner: AskedQuestions | None = None


def ranked_hits(
    search: CandidateSearch, questions: Sequence[str], k: int, mode: Mode | None, rules: RankingRules
) -> list[Hits]:
    """Return the k best passages for each question.

    Without a mode it is that of the rules, which falls back to BM25 as hybrid does; else hybrid. A question that the
    encoder makes no vector of is answered by BM25 alone, the others are not. The times in `Hits.seconds` are those of
    all the questions together.
    """
    try:
        return _ranked_hits(search, questions, k, mode, rules)
    except UnencodableError as error:
        if mode == "dense":
            raise
        reasons = error.reasons
    answers: dict[int, Hits] = {}
    for chosen, used in (([at for at in range(len(questions)) if at not in reasons], mode), (list(reasons), "bm25")):
        found = _ranked_hits(search, [questions[at] for at in chosen], k, used, rules) if chosen else []
        answers |= zip(chosen, found, strict=True)
    for at, reason in reasons.items():
        answers[at] = replace(answers[at], fallback=f"the encoder makes no vector of this question: {reason}")
    return [answers[at] for at in range(len(questions))]


def _ranked_hits(
    search: CandidateSearch, questions: Sequence[str], k: int, mode: Mode | None, rules: RankingRules
) -> list[Hits]:
    """Return the same for questions that all have a vector."""
    started, watch = time.perf_counter(), Stopwatch()
    snapshot, policy = search.snapshot, search.policy
    weight, source, usual = rules.ranking
    learner = rules.learner if search.where is None and (mode or usual) == "hybrid" else None
    n = policy.candidates(k, mode or usual)
    # To learn from takes all scores of all candidates.
    budget = HitBudget(k, weight) if learner is None else None
    try:
        found = search.collect_candidates(questions, n, mode or usual, watch, budget)
    except (EncoderError, MissingExtraError) as error:
        if mode is not None:
            raise
        found = replace(search.collect_candidates(questions, n, "bm25", watch, budget), fallback=str(error))
    heard = list(agreements_in(found)) if learner is not None and found.mode == "hybrid" else []
    scores = [each.scores(found.mode, weight) for each in found.candidates]
    # Where all candidates from the k-th on are equally good, there may be more of them.
    tied = [at for at, each in enumerate(scores) if len(each) >= n and np.partition(each, -k)[-k] == each.min()]
    more = min(TIES * max(n, policy.least_candidates), MOST_CANDIDATES)
    if tied:
        again = search.collect_candidates([questions[number] for number in tied], more, found.mode, watch, budget)
        for number, legs, candidates in zip(tied, again.legs, again.candidates, strict=True):
            found.legs[number], found.candidates[number] = legs, candidates
            scores[number] = candidates.scores(found.mode, weight)
    with watch.stage("fuse"):
        best = [
            [_Ranked(at, int(candidates.row_ids[at]), float(each[at])) for at in leading(each, k)]
            for candidates, each in zip(found.candidates, scores, strict=True)
        ]
    with watch.stage("fetch"):
        # What an explanation counts must be there too.
        counted = (
            (row for candidates in found.candidates for row in candidates.row_ids.tolist()) if rules.explain else ()
        )
        fields = _fetch(snapshot, {*(ranked.row_id for top in best for ranked in top), *counted})
        # Ties are ordered by id.
        best = [sorted(top, key=lambda ranked: (-ranked.score, fields[ranked.row_id][ID]))[:k] for top in best]
    answers = [
        Hits(
            question=question,
            hits=_hits(question, snapshot.card.language, candidates, top, fields),
            mode=found.mode,
            fallback=found.fallback,
            hybrid_weight=weight if found.mode == "hybrid" else None,
            seconds=watch.seconds,
            _types=snapshot.metadata_types,
        )
        for question, candidates, top in zip(questions, found.candidates, best, strict=True)
    ]
    if rules.explain:
        with watch.stage("explain"):
            unfolded = 0 if found.mode == "dense" else unindexed_tail(snapshot.table)[0]
            for number, hits in enumerate(answers):
                asked, row_ids = more if number in tied else n, [ranked.row_id for ranked in best[number]]
                told = explained(snapshot, found, number, asked, unfolded, hits, row_ids)
                answers[number] = with_source(told, source)
    if learner is not None:
        learner.note(heard, snapshot.card)
    watch.add("total", time.perf_counter() - started)
    return answers


def _fetch(snapshot: Snapshot, row_ids: set[int]) -> dict[int, dict[str, Any]]:
    """Return the stored fields of these rows, by row id; raise `GoneRowsError` where one is gone."""
    if not row_ids:
        return {}
    columns = columns_read(snapshot.names, HIT_COLUMNS)
    rows = snapshot.reads.take_row_ids(sorted(row_ids)).with_row_id().select(columns)
    fields = {row.pop("_rowid"): completed(row) for row in python_records(snapshot.ask(rows.to_arrow()).result())}
    if len(fields) < len(row_ids):
        raise snapshot.gone_rows()
    return fields


def _hits(
    question: str,
    language: Language,
    candidates: Candidates,
    best: Sequence[_Ranked],
    fields: Mapping[int, Mapping[str, Any]],
) -> tuple[Hit, ...]:
    return tuple(
        Hit(
            rank=rank,
            **{name: fields[ranked.row_id][name] for name in HIT_COLUMNS},
            score=ranked.score,
            dense_score=known(candidates.dense[ranked.at]),
            bm25_score=known(candidates.bm25[ranked.at]),
            metadata=metadata_of(fields[ranked.row_id]),
            question=question,
            language=language,
        )
        for rank, ranked in enumerate(best, start=1)
    )
