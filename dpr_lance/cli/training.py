"""The commands `train`, `mine` and `export`: encoders of one's own, and the hard negatives that they learn from."""

from __future__ import annotations

import dataclasses
import importlib
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dpr_lance.cli.console import print_facts, print_json, print_result, say
from dpr_lance.cli.invocation import UsageError, interruptible
from dpr_lance.cli.options import AsJson
from dpr_lance.cli.output import size
from dpr_lance.encoders.card import DEFAULT_PRECISION, Pooling, Precision, TitleStyle
from dpr_lance.errors import InvalidInputError, MissingExtraError
from dpr_lance.records.reports import OnError

if TYPE_CHECKING:
    from dpr_lance.encoders.bundle_folder import BundleFolder
    from dpr_lance.evaluation.metrics import Interval

commands = typer.Typer()

settings: Any = importlib.import_module("dpr_lance.trainer.config")  # light: it imports no torch
DEFAULTS: dict[str, Any] = settings.defaults()


def _option(text: str, name: str, metavar: str | None = None) -> Any:  # noqa: ANN401 - as typer.Option
    return option_of(text, DEFAULTS[name], metavar)


def option_of(text: str, default: object, metavar: str | None = None) -> Any:  # noqa: ANN401 - as typer.Option
    """Return an option of a setting with its default in the help; None leaves the setting as it is."""
    shown = f"{default:g}" if isinstance(default, float) else default
    return typer.Option(help=f"{text}  [default: {shown}]", metavar=metavar)


OnBad = Annotated[Literal["strict", "skip"] | None, typer.Option(hidden=True)]
"""What `--on-error` was called before."""
QUESTIONS = "DPR JSON, JSON lines or a BEIR folder"


@commands.command()
def train(  # noqa: PLR0913 - one argument an option
    config: Annotated[Path | None, typer.Argument(metavar="CONFIG.toml", help="Settings; options win over it.")] = None,
    *,
    table: Annotated[str | None, typer.Option("--table", metavar="URI", help="The folder of the table.")] = None,
    table_name: Annotated[
        str | None, _option("Table name, when the folder holds several.", "table_name", metavar="NAME")
    ] = None,
    questions: Annotated[list[str] | None, typer.Option(metavar="FILE", help=f"{QUESTIONS}. Repeatable.")] = None,
    dev: Annotated[
        str | None, typer.Option(metavar="FILE", help="Validation questions.  [default: a part of the others]")
    ] = None,
    out: Annotated[str | None, typer.Option(metavar="FOLDER", help="The bundle to make.")] = None,
    encoder: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="The checkpoint to start from.  [default: that of the table's encoder]"),
    ] = None,
    epochs: Annotated[float | None, _option("Passes over the questions.", "epochs")] = None,
    batch_size: Annotated[int | None, _option("Questions per batch.", "batch_size")] = None,
    learning_rate: Annotated[float | None, _option("Peak learning rate.", "learning_rate")] = None,
    hard_negatives: Annotated[int | None, _option("Hard negatives per question.", "hard_negatives")] = None,
    rounds: Annotated[int | None, _option("Times the encoder in training mines again.", "rounds")] = None,
    seed: Annotated[int | None, _option("Random seed.", "seed")] = None,
    separate: Annotated[
        bool | None, typer.Option("--separate", help="Two encoders where the checkpoint has one.")
    ] = None,
    precision: Annotated[Precision | None, _option("How the bundle stores weights.", "precision")] = None,
    on_error: Annotated[OnError | None, _option("What to do about bad rows.", "on_error")] = None,
    on_bad: OnBad = None,
    replace: Annotated[bool | None, typer.Option("--replace", help="Replace an older bundle.")] = None,
    as_json: AsJson = False,
) -> None:
    """Train an encoder on questions, with hard negatives from a table, and make a bundle of it.

    Checkpoints, log and curves go to OUT-training; the same command continues after an interruption. Every setting can
    stand in CONFIG.toml. Needs the train extra: pip install 'dpr-lance[train]'.
    """
    given = {option: value for option, value in locals().items() if option not in ("config", "on_bad", "as_json")}
    given["on_error"] = _renamed(on_error, on_bad)
    if config is None and (not questions or out is None):
        raise UsageError("name the questions (--questions FILE) and the bundle (--out FOLDER), or a CONFIG.toml")
    if config is None:
        with wrong_usage():
            run = settings.make_run({}, place="options", **given)
    else:
        run = settings.read_run(config, **given)
    with interruptible(lambda: "checkpoints that were written are kept; the same command continues from the last one"):
        report = trainer_module("training", "training").train(run, say=say)
    if as_json:
        print_json(report)
        return
    facts = {"bundle": report.bundle, "steps": report.steps, "best step": report.best_step}
    facts |= {"stopped early": report.stopped_early, "texts cut off": report.truncated, "seconds": report.seconds}
    facts |= {
        f"{row.name}, {row.mode}": [shown_share(f"top-{k}", found) for k, found in row.top.items()]
        for row in report.accuracies
    }
    print_facts(facts)
    say(f"use it: dpr-lance reembed {shlex.quote(run.table or 'URI')} {shlex.quote(run.out)}")


