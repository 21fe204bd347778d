"""The command line: `dpr-lance`. Results go to standard output, everything else to standard error.

Exit codes: 0 done, 1 the work failed, 2 wrong usage, 130 interrupted. Heavy modules are imported by the command that
needs them, so that `--help` and a wrong option answer at once.
"""

from __future__ import annotations

import io
import itertools
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from dpr_lance.cli import answers, evaluation, output, reader_training, tables, training
from dpr_lance.cli.console import print_failure, print_result, print_text, say, show_log
from dpr_lance.cli.hits_output import print_demo, print_found
from dpr_lance.cli.invocation import InterruptionError, UsageError, interruptible, is_piped, opened, piped_questions
from dpr_lance.cli.options import (
    AsJson,
    EncoderName,
    ReaderName,
    Rerank,
    RerankCandidates,
    RerankerName,
    TableLanguage,
    TableName,
    Uri,
    Where,
    rerank_source,
)
from dpr_lance.errors import DprLanceError
from dpr_lance.inputs.lines import MAX_DOCUMENT_BYTES
from dpr_lance.records.hits import CANDIDATES, Mode
from dpr_lance.records.table_info import IndexKind
from dpr_lance.table.address import DEFAULT_TABLE, local_folder
from dpr_lance.table.memory import bound_memory

app = typer.Typer(
    help="Dense Passage Retrieval as an extension of LanceDB: add documents, ask questions.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Rich's own markup would take text in square brackets, such as a default or an extra, for a style and drop it.
    rich_markup_mode="markdown",
)
app.add_typer(answers.commands)
app.add_typer(evaluation.commands)
app.add_typer(training.commands)
app.add_typer(reader_training.commands)
app.add_typer(tables.commands)


def main() -> None:
    """Run the command line and exit with its code."""
    # In the C locale Python reads arguments as ASCII with escapes; what people type is UTF-8 there too.
    sys.exit(run([os.fsencode(argument).decode(errors="surrogateescape") for argument in sys.argv[1:]]))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; the library's errors become messages on standard error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    os.environ.setdefault("LANCEDB_LOG", "error")  # LanceDB reads it once, when it is imported
    bound_memory()
    as_json = "--json" in arguments
    show_log()
    try:
        code = typer.main.get_command(app).main(list(arguments), prog_name="dpr-lance", standalone_mode=False)
    except UsageError as error:
        return _refused(error, as_json=as_json)
    except InterruptionError as interrupted:
        print_failure(f"interrupted: {interrupted}", as_json=as_json)
        return 130
    except (DprLanceError, OSError) as error:
        print_failure(str(error), getattr(error, "__notes__", []), as_json=as_json)
        return 1
    return code if isinstance(code, int) else 0


