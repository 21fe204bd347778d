"""The command `train-reader`: a reader of one's own, for re-ranking and answers."""

from __future__ import annotations

import importlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dpr_lance.cli.console import print_facts, print_json, say
from dpr_lance.cli.invocation import interruptible
from dpr_lance.cli.options import AsJson
from dpr_lance.cli.training import QUESTIONS, option_of, shown_share, trainer_module, wrong_usage
from dpr_lance.encoders.card import Precision
from dpr_lance.records.reports import OnError

if TYPE_CHECKING:
    from dpr_lance.evaluation.metrics import Interval

commands = typer.Typer()

settings: Any = importlib.import_module("dpr_lance.trainer.reader.config")  # light: it imports no torch
DEFAULTS: dict[str, Any] = settings.reader_defaults()


def _option(text: str, name: str, metavar: str | None = None) -> Any:  # noqa: ANN401 - as typer.Option
    return option_of(text, DEFAULTS[name], metavar)


@commands.command()
def train_reader(  # noqa: PLR0913 - one argument an option
    table: Annotated[str, typer.Argument(metavar="URI", help="The folder of the table.")],
    questions: Annotated[list[str], typer.Argument(metavar="QUESTIONS", help=f"{QUESTIONS}; one or more.")],
    *,
    out: Annotated[str, typer.Option(metavar="FOLDER", help="The bundle to make.")],
    table_name: Annotated[
        str | None, _option("Table name, when the folder holds several.", "table_name", metavar="NAME")
    ] = None,
    dev: Annotated[
        str | None, typer.Option(metavar="FILE", help="Validation questions.  [default: a part of the others]")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="The checkpoint to start from: a reader, a cross-encoder, a question-answering model or an encoder.  "
            "[default: the packaged encoder's]",
        ),
    ] = None,
    layers: Annotated[
        str | None, typer.Option(metavar="1,3,5", help="Layers to keep of it, from 0.  [default: all]")
    ] = None,
    span_layers: Annotated[
        str | None,
        typer.Option(metavar="7,9,11", help="Layers of it that follow those, and that spans alone are read from."),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="A reader, cross-encoder or ColBERT model whose scores to learn from."),
    ] = None,
    epochs: Annotated[float | None, _option("Passes over the questions.", "epochs")] = None,
    steps: Annotated[int | None, typer.Option(help="Batches, in place of epochs.")] = None,
    batch_size: Annotated[int | None, _option("Questions per batch.", "batch_size")] = None,
    passages: Annotated[int | None, _option("Passages per question: one positive and negatives.", "passages")] = None,
    source: Annotated[
        Literal["hybrid", "bm25", "dense"] | None, _option("The search whose hits are negatives.", "source")
    ] = None,
    depth: Annotated[int | None, _option("Hits to look for negatives in.", "depth")] = None,
    keep: Annotated[int | None, _option("Negatives to keep per question.", "keep")] = None,
    learning_rate: Annotated[float | None, _option("Peak learning rate.", "learning_rate")] = None,
    selection_weight: Annotated[float | None, _option("Weight of the selection loss.", "selection_weight")] = None,
    span_weight: Annotated[float | None, _option("Weight of the loss of spans.", "span_weight")] = None,
    kl_weight: Annotated[float | None, _option("Weight of the teacher's distribution.", "kl_weight")] = None,
    margin_mse_weight: Annotated[float | None, _option("Weight of the teacher's margins.", "margin_mse_weight")] = None,
    temperature: Annotated[float | None, _option("Divides the scores for the distribution.", "temperature")] = None,
    max_tokens: Annotated[int | None, _option("Length of inputs.", "max_tokens")] = None,
    extracts: Annotated[
        bool | None, typer.Option("--extracts/--selects-only", help="Find answers, or only score passages.")
    ] = None,
    metric: Annotated[
        Literal["mrr", "top-1", "exact-match"] | None, _option("Which checkpoint is best.", "metric")
    ] = None,
    seed: Annotated[int | None, _option("Random seed.", "seed")] = None,
    precision: Annotated[Precision | None, _option("How the bundle stores weights.", "precision")] = None,
    config: Annotated[Path | None, typer.Option(metavar="CONFIG.toml", help="Settings; options win over it.")] = None,
    on_error: Annotated[OnError | None, _option("What to do about bad rows.", "on_error")] = None,
    replace: Annotated[bool | None, typer.Option("--replace", help="Replace an older bundle.")] = None,
    as_json: AsJson = False,
) -> None:
    """Train a reader on questions: it orders what the table finds, and finds the answers.

    Checkpoints, log and curves go to OUT-training; the same command continues after an interruption. Needs the train
    extra: pip install 'dpr-lance[train]'.
    """
    given = {name: value for name, value in locals().items() if name not in ("config", "as_json")}
    with wrong_usage():
        given["layers"] = None if layers is None else settings.parsed_layers(layers)
        given["span_layers"] = None if span_layers is None else settings.parsed_layers(span_layers, "span_layers")
        run = settings.make_reader_run(config, **given)
    with interruptible(lambda: "checkpoints that were written are kept; the same command continues from the last one"):
        report = trainer_module("reader.training", "training").train_reader(run, say=say)
    if as_json:
        print_json(report)
        return
    facts = {"bundle": report.bundle, "steps": report.steps, "best step": report.best_step}
    facts |= {"stopped early": report.stopped_early, "seconds": report.seconds}
    for row in report.accuracies:
        facts[row.name] = [*(shown_share(f"top-{k}", found) for k, found in row.top.items()), _mrr(row.mrr)]
        if row.exact_match is not None:
            facts[f"{row.name}, gold passage"] = [
                f"exact match {100 * row.exact_match:.1f}", f"F1 {100 * row.f1:.1f}"
            ]  # fmt: skip
    print_facts(facts)
    say(f"use it: dpr-lance search {shlex.quote(run.table)} QUESTION --rerank {shlex.quote(run.out)}")


def _mrr(found: Interval) -> str:
    return f"MRR {found.mean:.3f} ({found.low:.3f} to {found.high:.3f})"
