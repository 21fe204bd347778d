"""How the command line shows an evaluation or a calibration: for people, or as one JSON object for pipes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dpr_lance.calibration.hybrid_weight import FEWEST_QUESTIONS
from dpr_lance.cli.console import plain_table, print_facts, print_json, print_table, print_text, progress_bar, say
from dpr_lance.cli.output import rerank_line
from dpr_lance.evaluation.answers import AnswerEvaluation
from dpr_lance.evaluation.metrics import Interval
from dpr_lance.evaluation.results import (
    Evaluation,
    EvaluationOutcome,
    EvaluationPair,
    EvaluationProgress,
    GateResult,
    Judgement,
)
from dpr_lance.records.reports import Skipped
from dpr_lance.records.table_info import Calibration, RerankCalibration

SHOWN_SKIPPED = 10
"""Skipped questions that are named; all are counted."""


def print_evaluation(evaluation: Evaluation, gates: Sequence[GateResult], *, as_json: bool) -> None:
    """Write the rows and what differs between them to standard output, gates and notes to standard error."""
    _say_skipped(evaluation.skipped)
    if evaluation.labels_missing:
        say(
            f"{evaluation.labels_missing:,} of {evaluation.labels:,} labels are ids that are not stored: no search can "
            f"find those"
        )
    if evaluation.not_measured:
        say(f"not measured: {evaluation.not_measured}")
    if as_json:
        print_json(_summary(evaluation, gates))
    else:
        _print_tables(evaluation)
    for gate in gates:
        say(f"gate {'met' if gate.met else 'missed'}: {gate.gate} ({gate.value:.4f})")


def disagreement(outcome: EvaluationOutcome, by: Judgement, k: int) -> dict[str, object]:
    """Return a question that some rows answer within the first k and others do not, as a JSON object."""
    ranks = outcome.ranks(by) or {}
    return {
        "id": outcome.id,
        "question": outcome.text,
        "by": by,
        "k": k,
        "found_by": [row for row, rank in ranks.items() if 0 < rank <= k],
        "missed_by": [row for row, rank in ranks.items() if not 0 < rank <= k],
        "ranks": {row: rank or None for row, rank in ranks.items()},
    }


def print_answer_evaluation(found: AnswerEvaluation, *, as_json: bool) -> None:
    """Write exact match and F1 of each row to standard output."""
    if found.skipped:
        say(f"skipped: {found.skipped:,} questions without answers")
    if as_json:
        print_json(found)
        return
    print_text(f"% of {found.questions:,} questions, answered by {found.reader} (95 % interval)")
    cells = {
        f"{row.name}, k = {row.k}" if row.k else f"{row.name}, {row.questions:,} questions": [
            _with_interval(row.exact_match),
            _with_interval(row.f1),
        ]
        for row in found.rows
    }
    _print_table(["exact match", "F1"], cells)


def print_calibration(found: Calibration, *, as_json: bool) -> None:
    """Write what was chosen, and what it was chosen from, to standard output."""
    _say_skipped(found.skipped)
    if as_json:
        print_json(found)
        return
    facts: dict[str, object] = {
        "hybrid weight": f"{found.hybrid_weight:.4g}",
        "default mode": found.mode,
        "questions": f"{found.questions:,}, {found.labelled:,} of them labelled",
    }
    if found.before is not None and found.after is not None:
        earlier = "" if found.after == found.before else f", it was {found.before:.4f}"
        facts["mean reciprocal rank"] = f"{found.after:.4f}{earlier} (on questions not chosen on)"
    if found.probed_share is not None and found.recall is not None:
        facts["index effort"] = f"{100 * found.probed_share:.0f} % of the partitions, recall {found.recall:.3f}"
    if found.rerank is not None:
        facts["re-ranking"] = [rerank_line(found.rerank), _rerank_gain(found.rerank)]
    print_facts(facts | {"seconds": found.seconds})
    if found.after is not None and found.after == found.before:
        say("the settings stay as they were: nothing that was tried is clearly better")
    if found.questions and found.after is None:
        say(f"labels did not choose the weight: that takes {FEWEST_QUESTIONS} labelled questions")


def _rerank_gain(chosen: RerankCalibration) -> str:
    alone = f"retrieval alone {chosen.retrieval_alone:.4f}, reader alone {chosen.reader_alone:.4f}"
    return f"mean reciprocal rank {chosen.combined:.4f}, {alone} (of {chosen.questions:,} questions)"


@contextmanager
def evaluation_bar() -> Iterator[EvaluationBar]:
    """Show a bar while the block runs."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with progress_bar(*columns) as progress:
        yield EvaluationBar(progress)


