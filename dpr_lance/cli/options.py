"""The options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from dpr_lance.cli.invocation import UsageError
from dpr_lance.text.language import Language

Uri = Annotated[str, typer.Argument(metavar="URI", help="A folder, or an object store (s3://, gs://, az://).")]
TableName = Annotated[str, typer.Option("--table", metavar="NAME", help="Table name, when the folder holds several.")]
EncoderName = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        metavar="NAME",
        help="A packaged encoder, a bundle folder or a checkpoint.  [default: the table's own]",
        show_default=False,
    ),
]
TableLanguage = Annotated[
    Language | None,
    typer.Option(
        "--language",
        metavar="LANGUAGE",
        help="The language of BM25 in a new table; multilingual for every other one.  [default: english]",
        show_default=False,
    ),
]
ReaderName = Annotated[
    str | None,
    typer.Option(
        "--reader",
        metavar="NAME",
        help="A packaged reader, a bundle folder or a checkpoint.  [default: the packaged one]",
        show_default=False,
    ),
]
Where = Annotated[str | None, typer.Option("--where", metavar="SQL", help='A filter such as "year > 2000".')]
Rerank = Annotated[
    bool | None,
    typer.Option(
        "--rerank/--no-rerank",
        help="Re-rank with the packaged reader, or not at all.  [default: as `calibrate` chose]",
        show_default=False,
    ),
]
RerankerName = Annotated[
    str | None,
    typer.Option(
        "--reranker", metavar="NAME|FOLDER", help="Re-rank with this reader: a bundle, a checkpoint, late-interaction."
    ),
]
RerankCandidates = Annotated[int, typer.Option("--candidates", min=1, help="Hits that are re-scored.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object per line, errors too.")]


def rerank_source(rerank: bool | None, reranker: str | None) -> bool | str | None:
    """Return what the two options name, as the argument `rerank` of `search` takes it."""
    if reranker is None:
        return rerank
    if rerank is False:
        raise UsageError("--reranker and --no-rerank exclude each other")
    return reranker
