"""Bars that an evaluation must reach, as `hybrid.top20>=0.80`: parsed and compared here, never evaluated as code."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dpr_lance.errors import InvalidInputError
from dpr_lance.evaluation.evaluate import Evaluation

SIGNS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_GATE = re.compile(
    r"\s*(?P<row>(?:other\.)?[a-z0-9]+)\.(?P<measure>[a-z]+_?(?:top|@)?\d+)\s*(?P<sign>>=|<=|>|<)\s*(?P<bar>\d*\.?\d+)\s*"
)
_ACCURACY = re.compile(r"(?:(answer|label)_)?top(\d+)")


@dataclass(frozen=True, slots=True)
class Gate:
    """A bar for one measure of one row, a share from 0 to 1."""

    text: str
    row: str
    measure: str
    sign: str
    bar: float

    @classmethod
    def parse(cls, text: str) -> Gate:
        """Read ROW.MEASURE>=SHARE; raise `InvalidInputError` that says what it should be.

        Measures are top20 (by answer where the questions have answers, else by label), answer_top20, label_top20,
        mrr@10, ndcg@10, recall@20, with the k that are evaluated.
        """
        found = _GATE.fullmatch(text)
        if found is None or float(found["bar"]) > 1:
            raise InvalidInputError(
                f"the gate {text!r} is none: write ROW.MEASURE>=SHARE, as hybrid.top20>=0.80 (also >, <=, <; measures "
                f"top20, answer_top20, label_top20, mrr@10, ndcg@10, recall@20; shares from 0 to 1)"
            )
        return cls(text, found["row"], found["measure"], found["sign"], float(found["bar"]))

    def check(self, evaluation: Evaluation) -> GateResult:
        """Return what was reached; raise `InvalidInputError` when the row or the measure was not evaluated."""
        row = next((row for row in evaluation.rows if row.name == self.row), None)
        if row is None:
            names = ", ".join(row.name for row in evaluation.rows)
            raise InvalidInputError(f"the gate {self.text!r} names no row that was evaluated: {names}")
        known = {f"{by}_top{k}": interval for by, found in (("answer", row.by_answer), ("label", row.by_label))
                 for k, interval in found.items()}  # fmt: skip
        known |= row.measures
        measure = self.measure
        if (accuracy := _ACCURACY.fullmatch(measure)) and accuracy[1] is None:
            measure = f"{evaluation.headline[0]}_{measure}"
        if measure not in known:
            reason = f" ({evaluation.not_measured})" if evaluation.not_measured and "@" in measure else ""
            raise InvalidInputError(
                f"the gate {self.text!r} names nothing that was measured: {', '.join(known)}{reason}"
            )
        value = known[measure].mean
        return GateResult(self.text, value, SIGNS[self.sign](value, self.bar))


@dataclass(frozen=True, slots=True)
class GateResult:
    """A gate with what was reached, and whether that is enough."""

    gate: str
    value: float
    met: bool
