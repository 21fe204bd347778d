"""The command line: `dpr-lance`. Results go to standard output, everything else to standard error.

Exit codes: 0 done, 1 the work failed, 2 wrong usage, 130 interrupted. Heavy rooms are imported by the command that
needs them, so that `--help` and a wrong option answer at once.
"""

from __future__ import annotations

import dataclasses
import importlib
import io
import itertools
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from dpr_lance.cli import evaluation as cli_evaluation
from dpr_lance.cli import hits_output as hits_display
from dpr_lance.cli import output as display
from dpr_lance.cli import training as cli_training
from dpr_lance.cli import vectors as cli_vectors
from dpr_lance.cli.invocation import InterruptionError, UsageError, interruptible, is_piped, opened, piped_questions
from dpr_lance.cli.options import DEFAULT_TABLE, AsJson, EncoderName, TableName, Uri, Where
from dpr_lance.errors import DprLanceError
from dpr_lance.readers.lines import MAX_DOCUMENT_BYTES
from dpr_lance.records.hits import Mode
from dpr_lance.records.table_info import IndexKind
from dpr_lance.table.address import local_folder
from dpr_lance.table.memory import bound_memory

app = typer.Typer(
    help="Dense Passage Retrieval as an extension of LanceDB: add documents, ask questions.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Rich's own markup takes what stands in square brackets, as a default or an extra, for a style and drops it.
    rich_markup_mode="markdown",
)
app.add_typer(cli_evaluation.commands)
app.add_typer(cli_training.commands)
app.add_typer(cli_vectors.commands)


def main() -> None:
    """Run the command line and exit with its code."""
    # In the C locale Python reads arguments as ASCII with escapes; what people type is UTF-8 there too.
    sys.exit(run([os.fsencode(argument).decode(errors="surrogateescape") for argument in sys.argv[1:]]))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; what is raised on purpose becomes a message on standard error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    os.environ.setdefault("LANCEDB_LOG", "error")  # LanceDB reads it once, when it is imported
    bound_memory()
    as_json = "--json" in arguments
    display.show_log()
    try:
        code = typer.main.get_command(app).main(list(arguments), prog_name="dpr-lance", standalone_mode=False)
    except UsageError as error:
        return _refused(error, as_json=as_json)
    except InterruptionError as interrupted:
        display.print_failure(f"interrupted: {interrupted}", as_json=as_json)
        return 130
    except (DprLanceError, OSError) as error:
        display.print_failure(str(error), getattr(error, "__notes__", []), as_json=as_json)
        return 1
    return code if isinstance(code, int) else 0


