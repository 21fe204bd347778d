"""A search: what the legs found, ranked by the mode's score, with the stored fields of the best."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from dpr_lance.checks import checked_whole
from dpr_lance.documents.values import python_records
from dpr_lance.encoders.encoding import UnencodableError
from dpr_lance.errors import EncoderError, MissingExtraError
from dpr_lance.indexes.policy import with_spare
from dpr_lance.records.hits import Hit, Hits, Mode
from dpr_lance.search.candidates import QUESTIONS_AT_ONCE, Encode, Wanted, calibration_of, gather
from dpr_lance.search.explanation import explained
from dpr_lance.search.fusion import Candidates, Scores, fused_scores, known, leading
from dpr_lance.search.resident import ResidentVectors
from dpr_lance.search.stopwatch import Stopwatch
from dpr_lance.table.filters import Filter
from dpr_lance.table.schema import HIT_COLUMNS, ID, columns_read, metadata_of
from dpr_lance.table.snapshot import Snapshot

Ranked: TypeAlias = tuple[int, float]
"""A passage's row id and its score."""

MIN_CANDIDATES = 100
CANDIDATES_PER_HIT = 4
"""Each leg hands `max(100, 4·k)` candidates to the fusion."""
MOST_CANDIDATES = 2**31 - 1
"""What LanceDB takes as a limit; no table has as many passages."""
TIES = 16
"""Where ties go on to the last candidate, so many times as many are asked for. Beyond, LanceDB chooses among them."""
CANDIDATES_AT_ONCE = QUESTIONS_AT_ONCE * MIN_CANDIDATES * CANDIDATES_PER_HIT
"""Candidates of a leg that are in memory at once, with their vectors: 40 MB at 384 dimensions."""


def checked_count(k: object) -> int:
    """Return a number of hits: any whole number, NumPy's too."""
    return checked_whole(k, "k", "ask for at least 1 hit, as a whole number", least=1)


def candidates_wanted(k: int, mode: Mode) -> int:
    """Return how many candidates each leg is asked for."""
    wanted = max(MIN_CANDIDATES, CANDIDATES_PER_HIT * k) if mode == "hybrid" else with_spare(k)
    return min(wanted, MOST_CANDIDATES)


