"""How good a reader is on dev questions: the order it gives to what the table finds, and answers from gold passages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from dpr_lance.encoders.batches import length_batches
from dpr_lance.evaluation.metrics import Interval, bootstrap, first_rank, hits_within
from dpr_lance.reader.inputs import ReaderInput, Window
from dpr_lance.reader.onnx_reader import Reader
from dpr_lance.reader.reranker import PassageText
from dpr_lance.reader.spans import WindowLogits, best_spans, characters, span_tokens
from dpr_lance.text.exact_match import exact_match, word_f1

from ..examples import Example, KnownPassage
from ..mining import Ranking
from ..resumable import Autocast
from .student import ReaderStudent

QuestionPassage: TypeAlias = tuple[str, PassageText]
Scores: TypeAlias = Callable[[Sequence[QuestionPassage]], NDArray[np.float32]]
"""Returns the selection score of each pair."""
Answers: TypeAlias = Callable[[Sequence[QuestionPassage]], list[str]]
"""Returns the best span of each pair's passage, "" where there is none."""

KS = (1, 5, 20)
READ_TOKENS = 4096
"""Padded tokens of a batch when no gradient is kept."""
WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
"""Weights of the retrieval score that are tried."""


@dataclass(frozen=True, slots=True)
class DevQuestion:
    """A question with the passages that the table found for it, best first."""

    question: str
    passages: tuple[PassageText, ...]
    retrieved: NDArray[np.float64]
    """Their retrieval scores, in units of the standard deviation from their mean."""
    positive: NDArray[np.bool_]
    gold: PassageText
    answers: tuple[str, ...]

    @property
    def pairs(self) -> list[QuestionPassage]:
        """The question with each of its passages."""
        return [(self.question, passage) for passage in self.passages]


def dev_questions(
    rows: Sequence[Example], known: Mapping[str, KnownPassage], rankings: Iterable[Ranking]
) -> list[DevQuestion]:
    """Return the questions with what was found for them; a passage with the text of a positive one is positive too."""
    found = []
    for row, ranking in zip(rows, rankings, strict=True):
        positives = [known[name] for name in row.positives]
        same = {passage.same for passage in positives}
        candidates = [candidate.passage for candidate in ranking.candidates]
        scores = np.array([candidate.score for candidate in ranking.candidates])
        deviation = float(scores.std()) if len(scores) else 0.0
        found.append(
            DevQuestion(
                question=row.question,
                passages=tuple(PassageText(passage.title, passage.text) for passage in candidates),
                retrieved=(scores - scores.mean()) / deviation if deviation else np.zeros(len(scores)),
                positive=np.array(
                    [passage.id in row.positives or passage.same in same for passage in candidates], dtype=np.bool_
                ),
                gold=PassageText(positives[0].title, positives[0].text),
                answers=row.answers,
            )
        )
    return found


def scored(dev: Sequence[DevQuestion], scores: Scores) -> list[NDArray[np.float64]]:
    """Return the scores of each question's passages."""
    pairs = [pair for one in dev for pair in one.pairs]
    ends = np.cumsum([len(one.passages) for one in dev])[:-1]
    return [part.astype(np.float64) for part in np.split(scores(pairs) if pairs else np.empty(0), ends)]


def ranks(dev: Sequence[DevQuestion], scores: Sequence[NDArray[np.float64]]) -> NDArray[np.int64]:
    """Return the rank of each question's first positive by these scores, 0 where none was found."""
    ordered = [one.positive[np.argsort(-own, kind="stable")] for one, own in zip(dev, scores, strict=True)]
    return np.array([first_rank(positive.tolist()) for positive in ordered])


def metrics(
    dev: Sequence[DevQuestion], scores: Sequence[NDArray[np.float64]], answers: Answers | None
) -> dict[str, float]:
    """Return nll, mrr, top-k, and with `answers` exact-match and f1 on the gold passages of questions with answers.

    Questions of which no positive was found count as misses, except for nll.
    """
    place = ranks(dev, scores)
    losses = [
        float(np.logaddexp.reduce(own) - np.logaddexp.reduce(own[one.positive]))
        for one, own in zip(dev, scores, strict=True)
        if one.positive.any()
    ]
    found = {"nll": float(np.mean(losses)) if losses else 0.0, "mrr": float((1 / place[place > 0]).sum() / len(place))}
    found |= {f"top-{k}": float(hits_within(place, k).mean()) for k in KS}
    if answers is not None and (answered := [one for one in dev if one.answers]):
        texts = answers([(one.question, one.gold) for one in answered])
        matches = [exact_match(text, one.answers) for one, text in zip(answered, texts, strict=True)]
        found["exact-match"] = float(np.mean(matches))
        shares = [word_f1(text, one.answers) for one, text in zip(answered, texts, strict=True)]
        found["f1"] = float(np.mean(shares))
    return found


