"""The commands `eval` and `calibrate`: how well a table answers questions, and how it answers them best."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpr_lance.cli.invocation import UsageError, opened
from dpr_lance.cli.options import (
    AsJson,
    EncoderName,
    Rerank,
    RerankCandidates,
    RerankerName,
    TableName,
    Uri,
    rerank_source,
)
from dpr_lance.errors import InvalidInputError
from dpr_lance.records.hits import CANDIDATES, MODES
from dpr_lance.table.address import DEFAULT_TABLE, local_folder, tables_in

if TYPE_CHECKING:
    from dpr_lance.evaluation.results import Evaluation
    from dpr_lance.retriever import Retriever

commands = typer.Typer()


@commands.command("eval")
def evaluate(  # noqa: PLR0913 - one argument an option
    uri: Uri,
    questions: Annotated[
        Path,
        typer.Argument(
            metavar="QUESTIONS", help="JSON lines, DPR's .csv or .json, or a BEIR folder: questions, answers or labels."
        ),
    ],
    *,
    mode: Annotated[
        list[str] | None,
        typer.Option(
            metavar="|".join(MODES),
            help="A search mode to measure; hybrid+reader is its hits re-ranked. Repeatable.  [default: all]",
            show_default=False,
        ),
    ] = None,
    k: Annotated[
        str | None,
        typer.Option(
            "-k",
            "--k",
            metavar="LIST",
            help="Top-k accuracy at these k.  [default: 1,5,20,100; --answers: 1,5,20,50]",
        ),
    ] = None,
    answers: Annotated[
        bool,
        typer.Option("--answers", help="Measure the reader's answers over the first k passages: exact match and F1."),
    ] = False,
    regex: Annotated[bool, typer.Option("--regex", help="Answers are regular expressions, as in TREC.")] = False,
    split: Annotated[str | None, typer.Option(help="The qrels of a BEIR folder.  [default: test]")] = None,
    rerank: Annotated[
        bool, typer.Option("--rerank", help="Also measure hybrid+reader: hits re-ranked with the packaged reader.")
    ] = False,
    reranker: RerankerName = None,
    candidates: RerankCandidates = CANDIDATES,
    compare: Annotated[
        str | None,
        typer.Option(
            metavar="TABLE|ENCODER",
            help="Also measure another table, its folder, or these passages under an encoder.",
        ),
    ] = None,
    gate: Annotated[
        list[str] | None,
        typer.Option(metavar="BAR", help="Such as 'hybrid.top20>=0.80'; exit code 1 when missed. Repeatable."),
    ] = None,
    run: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Write TREC run files and qrels.")] = None,
    disagreements: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write questions that one row answers and another does not, JSON lines."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Plot accuracy over k.")] = None,
    table: TableName = DEFAULT_TABLE,
    encoder: EncoderName = None,
    as_json: AsJson = False,
) -> None:
    """Measure top-k accuracy of bm25, dense and hybrid search on labelled questions, with intervals and paired tests.

    A passage counts when it holds an answer, or when it (or its document) is labelled. MRR, nDCG, recall and --plot
    need the eval extra: pip install 'dpr-lance[eval]'.
    """
    ks, modes = None if k is None else _ks(k), _modes(mode or ())
    if answers:
        if compare or gate or run or disagreements or plot or regex:
            raise UsageError("--answers excludes --compare, --gate, --run, --disagreements, --plot and --regex")
        with opened(uri, table, encoder=encoder) as retriever:
            _evaluate_answers(retriever, questions, ks, modes, reranker, split, as_json=as_json)
        return
    from dpr_lance.cli.evaluation_output import evaluation_bar, print_evaluation
    from dpr_lance.evaluation.evaluate import EVALUATED, KS
    from dpr_lance.evaluation.evaluate import evaluate as measure
    from dpr_lance.evaluation.plot import check_plot, plot_accuracy
    from dpr_lance.evaluation.results import Gate

    try:
        gates = [Gate.parse(text) for text in gate or ()]
    except InvalidInputError as error:
        raise UsageError(str(error)) from None
    if plot is not None:
        check_plot(plot)
    with ExitStack() as stack:
        retriever = stack.enter_context(opened(uri, table, encoder=encoder))
        other = None if compare is None else _compared(stack, uri, table, compare)
        bar = stack.enter_context(evaluation_bar())
        found = measure(
            retriever, questions, modes=modes or EVALUATED, ks=ks or KS, regex=regex, split=split, compare=other,
            runs=run, rerank=rerank_source(rerank or None, reranker), candidates=candidates, progress=bar,
        )  # fmt: skip
    if disagreements is not None:
        _write_disagreements(found, disagreements)
    if plot is not None:
        plot_accuracy(found, plot)
    results = [gate.check(found) for gate in gates]
    print_evaluation(found, results, as_json=as_json)
    if not all(result.met for result in results):
        raise typer.Exit(1)


def _evaluate_answers(
    retriever: Retriever,
    questions: Path,
    ks: tuple[int, ...] | None,
    modes: Sequence[str],
    reader: str | None,
    split: str | None,
    *,
    as_json: bool,
) -> None:
    """Measure a reader's answers and write them to standard output."""
    from dpr_lance.cli.evaluation_output import evaluation_bar, print_answer_evaluation
    from dpr_lance.evaluation.answers import ANSWER_KS, ANSWERED, evaluate_answers

    with evaluation_bar() as bar:
        found = evaluate_answers(
            retriever, questions, ks=ks or ANSWER_KS, modes=modes or ANSWERED, reader=reader, split=split, progress=bar
        )
    print_answer_evaluation(found, as_json=as_json)


