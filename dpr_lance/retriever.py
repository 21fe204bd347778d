"""The front door: a `Retriever` over one table, made by `connect`; the work is in the packages it calls."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, NoReturn

from dpr_lance.answering.answerable import Answerable
from dpr_lance.calibration.calibrate import CalibrationQuestions, Calibrator, sorted_questions
from dpr_lance.checks import checked_flag, checked_items, checked_strings, checked_whole
from dpr_lance.errors import EncoderError, EncoderMismatchError, MissingExtraError
from dpr_lance.health.check import ENCODED, Checker
from dpr_lance.health.check_report import CheckReport
from dpr_lance.health.rebuild import rebuild as rebuilt
from dpr_lance.health.table_info import table_info
from dpr_lance.indexes import maintenance as indexes
from dpr_lance.indexes.filter_indexes import check_filter_columns
from dpr_lance.indexes.vector_index import choose_kind
from dpr_lance.ingest.embedding import ProgressCallback, ProgressReporter, Reembedder
from dpr_lance.ingest.ingestion import Ingestion
from dpr_lance.ingest.metadata_update import update_metadata
from dpr_lance.ingest.vector_import import import_vectors
from dpr_lance.inputs.documents import document_stream
from dpr_lance.reader.choice import RerankSource, checked_reranker
from dpr_lance.records.context import Context, ContextLimits, estimated_tokens
from dpr_lance.records.hits import Hit, Hits
from dpr_lance.records.passage import Passage
from dpr_lance.records.reports import AddReport, IndexReport, OnError, ReembedReport, VectorReport
from dpr_lance.records.table_info import Calibration, IndexKind, TableInfo
from dpr_lance.table.encoder import EncoderSource, check_source, loaded, source_names
from dpr_lance.table.filters import Filter
from dpr_lance.table.passages import Ids, all_of, context_for, meant_by, named, neighbours
from dpr_lance.text.splitter import Splitter, WordSplitter, splitter_name, splitter_named


class Retriever(Answerable):
    """Passages that can be added, searched and maintained; made by `connect`. Threads may share one."""

    def add(
        self,
        documents: object,
        *,
        splitter: Splitter | Literal["table"] | None = "table",
        embed: bool = True,
        progress: ProgressCallback | None = None,
        on_error: OnError = "raise",
    ) -> AddReport:
        """Store documents: an iterable of mappings or `Document`s, an Arrow table or reader, a data frame.

        A mapping has `text`, and optionally `id`, `title` and metadata. The same id with the same content does nothing,
        with new content it replaces the whole document, so that missing fields become null (`update` keeps them). After
        an interruption, call again to do the rest. Each batch of about 1,000 passages is one commit; every search from
        then on finds it.

        `splitter`: "table" is the table's own (100-word passages in a new table), None keeps each document as one
        passage; or another `Splitter`. `embed=False`, or an encoder that is not available here, stores text that BM25
        finds at once and that `embed` gives vectors later. `progress` is called with a `Progress` as the work goes on.
        `on_error="skip"` leaves out documents that cannot be stored and counts them.

        Raises `InvalidInputError` naming the document that cannot be stored (the batches before it stay),
        `EncoderMismatchError` when the table's vectors are another encoder's.
        """
        self._store.check_usable()
        embed = checked_flag(embed, "embed")
        reporter = ProgressReporter(progress)
        splitter_name(None if isinstance(splitter, str) and splitter == "table" else splitter)
        items, total = document_stream(documents, on_error=on_error)
        stored = self._store.find_card()
        if isinstance(splitter, str):
            splitter = WordSplitter() if stored is None else splitter_named(stored.splitter)
        encoder, missing = None, None
        if embed:
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

    def update(self, ids: Ids = None, metadata: Mapping[str, Any] | None = None, *, where: Filter = None) -> int:
        """Set metadata fields of documents or passages, as in `update("alps", {"reviewed": True})`; return how many.

        Other fields, text and vectors stay; None sets a field to null, a new name becomes a column. The original
        document, added again, counts as changed and replaces the updated one. Raises as `delete` and `add` do.
        """
        self._store.check_usable()
        return update_metadata(self._store, ids, where, metadata)

    def get(self, ids: Ids) -> list[Passage]:
        """Return the passages of these ids, in the order of the ids; a document's passages in their order.

        The id of a document means all its passages; unknown ids are ignored.
        """
        self._store.check_usable()
        return named(self._store, ids)

    def context(self, hit: Hit | Passage | str, before: int = 1, after: int = 1) -> list[Passage]:
        """Return a hit (or passage, or passage id) with its neighbours in the same document, in the document's order.

        The list is empty when the passage is no longer stored, or when its id now has another text. Raises
        `InvalidInputError` for a negative number.
        """
        self._store.check_usable()
        return neighbours(self._store, hit, before, after)

    def context_for(
        self,
        hits: Hits | Sequence[Hit],
        budget_tokens: int | None = None,
        *,
        count: Callable[[str], int] = estimated_tokens,
        neighbours: int = 1,
    ) -> Context:
        """Return the text of hits for a generator: see `Hits.context`. Some of the hits, or unpickled ones, will do."""
        self._store.check_usable()
        limits = ContextLimits(budget_tokens, count, neighbours).checked()
        return context_for(self._store, hits, limits)

    def __len__(self) -> int:
        """Return the number of passages."""
        return self._store.count()

    def passages(self) -> Iterator[Passage]:
        """Yield every passage, in storage order, read in batches."""
        return all_of(self._store)

    def calibrate(
        self,
        questions: CalibrationQuestions | None = None,
        *,
        split: str | None = None,
        regex: bool = False,
        rerank: RerankSource = None,
    ) -> Calibration:
        """Choose the hybrid weight λ, the default mode and the index effort for this table, and store them next to it.

        `questions`: at least 50 labelled ones as `evaluate` takes them (a file, a BEIR folder with its `split`, an
        iterable), a list of strings, or None. With labels, λ is the one that makes the answers most likely, and a
        single leg becomes the default mode where it is clearly better than hybrid; the current choice is kept unless
        the new one has a higher mean reciprocal rank on held-out questions. Without labels, λ moves towards the leg
        whose best passages score well in the other leg. Without questions, λ changes only if it is out of scale for the
        vectors. With 20 questions or more, labelled or not, the number of probed partitions is set to what the recall
        target needs. New vectors of another encoder discard all of this.

        `rerank` as in `search`: the weight of retrieval next to its scores is chosen too, from 30 hits of up to 500
        labelled questions, never worse than either alone on held-out ones. Where re-ranking is clearly better than
        retrieval alone, it becomes the default of searches in this table, unless it is an object. False drops it.

            retriever.calibrate("questions.jsonl").hybrid_weight

        Raises `InvalidInputError` for questions that cannot be used, `EncoderError` without encoder or vectors,
        `ReaderError` without the re-ranker, `TableError` when nothing has been added yet.
        """
        self._store.check_usable()
        regex, rerank = checked_flag(regex, "regex"), checked_reranker(rerank)
        labelled, unlabelled = sorted_questions(questions, split=split)
        return Calibrator(self._searcher, self._store.card, regex).run(labelled, unlabelled, rerank)

    def optimize(
        self, *, filter_columns: Sequence[str] = (), index: IndexKind | None = None, rebuild: bool = False
    ) -> IndexReport:
        """Bring the indexes up to date, compact, train the vector index when it is due, free old versions.

        `add` does this by itself when it pays. `filter_columns`: metadata columns that get an index for filters, which
        is worth it where a filter on them leaves few passages of a large table. `index`: the kind of vector index from
        now on: "ivf_rq" (the default, for dimensions that are multiples of 8), "ivf_sq" (any dimension, twice the
        size), or for unit vectors "ivf_pq" (half the size, slower to build). `rebuild` makes everything again that is
        derived from the passages, as `check` advises: the indexes, the small table next to it (except the calibration),
        and one row for an id that is stored twice. It is safe while others read and write.

        Raises `TableError` when nothing has been added yet, `DamagedTableError` when a file of passages is damaged,
        `InvalidInputError` for a column that cannot have an index or a kind that the table cannot have, `LockedError`
        when another process has held the lock for too long, or writers leave no moment to compact in.
        """
        self._store.check_usable()
        if self._store.find() is None:
            raise self._store.absent()
        columns = checked_strings(filter_columns, "filter_columns", "give the names of metadata columns")
        if checked_flag(rebuild, "rebuild"):
            with self._store.lock(timeout=indexes.LOCK_TIMEOUT):
                built = rebuilt(self._store)
        check_filter_columns(self._store, columns)
        if index is not None:
            choose_kind(self._store, index)
        with self._store.lock(timeout=indexes.LOCK_TIMEOUT):
            report = indexes.optimize(self._store, filter_columns=columns)
        return replace(report, built=tuple(dict.fromkeys((*built, *report.built)))) if rebuild else report

    def check(self, *, encode: int = ENCODED) -> CheckReport:
        """Read the whole table and report what is damaged; nothing is changed.

        Files are compared with their checksums, indexes with the passages, texts with their hashes, and the vectors of
        `encode` passages with those that the encoder makes now.

            for finding in retriever.check().findings:
                print(finding)
        """
        self._store.check_usable()
        encode = checked_whole(encode, "encode", "give a number of passages, 0 or more", least=0)
        return Checker(self._store, self._encoder.loaded, encode).run()

    def info(self) -> TableInfo:
        """Return what the table holds, its encoder, its indexes and its size."""
        return table_info(self._store, self._searcher.memory.bytes_held)

    def close(self) -> None:
        """End the search threads and free the vectors in memory; every other call then raises `TableError`."""
        self._store.close()
        self._searcher.close()

    def __enter__(self) -> Retriever:
        self._store.check_usable()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<dpr_lance.Retriever {self._store.place}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} cannot be pickled, for its threads and open files: call connect() in each process")
