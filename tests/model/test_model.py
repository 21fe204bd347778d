"""Any sequence of calls against a plain dictionary: what is stored, what is found, and that nothing is encoded twice.

`DPR_LANCE_MODEL_STEPS` sets how many calls are made (default: what CI has time for); the long form is thousands.
"""

import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from dpr_lance import EncoderError, HashEncoder, WordSplitter
from dpr_lance.table.index_policy import IndexPolicy
from tests.tables import opened

STEPS = int(os.environ.get("DPR_LANCE_MODEL_STEPS", "300"))
STEPS_PER_TABLE = 50

WORDS = ("river", "glacier", "canyon", "delta", "fjord", "tundra")
"""Words that are their own stems and no stop words."""
WORDS_PER_PASSAGE = 4
DIMENSIONS = (16, 24)

names = st.integers(0, 11).map(lambda number: f"d{number}")
titles = st.sampled_from(("", "", "atlas", "globe"))
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=14).map(" ".join)
years = st.integers(1, 3)
document = st.fixed_dictionaries({"id": names, "title": titles, "text": texts, "year": years})
documents = st.lists(document, min_size=1, max_size=6)
questions = st.lists(st.sampled_from((*WORDS, "atlas", "globe", "absent")), min_size=1, max_size=2, unique=True)
sizes = st.sampled_from((1, 3, 10, 100))


class CountingEncoder(HashEncoder):
    """Counts the passages it is given."""

    encoded = 0

    def encode_passages(self, passages):
        self.encoded += len(passages)
        return super().encode_passages(passages)


@dataclass(frozen=True)
class Entry:
    """A passage as the model knows it; `source` is the whole document, `count` how many passages it had."""

    source: tuple[str, str, int]
    count: int
    document_id: str
    position: int
    title: str
    text: str
    year: int
    embedded: bool

    @property
    def id(self):
        return f"{self.document_id}#{self.position}"

    @property
    def content(self):
        return self.title, self.text

    @property
    def words(self):
        return {*self.title.split(), *self.text.split()}


def entries_of(fields):
    words = fields["text"].split()
    blocks = [words[start : start + WORDS_PER_PASSAGE] for start in range(0, len(words), WORDS_PER_PASSAGE)]
    source = fields["title"], fields["text"], fields["year"]
    return [
        Entry(source, len(blocks), fields["id"], at, fields["title"], " ".join(block), fields["year"], embedded=False)
        for at, block in enumerate(blocks)
    ]


