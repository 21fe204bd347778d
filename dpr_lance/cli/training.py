"""The commands `train` and `mine`: an encoder of one's own, and the hard negatives that it learns from."""

from __future__ import annotations

import importlib
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dpr_lance.cli import output as display
from dpr_lance.cli.invocation import UsageError, interruptible
from dpr_lance.cli.options import DEFAULT_TABLE, AsJson
from dpr_lance.errors import InvalidInputError, MissingExtraError

if TYPE_CHECKING:
    from dpr_lance.evaluation.metrics import Interval

commands = typer.Typer()

TableUri = Annotated[str | None, typer.Option("--table", metavar="URI", help="The folder of the table.")]
InTable = Annotated[str, typer.Option("--table-name", metavar="NAME", help="The table, where the folder has several.")]
OnError = Annotated[Literal["raise", "skip"], typer.Option(help="What to do with a row that is bad.")]
OnBad = Annotated[Literal["strict", "skip"] | None, typer.Option(hidden=True)]
"""What `--on-error` was called before."""


@commands.command()
def train(  # noqa: PLR0913 - one argument an option
    config: Annotated[Path | None, typer.Argument(metavar="CONFIG.toml", help="Settings; options win over it.")] = None,
    *,
    table: TableUri = None,
    table_name: InTable = DEFAULT_TABLE,
    questions: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="DPR JSON, JSON lines or a BEIR folder; repeat it.")
    ] = None,
    dev: Annotated[
        str | None, typer.Option(metavar="FILE", help="Questions to validate with.  [default: a part of the others]")
    ] = None,
    out: Annotated[str | None, typer.Option(metavar="FOLDER", help="The bundle that is made.")] = None,
    encoder: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="The checkpoint to start from.  [default: that of the table's encoder]"),
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the questions.  [default: 3]")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Questions of a batch.  [default: 32]")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="At its highest.  [default: 2e-5]")] = None,
    hard_negatives: Annotated[int | None, typer.Option(help="For each question.  [default: 1]")] = None,
    rounds: Annotated[int | None, typer.Option(help="Times the encoder mines anew.  [default: 0]")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random.  [default: 12345]")] = None,
    separate: Annotated[bool, typer.Option("--separate", help="Two encoders where the checkpoint has one.")] = False,
    precision: Annotated[
        Literal["int8", "fp16", "fp32"] | None, typer.Option(help="Of the bundle.  [default: int8]")
    ] = None,
    on_error: OnError = "raise",
    on_bad: OnBad = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an older bundle.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train an encoder on questions, with hard negatives from a table, and make a bundle of it.

    Checkpoints, log and curves go to OUT-training; the same command goes on after an interruption. Every setting can
    stand in CONFIG.toml. Needs the train extra: pip install 'dpr-lance[train]'.
    """
    given: dict[str, Any] = {
        "table": table,
        "table_name": table_name if table is not None else None,
        "questions": tuple(questions) if questions else None,
        "dev": dev,
        "out": out,
        "encoder": encoder,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "hard_negatives": hard_negatives,
        "rounds": rounds,
        "seed": seed,
        "separate": separate or None,
        "precision": precision,
        "on_error": _renamed(on_error, on_bad) if on_bad or on_error != "raise" else None,
        "replace": replace or None,
    }
    if config is None and (not questions or out is None):
        raise UsageError("name the questions (--questions FILE) and the bundle (--out FOLDER), or a CONFIG.toml")
    settings = importlib.import_module("dpr_lance.trainer.config")
    if config is None:
        with _wrong_usage():
            run = settings.make_run({}, place="options", **given)
    else:
        run = settings.read_run(config, **given)
    with interruptible(lambda: "checkpoints that were written are kept; the same command goes on from the last one"):
        report = _room("training", "training").train(run, say=display.say)
    if as_json:
        display.print_json(report)
        return
    facts = {"bundle": report.bundle, "steps": report.steps, "best step": report.best_step}
    facts |= {"stopped early": report.stopped_early, "texts cut off": report.truncated, "seconds": report.seconds}
    facts |= {
        f"{row.name}, {row.mode}": [_shown(k, found) for k, found in row.top.items()] for row in report.accuracies
    }
    display.print_facts(facts)
    display.say(f"use it: dpr-lance reembed {shlex.quote(run.table or 'URI')} {shlex.quote(run.out)}")


@commands.command()
def mine(  # noqa: PLR0913 - one argument an option
    table: Annotated[str, typer.Option("--table", metavar="URI", help="The folder of the table.")],
    questions: Annotated[str, typer.Option(metavar="FILE", help="DPR JSON, JSON lines or a BEIR folder.")],
    *,
    table_name: InTable = DEFAULT_TABLE,
    source: Annotated[
        list[str] | None, typer.Option(metavar="bm25|dense", help="What ranks; repeat it.  [default: bm25]")
    ] = None,
    depth: Annotated[int | None, typer.Option(help="Passages of a ranking to look at.  [default: 50]")] = None,
    keep: Annotated[int | None, typer.Option(help="Negatives of a question to keep.  [default: 30]")] = None,
    first_rank: Annotated[int | None, typer.Option(help="Leave out what ranks before.  [default: 1]")] = None,
    margin: Annotated[
        float | None, typer.Option(help="Dense: this share below the positive's score.  [default: 0.05]")
    ] = None,
    split: Annotated[str, typer.Option(help="Of a BEIR folder.")] = "train",
    out: Annotated[Path | None, typer.Option(metavar="FILE.jsonl", help="Questions with negatives, for train.")] = None,
    on_error: OnError = "raise",
    on_bad: OnBad = None,
    as_json: AsJson = False,
) -> None:
    """Mine hard negatives for questions from a table, and keep them in a table beside it.

    Left out, in this order, and counted: positives, near-duplicates, passages that hold an answer, the first ranks,
    and dense hits too near to the positive.
    """
    sources = source or ["bm25"]
    if unknown := sorted(set(sources) - {"bm25", "dense"}):
        raise UsageError(f"--source {unknown[0]!r} is neither bm25 nor dense")
    named = {"depth": depth, "keep": keep, "first_rank": first_rank, "margin": margin}
    with _wrong_usage():
        settings = importlib.import_module("dpr_lance.trainer.config").Mining(
            **{name: value for name, value in named.items() if value is not None}
        )
    with interruptible(lambda: "nothing was stored"):
        report = _room("table_questions", "mining").mine_table(
            table,
            questions,
            table=table_name,
            sources=sources,
            settings=settings,
            split=split,
            on_error=_renamed(on_error, on_bad),
            out=out,
            say=display.say,
        )
    if as_json:
        display.print_json(report)
    else:
        dropped = {f"left out: {what}": count for what, count in report.dropped.items()}
        facts = {"kept in": report.table, "questions": report.questions, "negatives": report.negatives}
        display.print_facts(facts | {"questions without one": report.without} | dropped)


def _renamed(on_error: Literal["raise", "skip"], on_bad: str | None) -> Literal["raise", "skip"]:
    if on_bad is None:
        return on_error
    display.say("--on-bad is deprecated: use --on-error raise or --on-error skip")
    return "skip" if on_bad == "skip" else "raise"


@contextmanager
def _wrong_usage() -> Iterator[None]:
    """Make what is wrong with the options' values wrong usage."""
    try:
        yield
    except InvalidInputError as error:
        raise UsageError(str(error)) from None


def _shown(k: int, share: Interval) -> str:
    return f"top-{k} {100 * share.mean:.1f} ({100 * share.low:.1f} to {100 * share.high:.1f})"


def _room(name: str, feature: str) -> Any:  # noqa: ANN401 - a module
    """Return a room of the trainer; raises `MissingExtraError` without its packages."""
    try:
        return importlib.import_module(f"dpr_lance.trainer.{name}")
    except ModuleNotFoundError as error:
        raise MissingExtraError(feature, "train") from error