@commands.command()
def mine(  # noqa: PLR0913 - one argument an option
    table: Annotated[str, typer.Option("--table", metavar="URI", help="The folder of the table.")],
    questions: Annotated[str, typer.Option(metavar="FILE", help=f"{QUESTIONS}.")],
    *,
    table_name: Annotated[
        str, typer.Option(metavar="NAME", help="Table name, when the folder holds several.")
    ] = DEFAULTS["table_name"],
    source: Annotated[
        list[str] | None,
        typer.Option(metavar="bm25|dense", help="What ranks the passages. Repeatable.  [default: bm25]"),
    ] = None,
    depth: Annotated[int | None, _option("Passages of a ranking to look at.", "depth")] = None,
    keep: Annotated[int | None, _option("Negatives to keep per question.", "keep")] = None,
    first_rank: Annotated[int | None, _option("Leave out better ranks than this.", "first_rank")] = None,
    margin: Annotated[
        float | None, _option("Dense: least distance below the positive, as a share of its score.", "margin")
    ] = None,
    split: Annotated[str, typer.Option(help="The split of a BEIR folder.")] = "train",
    out: Annotated[Path | None, typer.Option(metavar="FILE.jsonl", help="Questions with negatives, for train.")] = None,
    on_error: Annotated[OnError, typer.Option(help="What to do about bad rows.")] = DEFAULTS["on_error"],
    on_bad: OnBad = None,
    as_json: AsJson = False,
) -> None:
    """Mine hard negatives for questions from a table, and keep them in a table next to it.

    Left out, in this order, and counted: positives, near-duplicates, passages that hold an answer, the first ranks,
    and dense hits too near to the positive.
    """
    sources = source or ["bm25"]
    if unknown := sorted(set(sources) - {"bm25", "dense"}):
        raise UsageError(f"--source {unknown[0]!r} is neither bm25 nor dense")
    named = {"depth": depth, "keep": keep, "first_rank": first_rank, "margin": margin}
    with wrong_usage():
        mining = settings.Mining(**{name: value for name, value in named.items() if value is not None})
    with interruptible(lambda: "nothing was stored"):
        report = trainer_module("table_questions", "mining").mine_table(
            table,
            questions,
            table=table_name,
            sources=sources,
            settings=mining,
            split=split,
            on_error=_renamed(on_error, on_bad),
            out=out,
            say=say,
        )
    facts = {"kept in": report.table, "questions": report.questions, "negatives": report.negatives}
    facts |= {"questions without one": report.without}
    facts |= {f"left out: {what}": count for what, count in report.dropped.items()}
    print_result(report, lambda _: facts, as_json=as_json)


