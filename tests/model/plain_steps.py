"""The steps that others take behind the retrievers' backs: plain LanceDB writes, restores, a folder made again."""

import contextlib
import dataclasses
import datetime
import shutil
import warnings

import pyarrow as pa

from dpr_lance import DprLanceError, WordSplitter
from tests.model.filters import holds, sql_of
from tests.model.model import Model
from tests.model.steps import STEPS, step, usable
from tests.model.values import made
from tests.model.world import BATCH, SMALL
from tests.tables import opened

__all__ = ["STEPS"]

FOREVER = datetime.timedelta(days=36_500)


@step
def plain_append(world, numbers):
    """Append passages that are there already, as `table.add` of plain LanceDB does."""
    rows = _rows(world, numbers)
    if rows:
        table = world.plain()
        quoted = ", ".join("'" + row.id.replace("'", "''") + "'" for row in rows)
        table.add(table.search().where(f"id IN ({quoted})").limit(None).to_arrow())
        again = {row.id for row in rows}
        _change(world, lambda row: dataclasses.replace(row, copies=2 * row.copies) if row.id in again else row)


@step
def plain_delete(world, numbers):
    """Delete passages."""
    rows = _rows(world, numbers)
    if rows:
        quoted = ", ".join("'" + row.id.replace("'", "''") + "'" for row in rows)
        world.plain().delete(f"id IN ({quoted})")
        world.model = world.model.copy()
        world.model.delete(rows)
        world.changed()


@step
def plain_delete_where(world, where):
    """Delete what a filter matches."""
    if usable(world, where):
        world.plain().delete(sql_of(where))
        world.model = world.model.copy()
        world.model.delete([row for row in world.model.rows() if holds(where, row) is True])
        world.changed()


@step
def plain_update(world, name, value):
    """Set a metadata column of every passage."""
    if world.types().get(name) == pa.int64() and isinstance(value, int):
        world.plain().update(values={f"`{name}`" if " " in name else name: value})
        _change(world, lambda row: dataclasses.replace(row, metadata={**row.metadata, name: value}), touched=True)


@step
def plain_add_column(world, name, value):
    """Add a column with a value in every passage."""
    if world.types() and name not in world.types():
        world.plain().add_columns({name: f"cast({value} as bigint)"})
        _change(world, lambda row: dataclasses.replace(row, metadata={**row.metadata, name: value}), touched=True)


@step
def plain_drop_column(world, name):
    """Drop a metadata column: what was in it is gone, and adding the same documents again fills it."""
    if name in world.types():
        world.plain().drop_columns([name])
        without = {"metadata": None}

        def drop(row):
            without["metadata"] = {key: value for key, value in row.metadata.items() if key != name}
            return dataclasses.replace(row, **without)

        _change(world, drop)


def _rows(world, numbers):
    rows = world.model.rows()
    return list({rows[number % len(rows)].id: rows[number % len(rows)] for number in numbers}.values()) if rows else []


def _change(world, call, *, touched=False):
    world.model = world.model.copy()
    world.model.change(call, touched=touched)
    world.changed()


@step
def plain_optimize(world):
    """Compact and fold, freeing nothing."""
    if world.types():
        world.plain().optimize(cleanup_older_than=FOREVER)
        world.changed()


@step
def plain_clean(world):
    """Free all old versions but tagged ones, as `table.optimize` of plain LanceDB does on request."""
    table = world.plain()
    if table is not None:
        for name in table.tags.list():
            table.tags.delete(name)
        table.optimize(cleanup_older_than=datetime.timedelta(milliseconds=1))
        world.versions, world.readers = {}, []
        world.changed()


@step
def plain_tag(world, name):
    """Tag the version of now, which no clean-up may free."""
    table = world.plain()
    if table is not None and name not in table.tags.list():
        table.tags.create(name, table.version)


@step
def plain_restore(world, back):
    """Restore an earlier version that holds vectors of the same encoder."""
    known = _restorable(world)
    if known:
        version = known[-1 - back % len(known)]
        table = world.plain()
        table.checkout(version)
        table.restore()
        world.model = world.versions[version].copy()
        world.changed()


def _restorable(world):
    table = world.plain()
    kept = {each["version"] for each in table.list_versions()} if table is not None else set()
    same = [version for version, model in world.versions.items() if model.encoder == world.model.encoder]
    return sorted(kept.intersection(same))


@step
def plain_open(world):
    """Open a reader that stays on its version, as plain LanceDB does."""
    table = world.plain()
    if table is not None:
        world.readers.append(
            (table, table.version, sorted(row.id for row in world.model.rows() for _ in range(row.copies)))
        )


@step
def plain_read(world):
    """Read with those that were opened some steps ago."""
    for table, version, names in world.readers:
        assert sorted(table.search().select(["id"]).limit(None).to_arrow()["id"].to_pylist()) == names, version
    world.readers.clear()


@step
def remove(world):
    """Remove the folder."""
    if world.folder.exists():
        world.remove()


@step
def remake(world, documents, encoder, embed=True):
    """Remove the folder and make it again, as a nightly rebuild does, perhaps with another encoder."""
    documents = [made(document) for document in documents]
    if world.folder.exists():
        world.remove()
    world.model = Model(encoder=encoder)
    world.stale = {0, 1}
    with opened(world.folder, world.encoder, policy=SMALL) as other:
        other.add(documents, splitter=WordSplitter(4), embed=embed)
    for batch, _ in world.model.batches(documents, BATCH):
        world.model.add(batch, 4, embed)
    world.changed()


@step
def damaged_copy(world, number, question):
    """Copy the folder without its side table, or without one of its files: every error is ours."""
    if not world.types():
        return
    copy = world.place / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(world.folder, copy)
    files = sorted(path for path in copy.rglob("*") if path.is_file() and "lock" not in path.name)
    if number == 0:
        shutil.rmtree(copy / "passages_dpr_lance.lance")
    else:
        files[number % len(files)].unlink()
    for call in (
        lambda retriever: retriever.search(question, 3, mode="bm25"),
        lambda retriever: retriever.search(question, 3, mode="dense"),
        lambda retriever: list(retriever.passages()),
        lambda retriever: retriever.add([{"id": "new", "text": question}]),
        lambda retriever: retriever.optimize(),
    ):
        with contextlib.suppress(DprLanceError), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # says that the small table is missing
            with opened(copy, world.encoder, policy=SMALL) as other:
                call(other)
    shutil.rmtree(copy)
