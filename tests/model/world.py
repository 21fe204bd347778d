"""A real table with two open retrievers, and the model of it; after every step the table must be the model."""

import shutil

import lancedb

import dpr_lance
from dpr_lance import DamagedTableError, EncoderMismatchError, TableError
from dpr_lance.table.index_policy import IndexPolicy
from tests.model.brute_force import Entry, Promise
from tests.model.encoders import encoders
from tests.model.filters import holds
from tests.model.model import Model
from tests.model.values import same_metadata
from tests.tables import brute_force_bm25, opened

SMALL = IndexPolicy(
    fold_rows=30, fold_rows_least=10, rebuild_rows=60, scalar_index_rows=80, vector_index_rows=150,
    rows_per_partition=32, kmeans_iterations=2, sample_rate=16, retrain_growth=1.5, fold_fragments=8,
    recall_questions=20, probed_shares=(0.2, 0.5, 1.0),
)  # fmt: skip
"""A policy under which some hundred rows are folded, compacted, rebuilt and trained as many thousands are otherwise."""

BATCH = 40
"""Documents of one commit."""


class World:
    """A folder, the retrievers that have it open, and what must be in it.

    Retriever 0 holds vectors in memory. Retriever 1, which has the folder by its `file://` name, does not, and asks the
    vector index. Those in `stale` were opened before the folder was replaced or given another encoder: they may say so
    once, and are opened again then.
    """

    def __init__(self, place):
        self.place = place
        self.folder = place / "table"
        self.model = Model()
        self.encoders = encoders()
        self.versions = {}
        self.readers = []
        self.stale = set()
        self.folded = False
        self.created = 0
        self._retrievers = [self._opened(0), self._opened(1)]

    def close(self):
        for retriever in self._retrievers:
            retriever.close()

    def _opened(self, by):
        where = self.folder if by == 0 else self.folder.as_uri()
        resident = {} if by == 0 else {"resident_bytes": 0}
        return opened(where, self.encoder, policy=SMALL, **resident)

    @property
    def encoder(self):
        return self.encoders[self.model.encoder]

    def reopen(self, by):
        self._retrievers[by].close()
        self.stale.discard(by)
        self._retrievers[by] = self._opened(by)

    def ask(self, by, work):
        """Return `work(retriever)`; a stale retriever may say that it is."""
        try:
            return work(self._retrievers[by])
        except (TableError, EncoderMismatchError) as error:
            if by not in self.stale or isinstance(error, DamagedTableError):
                raise
            self.reopen(by)
            return work(self._retrievers[by])

    # The table behind the retrievers' backs

    def plain(self):
        """Return the table as plain LanceDB opens it; None if it does not exist."""
        if not (self.folder / "passages.lance").exists():
            return None
        return lancedb.connect(self.folder).open_table("passages")

    def types(self):
        """Return the Arrow types of the table's columns by name."""
        table = self.plain()
        return {} if table is None else {field.name: field.type for field in table.schema}

    def remove(self):
        """Remove the folder under the retrievers."""
        shutil.rmtree(self.folder)
        self.model = Model(encoder=self.model.encoder)
        self.stale = {0, 1}
        self.versions, self.readers, self.folded = {}, [], False

    # What it must be

    def changed(self, *, folded=False):
        """Note that a step has changed the table: it is the model still, and this version is known."""
        self.folded = folded
        self.check()
        if self.model.exists:
            self.versions[self.plain().version] = self.model.copy()

    def check(self, by=0):
        """Assert that the table holds the passages of the model, and that what counts them agrees."""
        stored = sorted(self.ask(by, lambda retriever: list(retriever.passages())), key=lambda passage: passage.id)
        rows = sorted((row for row in self.model.rows() for _ in range(row.copies)), key=lambda row: row.id)
        assert [passage.id for passage in stored] == [row.id for row in rows]
        for passage, row in zip(stored, rows, strict=True):
            check_passage(passage, row)
        assert self.ask(by, len) == len(rows)

    def entries(self, question, where):
        """Return every passage that matches a filter, with its scores for a question."""
        rows = [row for row in self.model.rows() for _ in range(row.copies)]
        scores = brute_force_bm25(question, [row.indexed for row in rows])
        asked = self.encoder.encode_questions([question])[0].astype(float)
        contents = sorted({row.content for row in rows if row.embedded})
        vectors = dict(zip(contents, self.encoder.encode_passages(contents), strict=True)) if contents else {}
        return [
            Entry(row.id, row.content, float(score), float(vectors[row.content] @ asked) if row.embedded else None)
            for row, score in zip(rows, scores, strict=True)
            if where is None or holds(where, row) is True
        ]

    def promise(self, by, where):
        """Return how exact a search by one of the retrievers has to be now."""
        table = self.plain()
        vectors = any(column.startswith("vector") for config in table.list_indices() for column in config.columns)
        return Promise(bm25=self.folded, dense=not vectors or (by == 0 and where is None))


def check_passage(passage, row):
    """Assert that a passage, or a hit, is the row of the model."""
    stored = passage.id, passage.document_id, passage.title, passage.text
    assert stored == (row.id, row.document_id, row.title, row.text)
    if isinstance(passage, dpr_lance.Passage):
        placed = passage.position, passage.start, passage.end, passage.embedded
        assert placed == (row.position, row.start, row.start + len(row.text), row.embedded), passage.id
    assert same_metadata(row.metadata, passage.metadata), f"{row.id}: {row.metadata!r} became {passage.metadata!r}"
