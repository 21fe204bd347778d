"""The command `answer`: answers to questions, with the sentences that they are in."""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from dpr_lance.cli.console import one_line, print_json, print_text, say
from dpr_lance.cli.invocation import UsageError, opened, piped_questions
from dpr_lance.cli.options import AsJson, EncoderName, TableName, Uri, Where
from dpr_lance.records.hits import Mode
from dpr_lance.table.address import DEFAULT_TABLE

if TYPE_CHECKING:
    from dpr_lance.records.answers import Answer, Answers

commands = typer.Typer()

QUESTIONS_AT_ONCE = 8
"""Questions of a batch: reading takes far longer than searching, and people wait for the first answer."""


@commands.command()
def answer(  # noqa: PLR0913 - one argument an option
    uri: Uri,
    questions: Annotated[
        list[str] | None,
        typer.Argument(metavar="QUESTION", help="One question each; none reads one per line from standard input."),
    ] = None,
    *,
    k: Annotated[
        int | None, typer.Option("-k", min=1, help="Passages that are read for each question.  [default: 20]")
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="Different answers for each question.")] = 1,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, help="Withhold a less probable answer.  [default: as calibrated, or the reader's]"
        ),
    ] = None,
    reader: Annotated[
        str | None, typer.Option(metavar="NAME", help="A bundle folder or a checkpoint.  [default: the packaged one]")
    ] = None,
    mode: Annotated[Mode | None, typer.Option(help="How to search; as for search.")] = None,
    where: Where = None,
    table: TableName = DEFAULT_TABLE,
    encoder: EncoderName = None,
    as_json: AsJson = False,
) -> None:
    """Answer questions with words of the best passages; nothing is generated.

    Shows the answer with its probability, and the sentence that it is in. With --json, each line holds a question, its
    answers with all their sources, and the reason where there is none.
    """
    if not questions and sys.stdin.isatty():
        raise UsageError("no question: give it as an argument (in quotation marks) or on standard input")
    from dpr_lance.answering.answerer import PASSAGES

    remaining = iter(questions or piped_questions(sys.stdin.buffer))
    with opened(uri, table, encoder=encoder) as retriever:
        while batch := list(itertools.islice(remaining, QUESTIONS_AT_ONCE)):
            found = retriever.answer(
                batch, PASSAGES if k is None else k, mode=mode, where=where, reader=reader, threshold=threshold,
                most=most,
            )  # fmt: skip
            for each in found:
                print_answers(each, as_json=as_json)


def print_answers(answers: Answers, *, as_json: bool) -> None:
    """Write the answers to a question to standard output."""
    if as_json:
        best = answers.best
        facts = {"question": answers.question, "answer": None if best is None else best.text, "reason": answers.reason}
        shown = [_facts(each) for each in answers]
        print_json(facts | {"answers": shown, "reader": answers.reader, "threshold": answers.threshold})
        return
    print_text(one_line(answers.question))
    for each in answers:
        source = one_line(f"{each.passage.title}  {each.passage.id}".strip())
        print_text(f"  {one_line(each.text)}  ({100 * each.probability:.0f} %)")
        print_text(f"    {one_line(each.sentence())}")
        others = len({place.hit.id for place in each.sources}) - 1
        print_text(f"    {source}" + (f" and {others} more" if others else ""))
    if answers.reason:
        print_text(f"  no answer: {one_line(answers.reason)}")
    if answers.hits.fallback:
        say(f"BM25 alone found the passages: {answers.hits.fallback}")
    print_text("")


def _facts(answer: Answer) -> dict[str, object]:
    return {
        "text": answer.text,
        "probability": answer.probability,
        "sentence": answer.sentence(),
        "sources": [
            {
                "id": source.hit.id,
                "document_id": source.hit.document_id,
                "title": source.hit.title,
                "start": source.start,
                "end": source.end,
                "probability": source.probability,
            }
            for source in answer.sources
        ],
    }