@dataclass(frozen=True, slots=True)
class ReaderAccuracy:
    """Accuracy on the dev questions, with intervals, of one order of what the table found."""

    name: str
    top: Mapping[int, Interval]
    mrr: Interval
    exact_match: float | None = None
    """From the gold passage, of questions with answers; None where nothing reads."""
    f1: float | None = None


def accuracy(
    name: str, dev: Sequence[DevQuestion], scores: Sequence[NDArray[np.float64]], answers: Answers | None = None
) -> ReaderAccuracy:
    """Return the accuracy of the order that scores give."""
    place = ranks(dev, scores)
    reciprocal = np.divide(1.0, place, out=np.zeros(len(place)), where=place > 0)
    measured = metrics(dev, scores, answers)
    return ReaderAccuracy(
        name=name,
        top={k: bootstrap(hits_within(place, k)) for k in KS},
        mrr=bootstrap(reciprocal),
        exact_match=measured.get("exact-match"),
        f1=measured.get("f1"),
    )


def best_weight(dev: Sequence[DevQuestion], scores: Sequence[NDArray[np.float64]]) -> float:
    """Return the weight of the retrieval score, standardised over a question's passages, with the best MRR.

    Of equals it is the lowest.
    """

    def mrr(weight: float) -> float:
        place = ranks(dev, weighted(dev, scores, weight))
        return float((1 / place[place > 0]).sum())

    return max(WEIGHTS, key=lambda weight: (mrr(weight), -weight))


def weighted(
    dev: Sequence[DevQuestion], scores: Sequence[NDArray[np.float64]], weight: float
) -> list[NDArray[np.float64]]:
    """Return the scores with the retrieval score added in a weight."""
    return [own + weight * one.retrieved for one, own in zip(dev, scores, strict=True)]


# What reads


def bundle_answers(reader: Reader) -> Answers:
    """Return a function that finds answers with the reader of a bundle."""

    def answers(pairs: Sequence[QuestionPassage]) -> list[str]:
        found = []
        for question, passage in pairs:
            (reading,) = reader.read(question, [passage], spans=1)
            found.append(passage.text[reading.spans[0].start : reading.spans[0].end] if reading.spans else "")
        return found

    return answers


@dataclass(frozen=True)
class TorchReader:
    """A reader in training, without a bundle. A passage's score is that of its best window."""

    student: ReaderStudent
    autocast: Autocast = nullcontext

    def score_pairs(self, pairs: Sequence[QuestionPassage]) -> NDArray[np.float32]:
        """Return the selection scores, float32[n]."""
        built = self._built(pairs, offsets=False)
        logits = iter(self._read([window for one in built for window in one.windows], spans=False))
        return np.array([max(next(logits)[0] for _ in one.windows) for one in built], dtype=np.float32)

    def answers(self, pairs: Sequence[QuestionPassage]) -> list[str]:
        """Return the best span of each passage."""
        built = self._built(pairs, offsets=True)
        logits = iter(self._read([window for one in built for window in one.windows], spans=True))
        found = []
        for (_, passage), one in zip(pairs, built, strict=True):
            windows = []
            for _, first, length, at in one.windows:
                _, start, end = next(logits)
                windows.append(WindowLogits(at, start[first : first + length], end[first : first + length]))
            best = best_spans(
                windows, span_tokens(passage.text, one.offsets), longest=self.student.card.span_max_tokens, count=1
            )
            places = [characters(passage.text, one.offsets, span.first, span.last) for span in best]
            found.append(passage.text[slice(*places[0])] if places else "")
        return found

    def _built(self, pairs: Sequence[QuestionPassage], *, offsets: bool) -> list[ReaderInput]:
        inputs = self.student.inputs
        questions = inputs.question_ids([question for question, _ in pairs])
        return inputs.build(questions, [passage for _, passage in pairs], offsets=offsets)

    @torch.no_grad()
    def _read(
        self, windows: Sequence[Window], *, spans: bool
    ) -> list[tuple[float, NDArray[np.float32], NDArray[np.float32]]]:
        """Return select, start and end of each window, without dropout; start and end are empty without `spans`."""
        student, training = self.student, self.student.training
        student.eval()
        nothing = np.empty(0, dtype=np.float32)
        found = [(0.0, nothing, nothing)] * len(windows)
        try:
            for batch in length_batches(np.array([len(window.tokens.ids) for window in windows]), READ_TOKENS):
                with self.autocast():
                    logits = student([windows[at] for at in batch], spans_of=None if spans else ())
                select, start, end = (
                    None if part is None else part.float().cpu().numpy()
                    for part in (logits.select, logits.start, logits.end)
                )
                assert select is not None  # noqa: S101 - a reader in training selects
                for row, at in enumerate(batch.tolist()):
                    ends = (start[row], end[row]) if spans and start is not None and end is not None else None
                    found[at] = float(select[row]), *(ends or (nothing, nothing))
        finally:
            student.train(training)
        return found