@app.callback(invoke_without_command=True)
def _options(
    *,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        display.print_text(f"dpr-lance {display.version()}")
        raise typer.Exit


@app.command()
def demo(
    questions: Annotated[list[str] | None, typer.Argument(metavar="QUESTION", help="Your own questions.")] = None,
    *,
    path: Annotated[Path, typer.Option(help="The folder that the demo makes.")] = Path("dpr-lance-demo"),
    every: Annotated[
        bool, typer.Option("--all", help="The whole standard library, not just its best known part.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Index the documentation inside Python's own standard library and answer questions about it."""
    from dpr_lance.cli.demo import MODULES, QUESTIONS, standard_library
    from dpr_lance.text.splitter import WordSplitter, spans_of

    corpus = standard_library(None if every else MODULES)
    passages = sum(len(spans_of(document.text, WordSplitter())) for document in corpus.documents)
    display.say(f"{len(corpus.documents):,} docstrings of {len(corpus.modules)} modules are {passages:,} passages")
    watch = display.Watch(lambda advance: (advance.passages, passages))
    with opened(str(path), DEFAULT_TABLE, kept=watch.kept, create=True) as retriever:
        with watch.bar("embedding"):
            report = retriever.add(corpus.documents, progress=watch)
        found = retriever.search(questions or QUESTIONS, 3)
    hits_display.print_demo(report, found, shlex.quote(str(path)), as_json=as_json)


@app.command()
def add(  # noqa: PLR0913 - one argument an option
    uri: Uri,
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE", help="Files and folders; none, or '-', reads JSON lines from standard input."),
    ] = None,
    *,
    table: TableName = DEFAULT_TABLE,
    encoder: EncoderName = None,
    no_embed: Annotated[bool, typer.Option("--no-embed", help="Store text only; `embed` makes its vectors.")] = False,
    on_error: Annotated[Literal["raise", "skip"], typer.Option(help="What to do with a record that is bad.")] = "raise",
    words: Annotated[
        int | None, typer.Option(min=1, help="Words of a passage.  [default: the table's own, 100]")
    ] = None,
    whole: Annotated[bool, typer.Option("--whole", help="Keep each document as one passage.")] = False,
    splitter: Annotated[
        str | None, typer.Option(metavar="NAME", help="Another splitter by its name, as `info` shows it.")
    ] = None,
    id_field: Annotated[str, typer.Option(help="Name of the field that is the id (or BEIR's _id).")] = "id",
    text_field: Annotated[str, typer.Option(help="Name of the field that is the text.")] = "text",
    title_field: Annotated[str, typer.Option(help="Name of the field that is the title.")] = "title",
    max_document_bytes: Annotated[
        int, typer.Option(min=1, metavar="BYTES", help="A longer record, or file of text, is bad.")
    ] = MAX_DOCUMENT_BYTES,
    as_json: AsJson = False,
) -> None:
    """Add documents: JSONL, JSON, CSV, TSV, Parquet, text and Markdown files, and folders of them.

    Adding again leaves unchanged documents as they are and replaces changed ones. Fields other than id, title and text
    are kept for --where (from CSV as text: "cast(year as int) > 2000"). The id of a text or Markdown file is its path,
    seen from the folder that URI lies in (docs/guide.md), however it is named here; for an object store it is the
    absolute path. Empty files are skipped and named. Of a BEIR folder only the corpus is added.
    """
    if (words is not None) + whole + (splitter is not None) > 1:
        raise UsageError("--words, --whole and --splitter exclude each other")
    from dpr_lance.readers.files import FieldNames, FileDocuments, list_files
    from dpr_lance.text.splitter import WHOLE

    piped = is_piped(files or [])
    listing = list_files([] if piped else files or [])
    for remark in listing.remarks():
        display.say(remark)
    documents = FileDocuments(
        listing.files,
        field_names=FieldNames(id=id_field, text=text_field, title=title_field),
        on_error=on_error,
        max_document_bytes=max_document_bytes,
        base=None if (folder := local_folder(uri)) is None else folder.resolve().parent,
    )
    watch = display.Watch(lambda _: (documents.bytes_read, documents.bytes_total or None))
    with opened(uri, table, kept=watch.kept, encoder=encoder, create=True) as retriever, watch.bar("adding"):
        report = retriever.add(
            documents.read_lines(sys.stdin.buffer) if piped else documents,
            splitter=_splitter(WHOLE if whole else f"words:{words}" if words else splitter),
            embed=not no_embed,
            progress=watch,
            on_error=on_error,
        )
    display.print_add_report(report, as_json=as_json)


@app.command()
def embed(uri: Uri, *, table: TableName = DEFAULT_TABLE, encoder: EncoderName = None, as_json: AsJson = False) -> None:
    """Make the vectors that are missing, as after `add --no-embed`."""
    watch = display.Watch(lambda advance: (advance.passages, advance.passages_total))
    with opened(uri, table, kept=watch.kept, encoder=encoder) as retriever, watch.bar("embedding"):
        report = retriever.embed(progress=watch)
    display.print_add_report(report, as_json=as_json)


@app.command()
def reembed(
    uri: Uri,
    encoder: Annotated[str, typer.Argument(help="A packaged encoder, a bundle folder or a checkpoint.")],
    *,
    table: TableName = DEFAULT_TABLE,
    as_json: AsJson = False,
) -> None:
    """Give every passage a vector of another encoder; searches use the old ones until all are there."""
    watch = display.Watch(lambda advance: (advance.passages, advance.passages_total))
    kept = "the vectors made so far are kept; the same command does the rest"
    with opened(uri, table, kept=lambda: kept) as retriever, watch.bar("embedding"):
        report = retriever.reembed(encoder, progress=watch)
    if as_json:
        display.print_json(report)
    else:
        display.print_reembed_report(report)


@app.command()
def search(  # noqa: PLR0913 - one argument an option
    uri: Uri,
    questions: Annotated[
        list[str] | None,
        typer.Argument(metavar="QUESTION", help="Each argument is one; none reads a line each from standard input."),
    ] = None,
    *,
    k: Annotated[int, typer.Option("-k", min=1, help="Passages for each question.")] = 10,
    mode: Annotated[
        Mode | None,
        typer.Option(help="Both legs fused, or one of them.  [default: what `calibrate` found, else hybrid]"),
    ] = None,
    where: Where = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show ranks, words' scores, effort and times too.")
    ] = False,
    table: TableName = DEFAULT_TABLE,
    encoder: EncoderName = None,
    as_json: AsJson = False,
) -> None:
    """Answer questions with the best passages and their scores.

    score = bm25 + λ·dense in hybrid mode; higher is better. With --json, a line has a question and all its hits.
    """
    if not questions and sys.stdin.isatty():
        raise UsageError("no question: give it as an argument (in quotation marks) or on standard input")
    from dpr_lance.search.candidates import QUESTIONS_AT_ONCE

    remaining = iter(questions or piped_questions(sys.stdin.buffer))
    with opened(uri, table, kept=lambda: "nothing was changed", encoder=encoder) as retriever:
        while batch := list(itertools.islice(remaining, QUESTIONS_AT_ONCE)):
            found = retriever.search(batch, k, mode=mode, where=where, explain=explain)
            hits_display.print_found(found, as_json=as_json)


@app.command()
def info(uri: Uri, *, table: TableName = DEFAULT_TABLE, as_json: AsJson = False) -> None:
    """Show what a table holds: counts, encoder, indexes, size."""
    with opened(uri, table, kept=lambda: "nothing was changed") as retriever:
        found = retriever.info()
    if as_json:
        display.print_json(found)
    else:
        display.print_info(found)


@app.command()
def delete(
    uri: Uri,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="Documents, or single passages, by id.")] = None,
    *,
    where: Where = None,
    table: TableName = DEFAULT_TABLE,
    as_json: AsJson = False,
) -> None:
    """Delete documents or passages by id, or all that match --where."""
    if bool(ids) == (where is not None):
        raise UsageError("name ids, or a filter with --where: exactly one of them")
    with opened(uri, table, kept=lambda: "either all of them are deleted or none; `info` tells") as retriever:
        count = retriever.delete(ids or None, where=where)
    if as_json:
        display.print_json({"passages_deleted": count})
    else:
        display.print_facts({"passages deleted": count})


