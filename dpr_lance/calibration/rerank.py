"""Calibrates re-ranking: labelled questions are searched, their hits re-scored, and the weight of retrieval chosen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from dpr_lance.calibration.rerank_weight import RescoredCandidates, choose_rerank_weight
from dpr_lance.checks import refused
from dpr_lance.inputs.questions import LabelledQuestion
from dpr_lance.reader.choice import RerankSource, default_weight, fingerprint_of, name_of, stored_source
from dpr_lance.reader.reranker import Reranker
from dpr_lance.reader.scoring import scores_of
from dpr_lance.records.hits import CANDIDATES
from dpr_lance.records.table_info import RerankCalibration
from dpr_lance.search.options import SearchOptions
from dpr_lance.search.reranking import candidates_of, standardised
from dpr_lance.search.searcher import QUESTIONS_AT_ONCE, Searcher

MOST_RESCORED = 500
"""Of more questions, as many spread over all of them are re-scored: each takes a reader `CANDIDATES` passages."""


def checked_for_calibration(reranker: Reranker, source: RerankSource) -> Reranker:
    """Return a re-ranker that has a fingerprint; raise `InvalidInputError` for one without."""
    if fingerprint_of(reranker) is None:
        raise refused(
            "rerank",
            source,
            "to be calibrated, a re-ranker needs a `card` with `name` and `fingerprint`: the weight is stored for it",
        )
    return reranker


def calibrated_reranking(
    searcher: Searcher,
    labelled: Sequence[LabelledQuestion],
    source: RerankSource,
    now: RerankCalibration | None,
    *,
    regex: bool,
) -> RerankCalibration:
    """Return what these questions choose for a re-ranker over the table's searches as they are calibrated now."""
    reranker = searcher.rerankers.loaded(source)
    fingerprint = fingerprint_of(reranker) or ""
    usual = now.retrieval_weight if now is not None and now.fingerprint == fingerprint else default_weight(reranker)
    if len(labelled) > MOST_RESCORED:
        labelled = [labelled[at] for at in np.linspace(0, len(labelled) - 1, MOST_RESCORED, dtype=np.int64).tolist()]
    judged = list(_rescored(searcher, labelled, reranker, regex=regex))
    found = choose_rerank_weight(judged, usual)
    stored = stored_source(source)
    return RerankCalibration(
        reader=name_of(reranker),
        fingerprint=fingerprint,
        source=stored,
        retrieval_weight=found.weight,
        by_default=found.pays and stored is not None,
        questions=len(judged),
        retrieval_alone=found.retrieval_alone,
        reader_alone=found.reader_alone,
        combined=found.combined,
        weights=found.curve,
    )


def _rescored(
    searcher: Searcher, labelled: Sequence[LabelledQuestion], reranker: Reranker, *, regex: bool
) -> Iterator[RescoredCandidates]:
    """Yield each question's hits with the re-ranker's scores, and which of them answer it."""
    options = SearchOptions(k=CANDIDATES, rerank=False, learn=False)
    for start in range(0, len(labelled), QUESTIONS_AT_ONCE):
        part = labelled[start : start + QUESTIONS_AT_ONCE]
        found = searcher.search([question.text for question in part], options)
        scores = scores_of(reranker, [candidates_of(hits, CANDIDATES) for hits in found])
        for question, hits, each in zip(part, found, scores, strict=True):
            if not hits:
                continue
            holds_answer, labels = question.matcher(regex=regex, language=hits[0].language), question.labels
            relevant = [
                holds_answer(hit.text) if question.answers else hit.id in labels or hit.document_id in labels
                for hit in hits
            ]
            retrieval = standardised(np.array([hit.score for hit in hits]))
            yield RescoredCandidates(retrieval, each, np.array(relevant, dtype=np.bool_))
