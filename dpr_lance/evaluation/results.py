"""What an evaluation found, and gates that it must pass, such as `hybrid.top20>=0.80`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dpr_lance.errors import InvalidInputError
from dpr_lance.evaluation.metrics import Interval, PairedTest, Values, hits_within
from dpr_lance.records.hits import Mode
from dpr_lance.records.reports import Skipped

Judgement = Literal["answer", "label"]
"""Whether a passage counts as a hit because it contains an answer, or because it is labelled."""

_SIGNS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_GATE = re.compile(
    r"\s*(?P<row>(?:other\.)?[a-z0-9]+(?:\+reader)?)\.(?P<measure>[a-z]+_?(?:top|@)?\d+)\s*(?P<sign>>=|<=|>|<)\s*(?P<bar>\d*\.?\d+)\s*"
)
_ACCURACY = re.compile(r"(?:(answer|label)_)?top(\d+)")


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """What one mode reaches, or its hits re-ranked: shares from 0 to 1 with their 95 % bootstrap intervals.

    `by_answer` and `by_label` give top-k accuracy by k (empty where no question has answers, or labels), `measures`
    MRR@10, nDCG@10 and recall@k by labelled passage. `questions_per_second` is the rate of searching in batches.
    """

    name: str
    mode: Mode
    by_answer: Mapping[int, Interval]
    by_label: Mapping[int, Interval]
    measures: Mapping[str, Interval]
    questions_per_second: float
    reranker: str | None = None
    """What has re-ranked the hits; None for a mode alone."""


@dataclass(frozen=True, slots=True)
class EvaluationPair:
    """Two rows on the same questions: top-k accuracy of `first` compared with that of `second`."""

    first: str
    second: str
    by: Judgement
    k: int
    test: PairedTest


@dataclass(frozen=True, slots=True)
class EvaluationOutcome:
    """One question: the rank of its first hit in each row, 0 where there is none within the depth searched.

    `by_answer` is None where the question has no answers, `by_label` where it has no labels.
    """

    id: str
    text: str
    by_answer: Mapping[str, int] | None
    by_label: Mapping[str, int] | None

    def ranks(self, by: Judgement) -> Mapping[str, int] | None:
        """Return the ranks by row."""
        return self.by_answer if by == "answer" else self.by_label


@dataclass(frozen=True)
class Evaluation:
    """The rows of an evaluation, their differences, and the outcome of each question."""

    questions: int
    with_answers: int
    with_labels: int
    ks: tuple[int, ...]
    rows: tuple[EvaluationRow, ...]
    pairs: tuple[EvaluationPair, ...]
    """Each two rows, at each k, by answer and by label."""
    outcomes: tuple[EvaluationOutcome, ...]
    not_measured: str | None
    """Why MRR, nDCG and recall are missing although questions have labels; None when they were measured."""
    seconds: float
    skipped: tuple[Skipped, ...] = ()
    """Questions that an encoder makes no vector of: no row was measured on them."""
    labels: int = 0
    labels_missing: int = 0
    """Different labels, and how many of them are not the id of a stored passage or document."""

    @property
    def headline(self) -> tuple[Judgement, int]:
        """What to look at first: by answer where questions have answers, top-20 where that was evaluated."""
        return "answer" if self.with_answers else "label", 20 if 20 in self.ks else max(self.ks)

    def accuracy_over_k(self, row: str, by: Judgement) -> Values:
        """Return top-k accuracy of a row for k = 1, 2, ... up to the depth searched."""
        ranks = [found[row] for outcome in self.outcomes if (found := outcome.ranks(by)) is not None]
        return np.array([hits_within(ranks, k).mean() for k in range(1, max(self.ks) + 1)])

    def disagreements(self, by: Judgement, k: int) -> Iterator[EvaluationOutcome]:
        """Yield the questions that some rows answer within the first k and others do not."""
        for outcome in self.outcomes:
            ranks = outcome.ranks(by)
            if ranks is not None and len({0 < rank <= k for rank in ranks.values()}) > 1:
                yield outcome


@dataclass(frozen=True, slots=True)
class EvaluationProgress:
    """How far `evaluate` has come: passages embedded for a comparison, then questions; the total if it is known."""

    stage: Literal["passages", "questions"]
    done: int
    total: int | None


@dataclass(frozen=True, slots=True)
class Gate:
    """A bar for one measure of one row, as a share from 0 to 1; parsed, never run as code."""

    text: str
    row: str
    measure: str
    sign: str
    bar: float

    @classmethod
    def parse(cls, text: str) -> Gate:
        """Read ROW.MEASURE>=SHARE; raise `InvalidInputError` that shows the form.

        Measures are top20 (by answer where the questions have answers, else by label), answer_top20, label_top20,
        mrr@10, ndcg@10 and recall@20, with the k that are evaluated.
        """
        found = _GATE.fullmatch(text)
        if found is None or float(found["bar"]) > 1:
            raise InvalidInputError(
                f"{text!r} is not a gate: write ROW.MEASURE>=SHARE, such as hybrid.top20>=0.80 (also >, <=, <; "
                f"measures top20, answer_top20, label_top20, mrr@10, ndcg@10, recall@20; shares from 0 to 1)"
            )
        return cls(text, found["row"], found["measure"], found["sign"], float(found["bar"]))

    def check(self, evaluation: Evaluation) -> GateResult:
        """Return what was reached; raise `InvalidInputError` when the row or the measure was not evaluated."""
        row = next((row for row in evaluation.rows if row.name == self.row), None)
        if row is None:
            names = ", ".join(row.name for row in evaluation.rows)
            raise InvalidInputError(f"the gate {self.text!r} names a row that was not evaluated; there are {names}")
        known = {f"answer_top{k}": interval for k, interval in row.by_answer.items()}
        known |= {f"label_top{k}": interval for k, interval in row.by_label.items()} | dict(row.measures)
        measure = self.measure
        if (accuracy := _ACCURACY.fullmatch(measure)) and accuracy[1] is None:
            measure = f"{evaluation.headline[0]}_{measure}"
        if measure not in known:
            reason = f" ({evaluation.not_measured})" if evaluation.not_measured and "@" in measure else ""
            raise InvalidInputError(
                f"the gate {self.text!r} names a measure that was not evaluated; there are {', '.join(known)}{reason}"
            )
        value = known[measure].mean
        return GateResult(self.text, value, _SIGNS[self.sign](value, self.bar))


@dataclass(frozen=True, slots=True)
class GateResult:
    """A gate, the value that was reached, and whether it is enough."""

    gate: str
    value: float
    met: bool