@commands.command()
def calibrate(  # noqa: PLR0913 - one argument an option
    uri: Uri,
    questions: Annotated[
        Path | None,
        typer.Argument(metavar="QUESTIONS", help="As for eval, or a .txt file with one question per line, or none."),
    ] = None,
    *,
    regex: Annotated[bool, typer.Option("--regex", help="Answers are regular expressions, as in TREC.")] = False,
    split: Annotated[str | None, typer.Option(help="The qrels of a BEIR folder.  [default: test]")] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Plot what was tried: accuracy, recall and time.")
    ] = None,
    rerank: Rerank = None,
    reranker: RerankerName = None,
    table: TableName = DEFAULT_TABLE,
    encoder: EncoderName = None,
    as_json: AsJson = False,
) -> None:
    """Choose the hybrid weight λ, the default mode and the index effort for a table, and keep them with it.

    With --rerank also the weight of retrieval next to the reader's scores, and whether searches re-rank by default.

    50 or more labelled questions decide all of it; the present settings stay unless new ones score higher on held-out
    questions. Questions without labels decide the weight alone, by how dense search and BM25 score each other's best
    passages. --plot needs the eval extra: pip install 'dpr-lance[eval]'.
    """
    from dpr_lance.cli.evaluation_output import print_calibration
    from dpr_lance.evaluation.plot import check_plot, plot_calibration

    if plot is not None:
        check_plot(plot)
    asked = _lines(questions) if questions is not None and questions.suffix.lower() == ".txt" else questions
    with opened(uri, table, kept=lambda: "the settings are as they were", encoder=encoder) as retriever:
        found = retriever.calibrate(asked, split=split, regex=regex, rerank=rerank_source(rerank, reranker))
    print_calibration(found, as_json=as_json)
    if plot is not None:
        plot_calibration(found, plot)


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path}: the file is not UTF-8 text ({error.reason} at byte {error.start})") from None


def _modes(names: Sequence[str]) -> tuple[str, ...]:
    rows = [*MODES, *(f"{mode}+reader" for mode in MODES)]
    if unknown := set(names) - set(rows):
        raise UsageError(f"--mode {min(unknown)!r}: choose from {', '.join(rows)}")
    return tuple(row for row in rows if row in names)


def _ks(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"-k {text!r}: give whole numbers of at least 1, separated by commas, such as 1,5,20,100")
    return tuple(map(int, parts))


def _compared(stack: ExitStack, uri: str, table: str, named: str) -> Retriever | str:
    """Return the other table: one in the same folder, or of the same name in another folder; else an encoder's name."""
    folder, other = local_folder(uri), local_folder(named)
    if folder is not None and named in (tables_in(folder) or ()):
        return stack.enter_context(opened(uri, named))
    if other is None or tables_in(other):
        return stack.enter_context(opened(named, table))
    return named


def _write_disagreements(found: Evaluation, path: Path) -> None:
    from dpr_lance.cli.evaluation_output import disagreement

    by, k = found.headline
    with path.open("w", encoding="utf-8") as out:
        for outcome in found.disagreements(by, k):
            out.write(json.dumps(disagreement(outcome, by, k), ensure_ascii=False) + "\n")
