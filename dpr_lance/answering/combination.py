"""The answers of several passages together: probabilities across passages, and equal answers summed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dpr_lance.reader.reading import Reading
from dpr_lance.records.answers import Answer, AnswerSource
from dpr_lance.records.hits import Hit
from dpr_lance.text.exact_match import plain_answer


def combined_answers(hits: Sequence[Hit], readings: Sequence[Reading]) -> list[Answer]:
    """Return the different answers in these passages, most probable first.

    A span's probability is that of its passage, the softmax of the selection scores (paper, section 6.1, equation 5),
    times its probability in the passage (equations 3 and 4). Equal answers (see `plain_answer`) are one, with the sum.
    """
    sources: dict[str, list[AnswerSource]] = {}
    for hit, reading, selected in zip(hits, readings, selection(readings), strict=True):
        for span in reading.spans:
            text = hit.text[span.start : span.end]
            # An article or a mark alone has no plain form.
            key = plain_answer(text) or text.strip().lower()
            source = AnswerSource(hit, span.start, span.end, float(selected) * span.probability)
            sources.setdefault(key, []).append(source)
    answers = [_answer(found) for found in sources.values()]
    return sorted(answers, key=lambda answer: (-answer.probability, answer.passage.rank, answer.start))


def selection(readings: Sequence[Reading]) -> list[float]:
    """Return the softmax of the passages' selection scores."""
    if not readings:
        return []
    scores = np.array([reading.score for reading in readings], dtype=np.float64)
    shares = np.exp(scores - scores.max())
    return [float(share) for share in shares / shares.sum()]


def _answer(found: Sequence[AnswerSource]) -> Answer:
    sources = tuple(sorted(found, key=lambda source: (-source.probability, source.hit.rank, source.start)))
    best = sources[0]
    return Answer(
        text=best.hit.text[best.start : best.end],
        probability=sum(source.probability for source in sources),
        passage=best.hit,
        document_id=best.hit.document_id,
        start=best.start,
        end=best.end,
        sources=sources,
    )