@app.callback(invoke_without_command=True)
def _options(
    *,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        from importlib import metadata

        try:
            print_text(f"dpr-lance {metadata.version('dpr-lance')}")
        except metadata.PackageNotFoundError:
            print_text("dpr-lance, version unknown: it runs from a folder, without being installed")
        raise typer.Exit


@app.command()
def demo(
    questions: Annotated[list[str] | None, typer.Argument(metavar="QUESTION", help="Your own questions.")] = None,
    *,
    path: Annotated[Path, typer.Option(help="The folder that the demo creates.")] = Path("dpr-lance-demo"),
    every: Annotated[
        bool, typer.Option("--all", help="Index the whole standard library, not just its best-known part.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Index the documentation inside Python's own standard library and answer questions about it."""
    from dpr_lance.cli.demo import MODULES, QUESTIONS, standard_library
    from dpr_lance.text.splitter import WordSplitter, spans_of

    corpus = standard_library(None if every else MODULES)
    passages = sum(len(spans_of(document.text, WordSplitter())) for document in corpus.documents)
    say(f"{len(corpus.documents):,} docstrings of {len(corpus.modules)} modules are {passages:,} passages")
    watch = output.Watch(lambda advance: (advance.passages, passages))
    with opened(str(path), DEFAULT_TABLE, kept=watch.kept, create=True) as retriever:
        with watch.bar("embedding"):
            report = retriever.add(corpus.documents, progress=watch)
        found = retriever.search(questions or QUESTIONS, 3)
    print_demo(report, found, shlex.quote(str(path)), as_json=as_json)


@app.command()
def add(  # noqa: PLR0913 - one argument an option
    uri: Uri,
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE", help="Files and folders; '-' or none reads JSON lines from standard input."),
    ] = None,
    *,
    table: TableName = DEFAULT_TABLE,
    encoder: EncoderName = None,
    language: TableLanguage = None,
    no_embed: Annotated[bool, typer.Option("--no-embed", help="Store text only; `embed` adds vectors later.")] = False,
    on_error: Annotated[Literal["raise", "skip"], typer.Option(help="What to do about a bad record.")] = "raise",
    words: Annotated[
        int | None, typer.Option(min=1, help="Words per passage.  [default: as the table has it, else 100]")
    ] = None,
    whole: Annotated[bool, typer.Option("--whole", help="Keep each document as one passage.")] = False,
    splitter: Annotated[
        str | None, typer.Option(metavar="NAME", help="Another splitter, named as `info` shows it.")
    ] = None,
    id_field: Annotated[str, typer.Option(help="Field that holds the id (or BEIR's _id).")] = "id",
    text_field: Annotated[str, typer.Option(help="Field that holds the text.")] = "text",
    title_field: Annotated[str, typer.Option(help="Field that holds the title.")] = "title",
    max_document_bytes: Annotated[
        int, typer.Option(min=1, metavar="BYTES", help="A record or text file longer than this is bad.")
    ] = MAX_DOCUMENT_BYTES,
    as_json: AsJson = False,
) -> None:
    """Add documents: JSONL, JSON, CSV, TSV, Parquet, text and Markdown files, and folders of them.

    Adding again leaves unchanged documents as they are and replaces changed ones. Fields other than id, title and text
    are kept for --where (from CSV as text: "cast(year as int) > 2000"). The id of a text or Markdown file is its path
    relative to the folder that contains URI (docs/guide.md); for an object store it is the absolute path. Empty files
    are skipped and named. Of a BEIR folder only the corpus is added. A file that `dump` has written is added alone,
    with its vectors.
    """
    if (words is not None) + whole + (splitter is not None) > 1:
        raise UsageError("--words, --whole and --splitter exclude each other")
    from dpr_lance.ingest.dump_file import head_of
    from dpr_lance.inputs.files import FieldNames, FileDocuments
    from dpr_lance.inputs.listing import list_files
    from dpr_lance.text.splitter import WHOLE, splitter_named

    named = WHOLE if whole else f"words:{words}" if words else splitter
    piped = is_piped(files or [])
    listing = list_files([] if piped else files or [])
    for remark in listing.remarks():
        say(remark)
    dump = next((path for path in listing.files if head_of(path) is not None), None)
    if dump is not None and len(listing.files) > 1:
        raise UsageError(f"{dump} is what `dpr-lance dump` has written: add it alone")
    documents = FileDocuments(
        listing.files,
        field_names=FieldNames(id=id_field, text=text_field, title=title_field),
        on_error=on_error,
        max_document_bytes=max_document_bytes,
        base=None if (folder := local_folder(uri)) is None else Path(os.path.realpath(folder)).parent,
    )
    watch = output.Watch(lambda _: (documents.bytes_read, documents.bytes_total or None))
    table_opened = opened(uri, table, kept=watch.kept, encoder=encoder, create=True, language=language)
    with table_opened as retriever, watch.bar("adding"):
        report = retriever.add(
            documents.read_lines(sys.stdin.buffer) if piped else dump or documents,
            splitter="table" if named is None else splitter_named(named),
            embed=not no_embed,
            progress=watch,
            on_error=on_error,
        )
    output.print_add_report(report, as_json=as_json)


@app.command()
def embed(uri: Uri, *, table: TableName = DEFAULT_TABLE, encoder: EncoderName = None, as_json: AsJson = False) -> None:
    """Make missing vectors, for example after `add --no-embed`."""
    watch = output.Watch()
    with opened(uri, table, kept=watch.kept, encoder=encoder) as retriever, watch.bar("embedding"):
        report = retriever.embed(progress=watch)
    output.print_add_report(report, as_json=as_json)


@app.command()
def reembed(
    uri: Uri,
    encoder: Annotated[str, typer.Argument(help="A packaged encoder, a bundle folder or a checkpoint.")],
    *,
    table: TableName = DEFAULT_TABLE,
    as_json: AsJson = False,
) -> None:
    """Give every passage a vector from another encoder; searches use the old ones until all are there."""
    watch = output.Watch()
    kept = "the vectors made so far are kept; the same command does the rest"
    with opened(uri, table, kept=lambda: kept) as retriever, watch.bar("embedding"):
        report = retriever.reembed(encoder, progress=watch)
    print_result(report, output.reembed_facts, as_json=as_json)


@app.command("import-vectors")
def import_vectors(
    uri: Uri,
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="DPR's embedding files: lists of (id, vector).")],
    *,
    table: TableName = DEFAULT_TABLE,
    as_json: AsJson = False,
) -> None:
    """Give passages, stored with `add --whole --no-embed`, the vectors of DPR's embedding files.

    The files are pickles. They are read without running any code in them; a file with anything else in it is refused.
    The table's encoder (--encoder of `add`) must be the one that made the vectors.
    """
    kept = "the vectors stored so far are kept; the same command does the rest"
    with opened(uri, table, kept=lambda: kept) as retriever:
        report = retriever.import_vectors(files)
    facts = {"passages with a vector": report.passages, "unknown ids": report.unknown, "seconds": report.seconds}
    print_result(report, lambda _: facts, as_json=as_json)


@app.command()
def search(  # noqa: PLR0913 - one argument an option
    uri: Uri,
    questions: Annotated[
        list[str] | None,
        typer.Argument(metavar="QUESTION", help="One question each; none reads one per line from standard input."),
    ] = None,
    *,
    k: Annotated[int, typer.Option("-k", min=1, help="Passages for each question.")] = 10,
    offset: Annotated[int, typer.Option(min=0, help="Leave out the first ones: -k 10 --offset 10 is page 2.")] = 0,
    min_score: Annotated[float | None, typer.Option(metavar="SCORE", help="Leave out passages below it.")] = None,
    mode: Annotated[
        Mode | None,
        typer.Option(help="Dense search and BM25 fused, or one of them.  [default: as `calibrate` chose, else hybrid]"),
    ] = None,
    where: Where = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also show ranks, scores of words, search effort and times.")
    ] = False,
    rerank: Rerank = None,
    reranker: RerankerName = None,
    candidates: RerankCandidates = CANDIDATES,
    rerank_within: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Re-score as many of them as fit in this time, for each question."),
    ] = None,
    group_by: Annotated[
        str | None,
        typer.Option(metavar="FIELD", help="The best of each document (document_id), title or value of a field."),
    ] = None,
    per_group: Annotated[int, typer.Option(min=1, help="Passages of each group; -k is the number of groups.")] = 1,
    diversity: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="How much passages are to differ from those before them.")
    ] = 0.0,
    table: TableName = DEFAULT_TABLE,
    encoder: EncoderName = None,
    as_json: AsJson = False,
) -> None:
    """Answer questions with the best passages and their scores.

    score = bm25 + λ·dense in hybrid mode; higher is better. Hits that are re-ranked are ordered by the reader's score
    and w times the standardised retrieval score. With --json, each line holds a question and all its hits.
    """
    source = rerank_source(rerank, reranker)
    if rerank_within is not None and not rerank_within > 0:
        raise UsageError(f"--rerank-within {rerank_within:g}: give more than 0 seconds")
    if not questions and sys.stdin.isatty():
        raise UsageError("no question: give it as an argument (in quotation marks) or on standard input")
    from dpr_lance.search.searcher import QUESTIONS_AT_ONCE

    remaining = iter(questions or piped_questions(sys.stdin.buffer))
    with opened(uri, table, encoder=encoder) as retriever:
        while batch := list(itertools.islice(remaining, QUESTIONS_AT_ONCE)):
            found = retriever.search(
                batch, k, mode=mode, where=where, explain=explain, rerank=source, candidates=candidates,
                rerank_within=rerank_within, group_by=group_by, per_group=per_group, diversity=diversity,
                offset=offset, min_score=min_score,
            )  # fmt: skip
            print_found(found, as_json=as_json)


