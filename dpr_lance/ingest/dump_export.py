"""Writing a table to a file, with its vectors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from dpr_lance.errors import InvalidInputError
from dpr_lance.ingest.dump_file import OWN, DumpHead, ending_of, write_dump
from dpr_lance.ingest.embedding import ProgressReporter
from dpr_lance.table.completion import complete_rows
from dpr_lance.table.filters import among
from dpr_lance.table.schema import DOCUMENT_ID, VECTOR, metadata_fields
from dpr_lance.table.snapshot import Snapshot
from dpr_lance.table.store import Store

DOCUMENTS_AT_ONCE = 500


def export_table(store: Store, path: Path, *, overwrite: bool, progress: ProgressReporter) -> int:
    """Write all passages of one version; see `Retriever.export`."""
    ending_of(path)
    if store.find() is None:
        raise store.absent()
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise InvalidInputError(f"path={str(path)!r}: give the name of a file in a folder that exists")
    if path.exists() and not overwrite:
        raise InvalidInputError(f"path={str(path)!r}: the file exists; pass overwrite=True to replace it")
    complete_rows(store)  # a dump has no incomplete ones

    def write(snapshot: Snapshot) -> int:
        fields = metadata_fields(snapshot.table.schema)
        metadata = pa.schema([pa.field(field.name, field.type) for field in fields])
        total = int(snapshot.table.count_rows())
        progress.passages_total = total
        head = DumpHead(replace(snapshot.card, column=VECTOR), total, metadata)
        return write_dump(path, head, _rows(snapshot, head, progress))

    return store.with_snapshot(write)


def _rows(snapshot: Snapshot, head: DumpHead, progress: ProgressReporter) -> Iterator[pa.Table]:
    """Yield all passages, those of a document together in their order; memory holds the documents' ids."""
    table, column = snapshot.table, snapshot.card.column
    names = pc.unique(table.search().select([DOCUMENT_ID]).limit(None).to_arrow()[DOCUMENT_ID])
    columns = [column if name == VECTOR else name for name in [*OWN.names, *head.metadata.names]]
    passages = 0
    for start in range(0, len(names), DOCUMENTS_AT_ONCE):
        some = names.slice(start, DOCUMENTS_AT_ONCE)
        found = table.search().where(among(DOCUMENT_ID, some.to_pylist())).select(columns).limit(None).to_arrow()
        places = pc.index_in(found[DOCUMENT_ID], value_set=some)
        order = pc.sort_indices(
            pa.table({"document": places, "position": found["position"]}),
            sort_keys=[("document", "ascending"), ("position", "ascending")],
        )
        part = found.select(columns).rename_columns(head.schema.names).take(order)
        titles = pc.fill_null(part["title"], "")  # null is the same as no title
        part = part.set_column(part.schema.get_field_index("title"), "title", titles)
        yield part.cast(head.schema)
        passages += part.num_rows
        progress.report(passages, start + len(some))