def questions_at_once(k: int) -> int:
    """Return how many questions of a batch are searched together."""
    return max(1, min(QUESTIONS_AT_ONCE, CANDIDATES_AT_ONCE // candidates_wanted(k, "hybrid")))


def nothing(questions: Sequence[str], mode: Mode | None) -> list[Hits]:
    """Return what is found where there is no table yet."""
    return [Hits(question, (), mode or "hybrid", seconds=Stopwatch().seconds) for question in questions]


def answer(  # noqa: PLR0913 - keywords
    snapshot: Snapshot,
    memory: ResidentVectors,
    questions: Sequence[str],
    k: int,
    *,
    mode: Mode | None,
    where: Filter,
    encode: Encode,
    pool: Executor,
    explain: bool = False,
) -> list[Hits]:
    """Return the k best passages for each question; `encode` gives float32[n, d] or raises what a fallback tells.

    Without a mode it is the calibrated one, which falls back to BM25 as hybrid does; else hybrid. A question that the
    encoder makes no vector of is answered by BM25 alone, the others are not. The times in `Hits.seconds` are those of
    all the questions together; "total" is all of it.
    """
    asked = partial(_answer, snapshot, memory, k=k, where=where, encode=encode, pool=pool, explain=explain)
    try:
        return asked(questions, mode=mode)
    except UnencodableError as error:
        if mode == "dense":
            raise
        reasons = error.reasons
    answers: list[Hits | None] = [None] * len(questions)
    for chosen, used in (([at for at in range(len(questions)) if at not in reasons], mode), (list(reasons), "bm25")):
        found = asked([questions[at] for at in chosen], mode=used) if chosen else []
        for at, hits in zip(chosen, found, strict=True):
            answers[at] = replace(hits, fallback=_without_vector(reasons[at])) if at in reasons else hits
    return [hits for hits in answers if hits is not None]


def _without_vector(reason: str) -> str:
    return f"the encoder makes no vector of this question: {reason}"


def _answer(  # noqa: PLR0913 - keywords
    snapshot: Snapshot,
    memory: ResidentVectors,
    questions: Sequence[str],
    *,
    k: int,
    mode: Mode | None,
    where: Filter,
    encode: Encode,
    pool: Executor,
    explain: bool,
) -> list[Hits]:
    """Return the k best passages for questions that all have a vector; see `answer`."""
    started = time.perf_counter()
    watch = Stopwatch()
    calibration = calibration_of(snapshot.state, snapshot.card)
    weight = snapshot.card.encoder.hybrid_weight if calibration is None else calibration.hybrid_weight
    usual: Mode = "hybrid" if calibration is None else calibration.mode
    n = candidates_wanted(k, mode or usual)
    searched = partial(
        gather,
        snapshot,
        memory,
        where=where,
        encode=encode,
        pool=pool,
        watch=watch,
        wanted=Wanted(k, weight),
    )
    try:
        found = searched(questions, n, mode=mode or usual)
    except (EncoderError, MissingExtraError) as error:
        if mode is not None:
            raise
        found = replace(searched(questions, n, mode="bm25"), fallback=str(error))
    tied = [
        number
        for number, candidates in enumerate(found.united)
        if _cut_within_ties(_scores(candidates, found.mode, weight), k, n)
    ]
    more = min(TIES * max(n, MIN_CANDIDATES), MOST_CANDIDATES)
    if tied:
        again = searched([questions[number] for number in tied], more, mode=found.mode)
        for number, ask, candidates in zip(tied, again.asks, again.united, strict=True):
            found.asks[number], found.united[number] = ask, candidates
    with watch.stage("fuse"):
        best = [_ranked(candidates, k, found.mode, weight) for candidates in found.united]
    with watch.stage("fetch"):
        # What an explanation counts must be there too.
        counted = (row for candidates in found.united for row in candidates.row_ids.tolist()) if explain else ()
        fields = _fetch(snapshot, {*(row for top in best for row, _ in top), *counted})
        best = [_by_id(top, fields, k) for top in best]
    answers = [
        Hits(
            question=ask.question,
            hits=_hits(ask.question, candidates, top, fields),
            mode=found.mode,
            fallback=found.fallback,
            hybrid_weight=weight if found.mode == "hybrid" else None,
            seconds=watch.seconds,
        )
        for ask, candidates, top in zip(found.asks, found.united, best, strict=True)
    ]
    if explain:
        with watch.stage("explain"):
            answers = [
                explained(
                    snapshot, found, number, more if number in tied else n, hits, [row for row, _ in best[number]]
                )
                for number, hits in enumerate(answers)
            ]
    watch.add("total", time.perf_counter() - started)
    return answers


def _scores(candidates: Candidates, mode: Mode, weight: float) -> Scores:
    """Return what `mode` orders candidates by."""
    if mode == "hybrid":
        return fused_scores(candidates.dense, candidates.bm25, weight)
    return candidates.dense if mode == "dense" else candidates.bm25


def _cut_within_ties(scores: Scores, k: int, n: int) -> bool:
    """Tell whether all candidates from the k-th on are equally good, so that there may be more of them."""
    return len(scores) >= n and bool(np.partition(scores, -k)[-k] == scores.min())


def _ranked(candidates: Candidates, k: int, mode: Mode, weight: float) -> list[Ranked]:
    """Return the k best candidates under `mode`, best first, and those that are as good as the last of them."""
    scores = _scores(candidates, mode, weight)
    return [(int(candidates.row_ids[index]), float(scores[index])) for index in leading(scores, k)]


def _fetch(snapshot: Snapshot, row_ids: set[int]) -> dict[int, dict[str, Any]]:
    """Return the stored fields of these rows, by row id; raise `GoneRowsError` where one is gone."""
    if not row_ids:
        return {}
    columns = columns_read(snapshot.names, HIT_COLUMNS)
    rows = snapshot.reads.take_row_ids(sorted(row_ids)).with_row_id().select(columns)
    fields = {row.pop("_rowid"): row for row in python_records(snapshot.ask(rows.to_arrow()).result())}
    if len(fields) < len(row_ids):
        raise snapshot.gone_rows()
    return fields


def _by_id(best: Sequence[Ranked], fields: Mapping[int, Mapping[str, Any]], k: int) -> list[Ranked]:
    """Return the k best; ties are ordered by id."""
    return sorted(best, key=lambda ranked: (-ranked[1], fields[ranked[0]][ID]))[:k]


def _hits(
    question: str, candidates: Candidates, best: Sequence[Ranked], fields: Mapping[int, Mapping[str, Any]]
) -> tuple[Hit, ...]:
    at = {row: index for index, row in enumerate(candidates.row_ids.tolist())}
    return tuple(
        Hit(
            rank=rank,
            **{name: fields[row][name] for name in HIT_COLUMNS},
            score=score,
            dense_score=known(candidates.dense[at[row]]),
            bm25_score=known(candidates.bm25[at[row]]),
            metadata=metadata_of(fields[row]),
            question=question,
        )
        for rank, (row, score) in enumerate(best, start=1)
    )