@commands.command()
def export(  # noqa: PLR0913 - one argument an option
    source: Annotated[str, typer.Argument(help="A checkpoint: a folder, a Hub name, a .cp file, dpr-single-nq ...")],
    out: Annotated[Path, typer.Argument(help="The folder of the bundle.")],
    *,
    passage_encoder: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="The passage encoder, where SOURCE is the question encoder alone."),
    ] = None,
    precision: Annotated[Precision, typer.Option(help="How the bundle stores weights.")] = DEFAULT_PRECISION,
    pooling: Annotated[Pooling | None, typer.Option(help="Where the checkpoint does not say.")] = None,
    normalise: Annotated[
        bool | None, typer.Option("--normalise/--no-normalise", help="Unit vectors, where the checkpoint does not say.")
    ] = None,
    question_prefix: Annotated[str | None, typer.Option(help="Put before each question.")] = None,
    passage_prefix: Annotated[str | None, typer.Option(help="Put before each passage.")] = None,
    title_style: Annotated[
        TitleStyle | None, typer.Option(help="Title and text as a pair, [CLS] title [SEP] text, or joined.")
    ] = None,
    zero_token_types: Annotated[
        bool | None,
        typer.Option("--zero-token-types/--token-types", help="Type 0 for the text of a pair too, as in DPR."),
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=8, help="Tokens at which inputs are cut.")] = None,
    hybrid_weight: Annotated[float | None, typer.Option(min=0, help="Default λ of bm25 + λ·dense.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the encoder, for its card.")] = None,
    base: Annotated[str | None, typer.Option(metavar="SOURCE", help="What a .cp file was trained from.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the Hub.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an older bundle.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a bundle, which needs no torch, of a checkpoint: an encoder, a reader or a late-interaction model.

    Encoders: DPR pairs, sentence-transformers, BERT-family models. Readers: DPR readers, cross-encoders,
    question-answering models. Late interaction: ColBERT and PyLate. The kind is recognised by the checkpoint's files.
    Needs the train extra: pip install 'dpr-lance[train]'.
    """
    given = {
        option: value
        for option, value in locals().items()
        if option not in ("source", "out", "passage_encoder", "as_json")
    }
    with interruptible(lambda: f"{out} was not made"):
        kind = trainer_module("bundles.kinds", "exporting").export_checkpoint(
            (source, passage_encoder) if passage_encoder else source,
            out,
            **given,
        )
    bundle = _opened(kind, out)
    facts = {"kind": kind, "bundle": str(out), "bytes": bundle.size, "precision": bundle.precision}
    facts |= dataclasses.asdict(bundle.card)
    print_result(facts, lambda _: facts | {"bytes": size(bundle.size)}, as_json=as_json)
    if not as_json:
        use = f"add URI FILE --encoder {shlex.quote(str(out))}"
        say(f"use it: dpr-lance {use if kind == 'encoder' else _use(bundle, out)}")


def _opened(kind: str, folder: Path) -> BundleFolder[Any]:
    from dpr_lance.encoders.bundle import open_bundle
    from dpr_lance.reader.bundle import open_reader_bundle
    from dpr_lance.reader.late_interaction_bundle import open_late_interaction_bundle

    if kind == "encoder":
        return open_bundle(folder)
    return open_reader_bundle(folder) if kind == "reader" else open_late_interaction_bundle(folder)


def _use(bundle: BundleFolder[Any], folder: Path) -> str:
    """Return the command that uses a reader or a late-interaction model."""
    if getattr(bundle.card, "selects", True):
        return f"search URI QUESTION --reranker {shlex.quote(str(folder))}"
    return f"answer URI QUESTION --reader {shlex.quote(str(folder))}"


def _renamed(on_error: OnError | None, on_bad: str | None) -> OnError | None:
    if on_bad is None:
        return on_error
    say("--on-bad is deprecated: use --on-error raise or --on-error skip")
    return "skip" if on_bad == "skip" else "raise"


@contextmanager
def wrong_usage() -> Iterator[None]:
    """Report impossible values of options as wrong usage."""
    try:
        yield
    except InvalidInputError as error:
        raise UsageError(str(error)) from None


def shown_share(name: str, share: Interval) -> str:
    """Return a share with its interval, in per cent."""
    return f"{name} {100 * share.mean:.1f} ({100 * share.low:.1f} to {100 * share.high:.1f})"


def trainer_module(name: str, feature: str) -> Any:  # noqa: ANN401 - a module
    """Return a module of the trainer; raises `MissingExtraError` without its packages."""
    try:
        return importlib.import_module(f"dpr_lance.trainer.{name}")
    except ModuleNotFoundError as error:
        raise MissingExtraError(feature, "train") from error