class Table(RuleBasedStateMachine):
    """A table, and a dictionary of what must be in it."""

    steps = 0

    def __init__(self):
        super().__init__()
        self.place = tempfile.TemporaryDirectory(prefix="dpr-lance-model-")
        self.dimension = DIMENSIONS[0]
        self.entries = {}
        self.exists = False
        self.retriever = None
        self.open()

    def open(self):
        self.encoder = CountingEncoder(self.dimension)
        # The small tables here fold their indexes within `add`, as large ones do.
        policy = IndexPolicy(fold_rows=12, scalar_index_rows=10)
        self.retriever = opened(Path(self.place.name) / "table", self.encoder, policy=policy)

    def teardown(self):
        self.retriever.close()
        self.place.cleanup()

    def embedded(self):
        return [entry for entry in self.entries.values() if entry.embedded]

    def of(self, name):
        return [entry for entry in self.entries.values() if entry.document_id == name]

    # Calls that change the table

    @rule(given=documents, embed=st.sampled_from((True, True, False)))
    def add(self, given, embed):
        self.added(given, embed=embed)

    def added(self, given, *, embed):
        last = {fields["id"]: entries_of(fields) for fields in given}
        old = {name: self.of(name) for name in last}
        same = {
            name
            for name, entries in last.items()
            if [entry.source for entry in old[name]] == [entries[0].source] * len(entries)
        }
        written = {name for name in last if name not in same or (embed and not all(e.embedded for e in old[name]))}
        known = {entry.content for name in written for entry in old[name] if entry.embedded}
        missing = {entry.content for name in written for entry in last[name]} - known

        self.encoder.encoded = 0
        report = self.retriever.add(given, splitter=WordSplitter(WORDS_PER_PASSAGE), embed=embed)

        assert report.documents_read == len(given)
        assert report.documents_unchanged == len(same)
        assert report.documents_added == sum(not entries for entries in old.values())
        assert report.documents_duplicate == len(given) - len(last)
        assert report.passages_embedded == self.encoder.encoded == (len(missing) if embed else 0)
        for name in written:
            for entry in old[name]:
                del self.entries[entry.id]
            for entry in last[name]:
                self.entries[entry.id] = replace(entry, embedded=embed or entry.content in known)
        self.exists = True

    @precondition(lambda self: self.entries)
    @rule(choice=st.randoms(use_true_random=False), year=years, embed=st.booleans())
    def change_metadata_alone(self, choice, year, embed):
        """No passage is encoded again."""
        name = choice.choice(sorted(self.entries))
        entry = self.entries[name]
        title, text, _ = entry.source
        before = {old.content for old in self.of(entry.document_id) if old.embedded}
        self.added([{"id": entry.document_id, "title": title, "text": text, "year": year}], embed=embed)
        assert self.encoder.encoded <= len({new.content for new in self.of(entry.document_id)} - before)

    @rule()
    def embed(self):
        self.encoder.encoded = 0
        report = self.retriever.embed()
        missing = [entry for entry in self.entries.values() if not entry.embedded]
        assert report.passages_embedded == self.encoder.encoded == len(missing)
        for entry in missing:
            self.entries[entry.id] = replace(entry, embedded=True)

    @rule(wanted=st.lists(names, min_size=1, max_size=3))
    def delete_documents(self, wanted):
        gone = [entry.id for entry in self.entries.values() if entry.document_id in wanted]
        assert self.retriever.delete(wanted) == len(gone)
        for name in gone:
            del self.entries[name]

    @rule(name=names, position=st.integers(0, 3))
    def delete_a_passage(self, name, position):
        there = self.entries.pop(f"{name}#{position}", None)
        assert self.retriever.delete(f"{name}#{position}") == (there is not None)

    @precondition(lambda self: self.exists)
    @rule(year=years)
    def delete_where(self, year):
        gone = [entry.id for entry in self.entries.values() if entry.year == year]
        assert self.retriever.delete(where=f"year = {year}") == len(gone)
        for name in gone:
            del self.entries[name]

    @precondition(lambda self: self.exists)
    @rule()
    def optimize(self):
        report = self.retriever.optimize()
        assert {index.column: index.unindexed_rows for index in report.indexes}["content"] == 0

    @precondition(lambda self: self.exists)
    @rule()
    def reembed(self):
        self.dimension = sum(DIMENSIONS) - self.dimension
        self.encoder = CountingEncoder(self.dimension)
        report = self.retriever.reembed(self.encoder)
        assert report.passages_embedded == self.encoder.encoded == len(self.entries)
        self.entries = {name: replace(entry, embedded=True) for name, entry in self.entries.items()}

    @rule()
    def reopen(self):
        self.retriever.close()
        self.open()

    # Calls that read it

    @rule(wanted=st.lists(names, min_size=1, max_size=3, unique=True))
    def get(self, wanted):
        found = [passage.id for passage in self.retriever.get(wanted)]
        assert found == [
            entry.id for name in wanted for entry in sorted(self.of(name), key=lambda entry: entry.position)
        ]

    @rule(question=questions, k=sizes, year=st.none() | years)
    def search_bm25(self, question, k, year):
        hits = self.search(question, k, "bm25", year)
        matching = {entry.id for entry in self.within(year) if entry.words & {*question}}
        assert len(hits) == min(k, len(matching))
        assert {hit.id for hit in hits} <= matching

    @rule(question=questions, k=sizes, year=st.none() | years)
    def search_dense(self, question, k, year):
        if self.entries and not self.embedded():
            with pytest.raises(EncoderError, match="no passage has a vector yet"):
                self.search(question, k, "dense", year)
            return
        hits = self.search(question, k, "dense", year)
        products = self.products(question, [entry for entry in self.within(year) if entry.embedded])
        assert [hit.score for hit in hits] == pytest.approx(sorted(products.values(), reverse=True)[:k], abs=1e-5)
        assert {hit.id: hit.score for hit in hits} == pytest.approx(
            {hit.id: products[hit.id] for hit in hits}, abs=1e-5
        )

    @rule(question=questions, k=sizes, year=st.none() | years)
    def search_hybrid(self, question, k, year):
        hits = self.search(question, k, "hybrid", year)
        expected = {entry.id for entry in self.within(year) if entry.words & {*question}}
        dense = [entry for entry in self.within(year) if entry.embedded]
        if self.entries:
            assert hits.mode == ("hybrid" if self.embedded() else "bm25")
        assert len(hits) == min(k, len(expected | {entry.id for entry in dense}))
        products = self.products(question, dense)
        for hit in hits:
            if hits.mode == "hybrid" and hit.id in products:
                assert hit.dense_score == pytest.approx(products[hit.id], abs=1e-5)
            assert (hit.bm25_score > 0) == (hit.id in expected)

    def search(self, question, k, mode, year):
        where = None if year is None or not self.exists else f"year = {year}"
        hits = self.retriever.search(" ".join(question), k, mode=mode, where=where)
        assert [(-hit.score, hit.id) for hit in hits] == sorted((-hit.score, hit.id) for hit in hits)
        assert len({hit.id for hit in hits}) == len(hits)
        for hit in hits:
            entry = self.entries[hit.id]
            assert (hit.title, hit.text, hit.metadata["year"]) == (entry.title, entry.text, entry.year)
        return hits

    def within(self, year):
        return [entry for entry in self.entries.values() if year in (None, entry.year)]

    def products(self, question, entries):
        """Inner products by passage id."""
        if not entries:
            return {}
        encoder = HashEncoder(self.dimension)
        asked = encoder.encode_questions([" ".join(question)])[0]
        vectors = encoder.encode_passages([entry.content for entry in entries])
        return dict(zip([entry.id for entry in entries], (vectors @ asked).tolist(), strict=True))

    @invariant()
    def the_table_is_the_model(self):
        Table.steps += 1
        stored = {
            passage.id: (passage.document_id, passage.position, passage.title, passage.text, passage.embedded)
            for passage in self.retriever.passages()
        }
        assert stored == {
            entry.id: (entry.document_id, entry.position, entry.title, entry.text, entry.embedded)
            for entry in self.entries.values()
        }
        assert len(self.retriever) == len(stored)


def test_any_sequence_of_calls_equals_the_model(record_testsuite_property):
    Table.steps = 0
    run_state_machine_as_test(
        Table,
        settings=settings(
            max_examples=max(1, STEPS // STEPS_PER_TABLE),
            stateful_step_count=STEPS_PER_TABLE,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert Table.steps >= 0.8 * STEPS
    record_testsuite_property("model steps", Table.steps)
