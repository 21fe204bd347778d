"""The methods of a `Retriever` that write documents, metadata and vectors."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from dpr_lance.checks import checked_flag, checked_items, checked_path, refused
from dpr_lance.errors import EncoderError, EncoderMismatchError, MissingExtraError
from dpr_lance.ingest.dump_export import export_table
from dpr_lance.ingest.dump_file import DumpHead, head_of
from dpr_lance.ingest.dump_import import DumpImport, check_encoder
from dpr_lance.ingest.embedding import ProgressCallback, ProgressReporter, Reembedder
from dpr_lance.ingest.ingestion import Ingestion
from dpr_lance.ingest.metadata_update import update_metadata
from dpr_lance.ingest.vector_import import import_vectors
from dpr_lance.ingest.write_queue import WriteQueue
from dpr_lance.inputs.documents import document_stream, with_index
from dpr_lance.inputs.files import FileDocuments, file_named
from dpr_lance.records.reports import AddReport, OnError, ReembedReport, VectorReport
from dpr_lance.table.encoder import EncoderSource, check_source, loaded, source_names
from dpr_lance.table.filters import Filter
from dpr_lance.table.holder import TableHolder
from dpr_lance.table.passages import Ids, meant_by
from dpr_lance.table.store import Store
from dpr_lance.text.splitter import Splitter, WordSplitter, splitter_name, splitter_named

ENGLISH_ENCODER = (
    "the packaged encoder reads English, and the table's language is another one: for vectors call reembed() with an "
    "encoder of that language, or give it to connect() for a new table"
)
"""Why `add` makes no vectors in some tables."""


class Writable(TableHolder):
    """A table that can be added to and changed."""

    def __init__(self, store: Store, encoder: EncoderSource | None) -> None:
        super().__init__(store, encoder)
        self._writes = WriteQueue()

    def add(
        self,
        documents: object,
        *,
        splitter: Splitter | Literal["table"] | None = "table",
        embed: bool = True,
        progress: ProgressCallback | None = None,
        on_error: OnError = "raise",
        index: str | None = None,
    ) -> AddReport:
        """Store documents: an iterable of mappings or `Document`s, an Arrow table or reader, a data frame, or a file.

        The path of a file is that of documents in one of the forms that `dpr-lance add` reads, or of what `export` has
        written: its passages are stored with their vectors, and nothing is split or encoded.

        A mapping has `text`, and optionally `id`, `title` and metadata. The same id with the same content does nothing,
        with new content it replaces the whole document, so that missing fields become null (`update` keeps them). After
        an interruption, call again to do the rest. Each batch of about 1,000 passages is one commit; every search from
        then on finds it.

        `splitter`: "table" is the table's own (100-word passages in a new table), None keeps each document as one
        passage; or another `Splitter`. `embed=False`, or an encoder that is not available here, stores text that BM25
        finds at once and that `embed` gives vectors later; so does a table in another language than English without an
        encoder of its own. `progress` is called with a `Progress` as the work goes on.
        `on_error="skip"` leaves out documents that cannot be stored and counts them. `index`: the field that the index
        of a pandas data frame becomes, such as "id"; without it, an index without a name is left out.

        Raises `InvalidInputError` naming the document that cannot be stored (the batches before it stay),
        `EncoderMismatchError` when the table's vectors are another encoder's.
        """
        self._store.check_usable()
        return self._add(documents, splitter, embed, ProgressReporter(progress), on_error, index)

    async def add_async(
        self,
        documents: object,
        *,
        splitter: Splitter | Literal["table"] | None = "table",
        embed: bool = True,
        progress: ProgressCallback | None = None,
        on_error: OnError = "raise",
        index: str | None = None,
    ) -> AddReport:
        """Do what `add` does, without keeping the event loop from other work meanwhile.

        The asynchronous writes of one retriever run one after another, in the order of the calls. A cancelled one stops
        within its batch: the batches before it stay, and nothing is written after `CancelledError` is raised. The
        documents are read, and `progress` is called, in the thread of the work.
        """
        self._store.check_usable()
        return await self._writes.run(
            lambda stop: self._add(documents, splitter, embed, ProgressReporter(progress, stop=stop), on_error, index)
        )

    def _add(
        self,
        documents: object,
        splitter: Splitter | Literal["table"] | None,
        embed: bool,
        reporter: ProgressReporter,
        on_error: OnError,
        index: str | None,
    ) -> AddReport:
        embed = checked_flag(embed, "embed")
        if index is not None:
            documents = with_index(documents, index)
        if (path := file_named(documents)) is not None:
            if (head := head_of(path)) is not None:
                return self._add_dump(path, head, splitter, reporter)
            documents = FileDocuments([path], on_error=on_error)
        splitter_name(None if isinstance(splitter, str) and splitter == "table" else splitter)
        items, total = document_stream(documents, on_error=on_error)
        stored = self._store.find_card()
        if stored is not None:
            self._store.check_language(stored)
        if isinstance(splitter, str):
            splitter = WordSplitter() if stored is None else splitter_named(stored.splitter)
        encoder, missing = None, None
        if embed and (self._encoder.new_mode if stored is None else stored.mode) == "bm25":
            missing = ENGLISH_ENCODER
        elif embed:
            try:
                encoder = self._encoder.loaded(stored)
            except EncoderMismatchError:
                raise
            except (EncoderError, MissingExtraError) as error:
                if stored is None or self._encoder.is_named:
                    raise
                missing = str(error)
        card = stored or self._encoder.new_card(splitter)
        skip = on_error == "skip"
        follow = self._encoder.loaded
        ingestion = Ingestion(self._store, card, encoder, splitter, skip_errors=skip, progress=reporter, follow=follow)
        return replace(ingestion.add(items, total), not_embedded=missing)

    def _add_dump(
        self, path: Path, head: DumpHead, splitter: Splitter | Literal["table"] | None, reporter: ProgressReporter
    ) -> AddReport:
        if not isinstance(splitter, str):
            raise refused("splitter", splitter, f"{path} has passages that are split already; leave it out")
        card = self._store.find_card()
        if self._encoder.is_named:
            self._encoder.loaded(card)
        if card is None:
            new = self._encoder.new_card(None) if self._encoder.is_named else head.card
            language = self._store.language or head.card.language
            card = replace(new, splitter=head.card.splitter, language=language)
        check_encoder(head, card, path, self._store.place)
        return DumpImport(self._store, card, path, head, reporter).run()

    def export(
        self, path: str | os.PathLike[str], *, overwrite: bool = False, progress: ProgressCallback | None = None
    ) -> int:
        """Write all passages with their vectors to a .parquet or .jsonl file; return how many there are.

        They are those of one version, in any size of table; the file appears when it is whole. It names the encoder
        with its fingerprint. `add` of this file stores them again without encoding anything, in a new table or in one
        with vectors of the same encoder: ids, positions, types of metadata, and vectors to the bit.

            retriever.export("wiki.parquet")
            dpr_lance.connect("copy.lance").add("wiki.parquet")

        Raises `InvalidInputError` for a file that exists, unless `overwrite`, or another ending, and for a value that
        JSON cannot give back; `StorageError` where the disk is full; `TableError` when nothing has been added yet.
        """
        self._store.check_usable()
        overwrite, reporter = checked_flag(overwrite, "overwrite"), ProgressReporter(progress)
        return export_table(self._store, checked_path(path, "path"), overwrite=overwrite, progress=reporter)

    def embed(self, *, progress: ProgressCallback | None = None) -> AddReport:
        """Give a vector to every passage that has none; interrupted, it is continued by calling it again.

        Raises `EncoderError` when the table's encoder is not available.
        """
        self._store.check_usable()
        reporter = ProgressReporter(progress)
        card = self._store.find_card()
        if card is None:
            return AddReport()
        encoder, follow = self._encoder.loaded(card), self._encoder.loaded
        return Ingestion(self._store, card, encoder, progress=reporter, follow=follow).embed()

    def reembed(self, encoder: EncoderSource, *, progress: ProgressCallback | None = None) -> ReembedReport:
        """Give every passage a vector of another encoder, and use it from then on.

        Searches use the old vectors until one commit switches to the new ones; then the old ones are freed. After an
        interruption, call it again with the same encoder to continue; another encoder starts from the beginning. Open
        retrievers that were not given an encoder follow the table to the new one.

        Raises `EncoderError` when the encoder cannot be loaded, `TableError` when nothing has been added yet,
        `LockedError` when another process is re-embedding this table.
        """
        self._store.check_usable()
        check_source(encoder)
        reporter = ProgressReporter(progress)
        new = loaded(encoder)
        with self._store.lock(timeout=0, purpose="reembed"):
            self._encoder.expect(encoder, new)
            return Reembedder(self._store, new, source_names(encoder), reporter).run()

    def import_vectors(
        self, files: Iterable[str | os.PathLike[str]], *, progress: ProgressCallback | None = None
    ) -> VectorReport:
        """Give stored passages the vectors of DPR's embedding files, in place of any that they have.

        An id in a file is a passage's id, or the id of a document that is one passage (`add(splitter=None)` stores it
        so), with or without "wiki:" before it. The files are pickles, read without unpickling. Every 1,000 vectors are
        one commit; after an interruption, call again. Only the dimension is checked: it is up to you that the table's
        encoder made the vectors.

        Raises `InvalidInputError` naming the file and the id of a vector that cannot be used, and when no id is stored;
        `TableError` when nothing has been added yet.
        """
        self._store.check_usable()
        reporter = ProgressReporter(progress)
        paths = checked_items(
            files, "files", "give a list of files, as generate_dense_embeddings.py of DPR writes them"
        )
        return import_vectors(self._store, paths, reporter)

    def delete(self, ids: Ids = None, *, where: Filter = None) -> int:
        """Delete documents or passages by id, or all passages that match `where`; return how many passages went.

        The id of a document means all its passages; unknown ids are ignored. Raises `InvalidInputError` unless exactly
        one of `ids` and `where` is given.
        """
        self._store.check_usable()
        meant = meant_by(self._store, "delete", ids, where)
        return 0 if meant is None else self._store.delete(meant)

    async def delete_async(self, ids: Ids = None, *, where: Filter = None) -> int:
        """Do what `delete` does, in its turn among the asynchronous writes: see `add_async`.

        Cancelled before its turn, nothing is deleted; later, either all of the passages or none.
        """
        self._store.check_usable()
        return await self._writes.run(lambda _: self.delete(ids, where=where))

    def update(self, ids: Ids = None, metadata: Mapping[str, Any] | None = None, *, where: Filter = None) -> int:
        """Set metadata fields of documents or passages, as in `update("alps", {"reviewed": True})`; return how many.

        Other fields, text and vectors stay; None sets a field to null, a new name becomes a column. The original
        document, added again, counts as changed and replaces the updated one. Raises as `delete` and `add` do.
        """
        self._store.check_usable()
        return update_metadata(self._store, ids, where, metadata)
