"""Plots of accuracy over k, and of a calibration; they need the `eval` extra (matplotlib)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dpr_lance.errors import InvalidInputError, MissingExtraError
from dpr_lance.evaluation.results import Evaluation
from dpr_lance.records.table_info import Calibration

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_APART = 0.05
"""The least distance between labels: of recall, or as a share of the longest time."""


def check_plot(path: Path) -> None:
    """Raise `MissingExtraError` without matplotlib, `InvalidInputError` for a file type that it cannot write."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtraError("a plot", "eval") from error
    kinds = Figure().canvas.get_supported_filetypes()
    if path.suffix.lower().lstrip(".") not in kinds:
        raise InvalidInputError(f"{path}: plots are written as {', '.join('.' + kind for kind in sorted(kinds))}")


def plot_accuracy(evaluation: Evaluation, path: Path) -> None:
    """Draw the top-k accuracy of every row over k, with intervals at the evaluated k."""
    check_plot(path)
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra

    by, _ = evaluation.headline
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    depth = max(evaluation.ks)
    for row in evaluation.rows:
        (line,) = axes.plot(range(1, depth + 1), 100 * evaluation.accuracy_over_k(row.name, by), label=row.name)
        intervals = row.by_answer if by == "answer" else row.by_label
        for k, interval in intervals.items():
            axes.vlines(k, 100 * interval.low, 100 * interval.high, colors=line.get_color(), alpha=0.5)
    axes.set_xscale("log")
    axes.set_xticks(evaluation.ks, [str(k) for k in evaluation.ks], minor=False)
    axes.set_xticks([], minor=True)
    judged = "with an answer" if by == "answer" else "with a labelled passage"
    axes.set_xlabel("k")
    axes.set_ylabel(f"% of questions {judged} in the first k")
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, path)


def plot_calibration(calibration: Calibration, path: Path) -> None:
    """Draw the mean reciprocal rank over the weights that were tried, and time over recall for the index efforts."""
    check_plot(path)
    if not calibration.weights and not calibration.efforts:
        raise InvalidInputError(
            f"{path}: there is nothing to plot: a calibration plot needs labelled questions, or a vector index"
        )
    _save(calibration_figure(calibration), path)


def calibration_figure(calibration: Calibration) -> Figure:
    """Return the figure that `plot_calibration` saves."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra

    drawn = [
        draw for draw, tried in ((_draw_weights, calibration.weights), (_draw_efforts, calibration.efforts)) if tried
    ]
    figure = Figure(figsize=(6 * len(drawn), 4), layout="constrained")
    for draw, axes in zip(drawn, figure.subplots(1, len(drawn), squeeze=False)[0], strict=True):
        draw(calibration, axes)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def _draw_weights(calibration: Calibration, axes: Axes) -> None:
    from matplotlib.ticker import LogLocator  # noqa: PLC0415 - an extra

    weights, ranks = zip(*((point.weight, 100 * point.mrr) for point in calibration.weights), strict=True)
    axes.plot(weights, ranks, marker=".", label="tried")
    axes.axvline(calibration.hybrid_weight, linestyle="--", label=f"in force: λ = {calibration.hybrid_weight:.4g}")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_title("weight of the dense score")
    axes.set_xlabel("λ of bm25 + λ·dense")
    axes.set_ylabel(f"mean reciprocal rank, % ({calibration.labelled:,} questions)")


def _draw_efforts(calibration: Calibration, axes: Axes) -> None:
    recalls, times = zip(*((point.recall, point.milliseconds) for point in calibration.efforts), strict=True)
    axes.plot(recalls, times, marker=".", label="tried")
    partitions = max(point.probes for point in calibration.efforts)  # one of the efforts is the whole index
    highest, labelled = max(times), (-1.0, -1.0)
    for point in calibration.efforts:
        if point.recall - labelled[0] < _APART and abs(point.milliseconds - labelled[1]) < _APART * highest:
            continue  # it would overlap the last label
        labelled = (point.recall, point.milliseconds)
        share = f"{100 * point.probes / partitions:.1f}".removesuffix(".0")
        axes.annotate(f"{share} %", labelled, (4, -10), textcoords="offset points", fontsize=8)
    probes = round((calibration.probed_share or 0) * partitions)
    for point in calibration.efforts:
        if point.probes == probes:
            label = f"in force: {probes} of {partitions} partitions, recall {point.recall:.3f}"
            axes.plot(point.recall, point.milliseconds, "o", fillstyle="none", markersize=10, label=label)
    axes.set_ylim(bottom=0)
    axes.margins(x=0.1)
    axes.set_title("share of the index that is searched")
    axes.set_xlabel("recall@20 against exact search")
    axes.set_ylabel("ms for a single question")


def _save(figure: Figure, path: Path) -> None:
    try:
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise InvalidInputError(f"{path}: the plot cannot be written ({error.strerror or error})") from None