class EvaluationBar:
    """The progress callback of `evaluate`: a bar for each stage."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks = {
            stage: progress.add_task(stage, total=None, visible=False) for stage in ("passages", "questions")
        }

    def __call__(self, advance: EvaluationProgress) -> None:
        """Take note of how far the work has come."""
        self._progress.update(
            self._tasks[advance.stage], completed=advance.done, total=advance.total, visible=True, refresh=False
        )


def _summary(evaluation: Evaluation, gates: Sequence[GateResult]) -> dict[str, object]:
    """Return everything but the questions' own outcomes."""
    by, k = evaluation.headline
    counts = {name: getattr(evaluation, name) for name in ("questions", "with_answers", "with_labels")}
    headline = {"by": by, "k": k}
    rows = {"rows": evaluation.rows, "pairs": evaluation.pairs, "gates": list(gates)}
    return counts | {"headline": headline} | rows | {"skipped": evaluation.skipped, "seconds": evaluation.seconds}


def _say_skipped(skipped: Sequence[Skipped]) -> None:
    for each in skipped[:SHOWN_SKIPPED]:
        say(f"skipped: {each.place}: {each.reason}")
    if len(skipped) > SHOWN_SKIPPED:
        say(f"skipped: {len(skipped):,} questions in all")


def _print_tables(evaluation: Evaluation) -> None:
    for by, count, what in (
        ("answer", evaluation.with_answers, "with an answer"),
        ("label", evaluation.with_labels, "with a labelled passage"),
    ):
        if not count:
            continue
        rows = {row.name: row.by_answer if by == "answer" else row.by_label for row in evaluation.rows}
        print_text(f"% of {count:,} questions {what} among the first k passages (95 % interval)")
        cells = {name: [_with_interval(found[k]) for k in evaluation.ks] for name, found in rows.items()}
        _print_table([f"top-{k}" for k in evaluation.ks], cells)
    measures = list(evaluation.rows[0].measures)
    if measures:
        print_text("by labelled passage, in %")
        means = {row.name: [f"{100 * row.measures[name].mean:.1f}" for name in measures] for row in evaluation.rows}
        _print_table(measures, means)
    by, k = evaluation.headline
    for pair in evaluation.pairs:
        if (pair.by, pair.k) == (by, k):
            print_text(_compared(pair))


def _compared(pair: EvaluationPair) -> str:
    test = pair.test
    found = test.difference
    points = f"{100 * found.mean:+.1f} points ({100 * found.low:+.1f} to {100 * found.high:+.1f})"
    counts = f"{test.wins} won, {test.losses} lost, p = {test.p_value:.2g}"
    return f"{pair.first} − {pair.second} at top-{pair.k}: {points}, {counts}"


def _with_interval(share: Interval) -> str:
    return f"{100 * share.mean:.1f} ({100 * share.low:.1f}–{100 * share.high:.1f})"


def _print_table(header: Sequence[str], rows: Mapping[str, Sequence[str]]) -> None:
    table = plain_table()
    table.add_column("", no_wrap=True)
    for name in header:
        table.add_column(name, justify="right", no_wrap=True)
    for name, cells in rows.items():
        table.add_row(name, *cells)
    print_table(table)
    print_text("")