@app.command()
def optimize(
    uri: Uri,
    *,
    filter_column: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD", help="A metadata field that filters get an index for; repeat it."),
    ] = None,
    index: Annotated[IndexKind | None, typer.Option(help="The kind of vector index from now on.")] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make all indexes again, and whatever else `check` says it makes again.")
    ] = False,
    table: TableName = DEFAULT_TABLE,
    as_json: AsJson = False,
) -> None:
    """Bring the indexes up to date, compact the files and free old versions."""
    with opened(uri, table, kept=lambda: "what was finished is kept; the same command does the rest") as retriever:
        report = retriever.optimize(filter_columns=filter_column or (), index=index, rebuild=rebuild)
    if as_json:
        display.print_json(report)
    else:
        display.print_index_report(report)


@app.command()
def check(uri: Uri, *, table: TableName = DEFAULT_TABLE, encoder: EncoderName = None, as_json: AsJson = False) -> None:
    """Read everything that a table has and say what is damaged, and what to do; exit code 1 when something is."""
    with opened(uri, table, kept=lambda: "nothing was changed", encoder=encoder) as retriever:
        report = retriever.check()
    if as_json:
        display.print_json(report)
    else:
        display.print_check(report)
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def export(  # noqa: PLR0913 - one argument an option
    source: Annotated[str, typer.Argument(help="A checkpoint: a folder, a Hub name, a .cp file, dpr-single-nq ...")],
    out: Annotated[Path, typer.Argument(help="The folder of the bundle.")],
    *,
    passage_encoder: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="The passage encoder, where SOURCE is the question encoder alone."),
    ] = None,
    precision: Annotated[Literal["int8", "fp16", "fp32"], typer.Option(help="How weights are stored.")] = "int8",
    pooling: Annotated[Literal["cls", "mean"] | None, typer.Option(help="Where the checkpoint does not say.")] = None,
    normalise: Annotated[
        bool | None, typer.Option("--normalise/--no-normalise", help="Unit vectors, where the checkpoint does not say.")
    ] = None,
    question_prefix: Annotated[str | None, typer.Option(help="Put before each question.")] = None,
    passage_prefix: Annotated[str | None, typer.Option(help="Put before each passage.")] = None,
    title_style: Annotated[
        Literal["pair", "joined"] | None, typer.Option(help="[CLS] title [SEP] text, or one.")
    ] = None,
    zero_token_types: Annotated[
        bool | None, typer.Option("--zero-token-types/--token-types", help="Type 0 for a pair's text too, as DPR does.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=8, help="Longest input.")] = None,
    hybrid_weight: Annotated[float | None, typer.Option(min=0, help="Default λ of bm25 + λ·dense.")] = None,
    name: Annotated[str | None, typer.Option(help="Name on the card.")] = None,
    base: Annotated[str | None, typer.Option(metavar="SOURCE", help="What a .cp file was trained from.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the Hub.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an older bundle.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a bundle, which needs no torch, of a DPR, sentence-transformers or BERT-family checkpoint.

    Needs the train extra: pip install 'dpr-lance[train]'.
    """
    from dpr_lance.encoders.bundle import open_bundle

    with interruptible(lambda: f"{out} was not made"):
        importlib.import_module("dpr_lance.trainer.bundles.export").export(
            (source, passage_encoder) if passage_encoder else source,
            out,
            precision=precision,
            pooling=pooling,
            normalise=normalise,
            question_prefix=question_prefix,
            passage_prefix=passage_prefix,
            title_style=title_style,
            zero_token_types=zero_token_types,
            max_tokens=max_tokens,
            hybrid_weight=hybrid_weight,
            name=name,
            base=base,
            revision=revision,
            replace=replace,
        )
    bundle = open_bundle(out)
    facts = {"bundle": str(out), "bytes": bundle.size, "precision": bundle.precision} | dataclasses.asdict(bundle.card)
    if as_json:
        display.print_json(facts)
    else:
        display.print_facts(facts | {"bytes": display.size(bundle.size)})
        display.say(f"use it: dpr-lance add URI FILE --encoder {shlex.quote(str(out))}")


@app.command()
def doctor(*, encoder: EncoderName = None, as_json: AsJson = False) -> None:
    """Check this installation: versions, encoder, processor, and for some seconds speed and correctness."""
    from dpr_lance.cli.doctor import examine

    with interruptible(lambda: "nothing was changed"):
        diagnosis = examine(encoder)
    if as_json:
        display.print_json(diagnosis)
    else:
        display.print_diagnosis(diagnosis)
    if diagnosis.problems:
        raise typer.Exit(1)


def _splitter(name: str | None) -> Any:  # noqa: ANN401 - as Retriever.add takes it
    from dpr_lance.text.splitter import splitter_named

    return "table" if name is None else splitter_named(name)


def _refused(error: Any, *, as_json: bool) -> int:  # noqa: ANN401 - click's class, which typer may carry inside
    """Say what is wrong with the options or arguments."""
    if as_json:
        path = error.ctx.command_path if error.ctx else "dpr-lance"
        display.print_failure(error.format_message(), [f"{path} --help"], as_json=True)
    else:
        error.show()
    return 2


if __name__ == "__main__":
    main()