@app.command()
def info(uri: Uri, *, table: TableName = DEFAULT_TABLE, as_json: AsJson = False) -> None:
    """Show what a table holds: counts, encoder, indexes, size."""
    with opened(uri, table) as retriever:
        found = retriever.info()
    print_result(found, output.info_facts, as_json=as_json)


@app.command()
def delete(
    uri: Uri,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids of documents or passages.")] = None,
    *,
    where: Where = None,
    table: TableName = DEFAULT_TABLE,
    as_json: AsJson = False,
) -> None:
    """Delete documents or passages by id, or all that match --where."""
    if bool(ids) == (where is not None):
        raise UsageError("name ids, or a filter with --where: exactly one of them")
    with opened(uri, table, kept=lambda: "either all of them are deleted or none; `info` shows which") as retriever:
        count = retriever.delete(ids or None, where=where)
    print_result({"passages_deleted": count}, lambda _: {"passages deleted": count}, as_json=as_json)


@app.command()
def optimize(
    uri: Uri,
    *,
    filter_column: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD", help="A metadata field to index for filters. Repeatable."),
    ] = None,
    index: Annotated[IndexKind | None, typer.Option(help="The kind of vector index to use from now on.")] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Build all indexes again, and whatever else `check` names.")
    ] = False,
    table: TableName = DEFAULT_TABLE,
    as_json: AsJson = False,
) -> None:
    """Bring the indexes up to date, compact the files and free old versions."""
    with opened(uri, table, kept=lambda: "what was finished is kept; the same command does the rest") as retriever:
        report = retriever.optimize(filter_columns=filter_column or (), index=index, rebuild=rebuild)
    print_result(report, output.index_facts, as_json=as_json)


@app.command()
def check(uri: Uri, *, table: TableName = DEFAULT_TABLE, encoder: EncoderName = None, as_json: AsJson = False) -> None:
    """Read everything in a table and report what is damaged and what to do; exit code 1 when something is."""
    with opened(uri, table, encoder=encoder) as retriever:
        report = retriever.check()
    print_result(report, output.check_facts, as_json=as_json)
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def doctor(*, encoder: EncoderName = None, reader: ReaderName = None, as_json: AsJson = False) -> None:
    """Check this installation: versions, encoder, reader, processor, speed and correctness. Takes some seconds."""
    from dpr_lance.cli.doctor import examine

    with interruptible():
        diagnosis = examine(encoder, reader)
    print_result(diagnosis, output.diagnosis_facts, as_json=as_json)
    if diagnosis.problems:
        raise typer.Exit(1)


def _refused(error: Any, *, as_json: bool) -> int:  # noqa: ANN401 - click's class, which typer may carry inside
    """Write what is wrong with the options or arguments."""
    if as_json:
        path = error.ctx.command_path if error.ctx else "dpr-lance"
        print_failure(error.format_message(), [f"{path} --help"], as_json=True)
    else:
        error.show()
    return 2


if __name__ == "__main__":
    main()
