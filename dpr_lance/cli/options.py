"""The options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

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
Where = Annotated[str | None, typer.Option("--where", metavar="SQL", help='A filter such as "year > 2000".')]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object per line, errors too.")]
