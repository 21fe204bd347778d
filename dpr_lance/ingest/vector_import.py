"""Vectors from files for stored passages: what another program has embedded with the table's encoder."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from dpr_lance.checks import checked_path
from dpr_lance.encoders.vectors import Vector, vector_array
from dpr_lance.errors import InvalidInputError
from dpr_lance.indexes.maintenance import fold
from dpr_lance.ingest.embedding import BATCH_ROWS, ProgressReporter
from dpr_lance.inputs.dpr_embeddings import read_embeddings
from dpr_lance.records.reports import VectorReport
from dpr_lance.table.filters import among
from dpr_lance.table.schema import DOCUMENT_ID, ID, TableCard
from dpr_lance.table.store import Store

KNOWN_PREFIX = "wiki:"
"""Prefix of the ids of Wikipedia's passages in some of DPR's files; psgs_w100.tsv has none."""


def import_vectors(store: Store, files: Iterable[str | os.PathLike[str]], progress: ProgressReporter) -> VectorReport:
    """Give stored passages the vectors of DPR's embedding files; see `Retriever.import_vectors`."""
    paths = [checked_path(path, f"files[{number}]") for number, path in enumerate(files)]
    card = store.card
    stored = read = 0
    for path in paths:
        for batch in _batches(read_embeddings(path)):
            read += len(batch)
            rows = _rows(store, card, _by_id(batch, card, path), path)
            if rows.num_rows:
                store.set_vectors(rows, card)
                fold(store, bulk=True)
                stored += rows.num_rows
            progress.report(read)
    if read and not stored:
        raise InvalidInputError(f"{store.place} has none of the {read:,} ids in the files, as {batch[0][0]!r}")
    if stored:
        fold(store, bulk=False)
    return VectorReport(stored, read - stored, progress.seconds)


def _batches(items: Iterator[tuple[str, Vector]]) -> Iterator[list[tuple[str, Vector]]]:
    while batch := list(itertools.islice(items, BATCH_ROWS)):
        yield batch


def _by_id(batch: Sequence[tuple[str, Vector]], card: TableCard, path: Path) -> dict[str, Vector]:
    """Return the vectors by id, without the known prefix; raise when one does not fit the encoder."""
    dimension = card.encoder.dimension
    for identity, vector in batch:
        if len(vector) != dimension or not np.isfinite(vector).all():
            fault = f"has {len(vector)} numbers" if len(vector) != dimension else "has NaN or infinity in it"
            raise InvalidInputError(
                f"{path}: the vector of {identity!r} {fault}; those of the table's encoder {card.encoder.name!r} are "
                f"{dimension} finite numbers"
            )
    return {identity.removeprefix(KNOWN_PREFIX): vector for identity, vector in batch}


def _rows(store: Store, card: TableCard, vectors: dict[str, Vector], path: Path) -> pa.Table:
    names = list(vectors)
    names += [f"{KNOWN_PREFIX}{name}" for name in vectors]
    found = store.select([ID, DOCUMENT_ID, "content_hash"], among(DOCUMENT_ID, names) | among(ID, names))
    chosen: list[Vector] = []
    seen: set[str] = set()
    for passage, document in zip(found[ID].to_pylist(), found[DOCUMENT_ID].to_pylist(), strict=True):
        vector = vectors.get(passage.removeprefix(KNOWN_PREFIX))
        if vector is None:
            if document in seen:
                raise InvalidInputError(
                    f"{path}: {document!r} is a document of several passages in {store.place}, and the file has one "
                    f"vector for it: add its documents whole (--whole)"
                )
            seen.add(document)
            vector = vectors[document.removeprefix(KNOWN_PREFIX)]
        chosen.append(vector)
    array = vector_array(chosen, card.encoder.dimension)
    return found.select([ID, "content_hash"]).append_column(pa.field(card.column, array.type), array)
