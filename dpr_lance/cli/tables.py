"""The commands about whole tables: `tables`, `adopt`, `drop`, `dump`, and snapshots."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from dpr_lance.cli.console import plain_table, print_json, print_result, print_table, print_text, say
from dpr_lance.cli.invocation import InterruptionError, UsageError, interruptible, opened
from dpr_lance.cli.options import AsJson, EncoderName, TableName, Uri
from dpr_lance.cli.output import info_facts
from dpr_lance.records.table_info import SnapshotInfo
from dpr_lance.table.address import DEFAULT_TABLE

commands = typer.Typer()

SnapshotName = Annotated[str, typer.Argument(metavar="NAME", help="Letters, digits, '_', '-' and '.'.")]


@commands.command()
def tables(uri: Uri, *, as_json: AsJson = False) -> None:
    """List the tables in a folder or an object store."""
    from dpr_lance.table.catalogue import tables as names_in

    with interruptible():
        names = names_in(uri)
    if as_json:
        print_json({"tables": names})
    else:
        for name in names:
            print_text(name)


@commands.command()
def adopt(
    uri: Uri,
    *,
    table: TableName = DEFAULT_TABLE,
    id_column: Annotated[str | None, typer.Option("--id", metavar="COLUMN", help="Ids.  [default: id]")] = None,
    title: Annotated[str | None, typer.Option(metavar="COLUMN", help="Titles.  [default: title]")] = None,
    text: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Texts.  [default: what the table's vectors were made of]")
    ] = None,
    encoder: EncoderName = None,
    as_json: AsJson = False,
) -> None:
    """Let a table that plain LanceDB has made be searched here; its columns stay, and nothing is embedded."""
    from dpr_lance.adoption import adopt as adopted

    with (
        interruptible(lambda: "the same command does the rest"),
        adopted(uri, table=table, id=id_column, title=title, text=text, encoder=encoder) as retriever,
    ):
        found = retriever.info()
    print_result(found, info_facts, as_json=as_json)


@commands.command()
def drop(
    uri: Uri,
    *,
    table: TableName = DEFAULT_TABLE,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Drop a table with its snapshots. Nothing brings it back."""
    from dpr_lance.table.catalogue import drop as drop_table

    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"this drops the table {table!r} in {uri} for good: confirm with --yes")
        with interruptible(lambda: "nothing was dropped"):
            say(f"This drops the table {table!r} in {uri} for good. Type its name to confirm:")
            if sys.stdin.readline().strip() != table:
                raise InterruptionError("the name was not typed, nothing was dropped")
    with interruptible(lambda: "the table is there as a whole or not at all; `tables` shows which"):
        drop_table(uri, table)
    print_result({"dropped": table}, lambda result: result, as_json=as_json)


@commands.command()
def dump(
    uri: Uri,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file that ends in .parquet or .jsonl.")],
    *,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")] = False,
    table: TableName = DEFAULT_TABLE,
    as_json: AsJson = False,
) -> None:
    """Write all passages with their vectors to a file, from which `add` stores them again without encoding."""
    with opened(uri, table, kept=lambda: "no file was written") as retriever:
        count = retriever.export(file, overwrite=overwrite)
    print_result({"passages": count, "file": str(file)}, lambda result: result, as_json=as_json)


@commands.command()
def snapshot(
    uri: Uri,
    name: SnapshotName,
    *,
    delete: Annotated[bool, typer.Option("--delete", help="Delete the snapshot of this name.")] = False,
    table: TableName = DEFAULT_TABLE,
    as_json: AsJson = False,
) -> None:
    """Keep the present state of a table under a name, for `restore`."""
    with opened(uri, table) as retriever:
        if delete:
            retriever.delete_snapshot(name)
            print_result({"deleted": name}, lambda result: result, as_json=as_json)
        else:
            print_result(retriever.snapshot(name), _facts, as_json=as_json)


@commands.command()
def snapshots(uri: Uri, *, table: TableName = DEFAULT_TABLE, as_json: AsJson = False) -> None:
    """List the snapshots of a table, the oldest first."""
    with opened(uri, table) as retriever:
        found = retriever.snapshots()
    if as_json:
        for info in found:
            print_json(info)
    elif found:
        shown = plain_table()
        for name in _facts(found[0]):
            shown.add_column(name)
        for info in found:
            shown.add_row(*("–" if value is None else str(value) for value in _facts(info).values()))
        print_table(shown)


@commands.command()
def restore(uri: Uri, name: SnapshotName, *, table: TableName = DEFAULT_TABLE, as_json: AsJson = False) -> None:
    """Bring back the state of a snapshot; what was written since is gone from the table."""
    with opened(uri, table, kept=lambda: "the table is in one of its two states; `info` shows which") as retriever:
        print_result(retriever.restore(name), _facts, as_json=as_json)


def _facts(info: SnapshotInfo) -> dict[str, object]:
    created = None if info.created is None else info.created.isoformat(sep=" ", timespec="seconds")
    return {"snapshot": info.name, "passages": info.passages, "created": created, "version": info.version}
