"""The front door: a `Retriever` over one table, made by `connect`; the work is in the packages it calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import NoReturn

from dpr_lance.answering.answerable import Answerable
from dpr_lance.calibration.calibrate import CalibrationQuestions, Calibrator, sorted_questions
from dpr_lance.checks import checked_flag, checked_strings, checked_whole
from dpr_lance.health.check import ENCODED, Checker
from dpr_lance.health.check_report import CheckReport
from dpr_lance.health.rebuild import rebuild as rebuilt
from dpr_lance.health.table_info import table_info
from dpr_lance.indexes import maintenance as indexes
from dpr_lance.indexes.filter_indexes import check_filter_columns
from dpr_lance.indexes.vector_index import choose_kind
from dpr_lance.ingest.writable import Writable
from dpr_lance.reader.choice import RerankSource, checked_reranker
from dpr_lance.records.reports import IndexReport
from dpr_lance.records.table_info import Calibration, IndexKind, TableInfo
from dpr_lance.table.readable import Readable
from dpr_lance.table.restorable import Restorable


class Retriever(Answerable, Writable, Readable, Restorable):
    """Passages that can be added, searched and maintained; made by `connect`. Threads may share one."""

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
        return table_info(self._store, self._searcher.asked, self._searcher.memory.bytes_held)

    def close(self) -> None:
        """End the threads and free the vectors in memory; every other call then raises `TableError`."""
        self._store.close()
        self._writes.close()
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
