"""The command `import-vectors`: DPR's published embeddings for passages that are stored as text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dpr_lance.cli.invocation import opened
from dpr_lance.cli.options import DEFAULT_TABLE, AsJson, TableName, Uri
from dpr_lance.cli.output import print_facts, print_json

commands = typer.Typer()


@commands.command("import-vectors")
def import_vectors(
    uri: Uri,
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="DPR's embedding files: lists of (id, vector).")],
    *,
    table: TableName = DEFAULT_TABLE,
    as_json: AsJson = False,
) -> None:
    """Give passages, stored with `add --whole --no-embed`, the vectors of DPR's embedding files.

    The files are pickles; they are taken apart without running anything in them, and anything else is refused. The
    table's encoder (--encoder of `add`) must be the one that made the vectors.
    """
    kept = "the vectors stored so far are kept; the same command does the rest"
    with opened(uri, table, kept=lambda: kept) as retriever:
        report = retriever.import_vectors(files)
    if as_json:
        print_json(report)
    else:
        print_facts(
            {"passages with a vector": report.passages, "unknown ids": report.unknown, "seconds": report.seconds}
        )
