"""`check`: reads all of a table's latest version, and compares its parts with one another."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from lancedb.query import MatchQuery

from dpr_lance.encoders.encoder import Encoder
from dpr_lance.encoders.encoding import encoded_passages
from dpr_lance.encoders.vectors import Vector, vectors_of
from dpr_lance.errors import DprLanceError, EncoderError, MissingExtraError
from dpr_lance.health.check_report import IDS_NAMED, CheckReport, Finding
from dpr_lance.table.consistency import column_of
from dpr_lance.table.files import REBUILD, RESTORE
from dpr_lance.table.filters import among
from dpr_lance.table.rows import UPDATED_HASH, hash_of
from dpr_lance.table.schema import CONTENT, DOCUMENT_ID, ID, TableCard
from dpr_lance.table.snapshot import Snapshot, part_of
from dpr_lance.table.store import Store
from dpr_lance.table.tuning import calibration_in, learned_in, training_in
from dpr_lance.text.language import ENGLISH, Language
from dpr_lance.text.normal_form import content_of
from dpr_lance.text.terms import distinct_words

SAMPLE = 1_000
"""Passages, spread over the table, that are looked up in the BM25 index by one of their words."""
VECTOR_SAMPLE = 32
"""Passages that are looked up in the vector index by their own vectors."""
ENCODED = 16
"""Passages that are encoded again by default."""
_UNIT = 1e-2
"""How far from 1 the length of a unit vector may be."""
_ENCODED_AGAIN = 0.05
"""How far a vector may be from a newly encoded one, as a share of its length: processors round differently."""
_AT_ONCE = 500
_WORDS_AT_ONCE = 40
_VALUES = 200
"""Values of a metadata column that are looked up in its index."""

AGAIN = "delete these documents and add them again"
COMPLETE = f"embed() or optimize() completes rows that plain LanceDB has added; else {REBUILD}"

_COMPARED = (ID, DOCUMENT_ID, "position", "title", "text", CONTENT, "content_hash", "document_hash")


@dataclass(slots=True)
class _Sampled:
    """A passage that is looked up in the indexes later."""

    row: int
    id: str
    title: str
    text: str
    content: str | None
    vector: Vector | None


@dataclass(slots=True)
class Checker:
    """One check of a table; see `Retriever.check`."""

    store: Store
    encoder: Callable[[], Encoder]
    encode: int = ENCODED
    findings: list[Finding] = field(default_factory=list)
    _ids: list[str] = field(default_factory=list)
    _documents: dict[str, str] = field(default_factory=dict)
    _faults: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    _sample: list[_Sampled] = field(default_factory=list)
    _values: dict[str, Counter[Any]] = field(default_factory=dict)
    _language: Language = ENGLISH

    def run(self) -> CheckReport:
        """Look at the files, the small table, all rows, each index and some vectors; report damage, never raise it."""
        started = time.perf_counter()
        if self._tried(self.store.find, REBUILD) is None:
            return CheckReport(tuple(self.findings), seconds=time.perf_counter() - started)
        for damage in (*self.store.files.damages(), *self.store.remembered.files.damages()):
            self._find(str(damage), damage.remedy, str(damage.path))
        card = self._tried(self._card, REBUILD)
        self._language = ENGLISH if card is None else card.language
        read = self._tried(lambda: self.store.with_snapshot(lambda snapshot: self._read(snapshot, card)), RESTORE)
        listed = partial(self.store.retry_on_conflict, lambda table: list(table.list_indices()))
        indexes = self._tried(listed, REBUILD) or []
        if read is not None:
            for column in map(column_of, indexes):
                look = partial(self._look_into, column=column, card=card)
                self._tried(partial(self.store.with_snapshot, look), REBUILD)
            if CONTENT not in map(column_of, indexes):
                self._find("the BM25 index is missing", REBUILD)
        encoded, why = self._encoded(card) if card is not None else (0, None)
        with_sums, without = self.store.files.counts()
        return CheckReport(
            findings=tuple(dict.fromkeys(self.findings)),
            passages=len(self._ids),
            documents=len(self._documents),
            files=with_sums,
            files_without=without,
            indexes=tuple(map(column_of, indexes)),
            encoded=encoded,
            not_encoded=why,
            seconds=time.perf_counter() - started,
        )

    def _tried(self, call: Callable[[], Any], remedy: str) -> Any:  # noqa: ANN401 - what the call returns
        """Return what the call returns; where it raises, note a finding and return None."""
        try:
            return call()
        except DprLanceError as error:
            if not any(finding.file and finding.file in str(error) for finding in self.findings):
                self._find(str(error), remedy if remedy not in str(error) else "see there")
            return None

    def _find(self, what: str, remedy: str, file: str | None = None, ids: Sequence[str] = ()) -> None:
        self.findings.append(Finding(what, remedy, file, tuple(map(str, ids[:IDS_NAMED])), len(ids)))

    def _card(self) -> TableCard:
        if self.store.remembered.is_lost():
            self._find(f"{self.store.remembered.name}.lance, what calibrate() and optimize() keep, is missing", REBUILD)
        card, kept = self.store.card, self.store.remembered.values()
        training_in(kept, card)
        calibration_in(kept, card)
        learned_in(kept, card)
        kind = self.store.schema().field(card.column).type
        if kind.list_size != card.encoder.dimension:
            self._find(
                f"the vectors in {card.column!r} have {kind.list_size} dimensions, and those of the table's encoder "
                f"{card.encoder.name!r} have {card.encoder.dimension}",
                "reembed() with the encoder of your choice",
            )
        return card

    # The rows

    def _read(self, snapshot: Snapshot, card: TableCard | None) -> bool:
        """Read all columns of all rows, and compare the columns of each row."""
        self._ids, self._documents, self._faults, self._sample = [], {}, {}, []
        columns = set(map(column_of, snapshot.table.list_indices()))
        names = snapshot.names
        self._values = {name: Counter() for name in names if name in columns and name not in (CONTENT, ID, DOCUMENT_ID)}
        total = snapshot.table.count_rows()
        step = max(1, total // SAMPLE)
        while len(self._ids) < total:
            part = part_of(snapshot.table, names, len(self._ids))
            if not part.num_rows:
                self._find(f"the table lists {total:,} rows, and {len(self._ids):,} can be read", RESTORE)
                break
            self._compare(part, card, step)
        for (what, remedy), ids in self._faults.items():
            self._find(what, remedy, ids=ids)
        doubled = [name for name, count in Counter(self._ids).items() if count > 1]
        if doubled:
            self._find("ids are stored more than once", f"add these documents again, or {REBUILD}", ids=doubled)
        return True

    def _compare(self, part: pa.Table, card: TableCard | None, step: int) -> None:
        start = len(self._ids)
        try:
            part.validate(full=True)
            texts = {name: part[name].to_pylist() for name in part.schema.names if name in _COMPARED}
        except (pa.ArrowInvalid, ValueError) as error:
            self._faults.setdefault((f"text is stored that is not UTF-8 ({error})", RESTORE), []).append(f"row {start}")
            texts = {name: [None] * part.num_rows for name in _COMPARED}
        ids = texts[ID]
        for name, counts in self._values.items():
            if pa.types.is_string(kind := part[name].type) or pa.types.is_integer(kind):
                counts.update(part[name].to_pylist())
        for values in zip(*(texts[name] for name in _COMPARED), strict=True):
            self._compare_row(dict(zip(_COMPARED, values, strict=True)))
        vectors = self._compared_vectors(part, card, ids)
        rows = part["_rowid"].to_pylist()
        for number in range(-start % step, part.num_rows, step):
            if None not in (ids[number], texts["text"][number]):
                title, text, content = (texts[name][number] for name in ("title", "text", CONTENT))
                title = title or ""
                self._sample.append(_Sampled(rows[number], ids[number], title, text, content, vectors.get(number)))
        self._ids += ids

    def _compare_row(self, row: dict[str, Any]) -> None:
        name, row["title"] = row[ID], row["title"] or ""  # null is the same as no title
        if any(value is None for value in row.values()):
            return self._fault("passages lack a value that every passage has", COMPLETE, name)
        title, text, document = row["title"], row["text"], row[DOCUMENT_ID]
        if hash_of(title, text) != row["content_hash"]:
            self._fault("the text of passages has changed since it was stored: its hash differs", AGAIN, name)
        elif row[CONTENT] == content_of(title, text, self._language):
            pass
        elif row[CONTENT] == (f"{title}\n{text}" if title else text):
            self._fault("passages were indexed by an earlier version, which did not unify spellings", REBUILD, name)
        else:
            self._fault("the column that BM25 indexes is not the title and the text of passages", REBUILD, name)
        if name not in (f"{document}#{row['position']}", document):
            self._fault("the ids of passages do not match their document and position", AGAIN, name)
        state = row["document_hash"]
        if state != UPDATED_HASH and self._documents.setdefault(document, state) != state:
            self._fault("documents are a mix of two states", "add these documents again", name)
        return None

    def _fault(self, what: str, remedy: str, name: str) -> None:
        self._faults.setdefault((what, remedy), []).append(name)

    def _compared_vectors(self, part: pa.Table, card: TableCard | None, ids: Sequence[str]) -> dict[int, Vector]:
        """Return the rows' vectors by their number in the part, after checking each."""
        if card is None or card.column not in part.schema.names:
            return {}
        there = np.flatnonzero(part[card.column].is_valid().to_numpy())
        vectors = vectors_of(part[card.column])
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
        fine = np.isfinite(lengths)
        for number in there[~fine].tolist():
            self._fault("vectors contain NaN or infinity", AGAIN, ids[number])
        if card.encoder.normalise:
            for number in there[fine & (np.abs(lengths - 1) > _UNIT)].tolist():
                self._fault("vectors do not have length 1, as their encoder gives them", AGAIN, ids[number])
        return dict(zip(there.tolist(), vectors, strict=True))

    # The indexes

    def _look_into(self, snapshot: Snapshot, column: str, card: TableCard | None) -> None:
        """Compare an index with the rows: it must cover and find all of them."""
        for config in snapshot.table.list_indices():
            if column_of(config) != column or (stats := snapshot.table.index_stats(config.name)) is None:
                continue
            if (covered := stats.num_indexed_rows + stats.num_unindexed_rows) < len(self._ids):
                self._find(f"the index on {column!r} covers {covered:,} of {len(self._ids):,} passages", REBUILD)
        if column == CONTENT:
            missed = self._missed_words(snapshot)
        elif column in (ID, DOCUMENT_ID):
            missed = self._missed_ids(snapshot, column)
        elif card is not None and column == card.column:
            missed = self._missed_vectors(snapshot, card)
        else:
            missed = self._missed_values(snapshot, column)
        if missed:
            self._find(f"the index on {column!r} does not find all passages", REBUILD, ids=missed)

    def _missed_words(self, snapshot: Snapshot) -> list[str]:
        """Return sampled passages that BM25 does not find by the rarest of their words."""
        language = snapshot.card.language
        found = [
            (passage, {word.terms[0]: word.text for word in distinct_words(passage.content or "", language)})
            for passage in self._sample
        ]
        frequency = Counter(term for _, terms in found for term in terms)
        chosen = [(passage, terms, min(terms, key=lambda term: frequency[term])) for passage, terms in found if terms]
        missed = []
        for start in range(0, len(chosen), _WORDS_AT_ONCE):
            some = chosen[start : start + _WORDS_AT_ONCE]
            asked = MatchQuery(" ".join(dict.fromkeys(terms[term] for _, terms, term in some)), CONTENT)
            search = snapshot.table.search(asked, query_type="fts").with_row_id(True).select(["_score"])
            listed = set(search.limit(max(1, len(self._ids))).to_arrow()["_rowid"].to_pylist())
            missed += [passage.id for passage, _, _ in some if passage.row not in listed]
        return missed

    def _missed_ids(self, snapshot: Snapshot, column: str) -> list[str]:
        names = sorted(set(self._ids if column == ID else self._documents) - {None})
        missed: list[str] = []
        for start in range(0, len(names), _AT_ONCE):
            some = names[start : start + _AT_ONCE]
            search = snapshot.table.search().where(among(column, some)).select([column])
            missed += sorted(set(some) - set(search.limit(None).to_arrow()[column].to_pylist()))
        return missed

    def _missed_values(self, snapshot: Snapshot, column: str) -> list[str]:
        counts = self._values.get(column, Counter())
        values = [value for value, _ in counts.most_common(_VALUES) if value is not None]
        return [
            f"{column} = {value!r}"
            for value in values
            if snapshot.table.count_rows(among(column, [value]).to_sql()) != counts[value]
        ]

    def _missed_vectors(self, snapshot: Snapshot, card: TableCard) -> list[str]:
        """Return sampled passages that are not found by their own vectors."""
        missed = []
        for passage in self._with_vector(VECTOR_SAMPLE):
            search = snapshot.table.search(passage.vector, vector_column_name=card.column)
            search = search.distance_type("cosine" if card.encoder.normalise else "dot").refine_factor(10)
            near = search.maximum_nprobes(0).with_row_id(True).select([ID, "_distance"]).limit(20).to_arrow()
            if card.encoder.normalise and passage.row not in near["_rowid"].to_pylist():
                worst = max(near["_distance"].to_pylist(), default=np.inf)
                missed += [passage.id] if worst > _UNIT else []
        return missed

    def _encoded(self, card: TableCard) -> tuple[int, str | None]:
        """Encode some passages again; return how many, and why none."""
        chosen = self._with_vector(self.encode)[: self.encode]
        if not chosen:
            return 0, None
        try:
            encoder = self.encoder()
            made = encoded_passages(encoder, [(passage.title, passage.text) for passage in chosen]).vectors
        except (EncoderError, MissingExtraError) as error:
            return 0, str(error)
        wrong = [
            passage.id
            for passage, vector in zip(chosen, made, strict=True)
            if vector is not None
            and passage.vector is not None
            and np.linalg.norm(passage.vector - vector) > _ENCODED_AGAIN * float(np.linalg.norm(vector))
        ]
        if wrong:
            self._find(
                f"vectors differ from those that {card.encoder.name!r} makes of their passages", AGAIN, ids=wrong
            )
        return len(chosen), None

    def _with_vector(self, count: int) -> list[_Sampled]:
        """Return about this many of the sampled passages that have a vector, spread over the table."""
        found = [passage for passage in self._sample if passage.vector is not None]
        return found[:: max(1, len(found) // max(1, count))]
