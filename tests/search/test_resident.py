"""Vectors in memory: what they find is what LanceDB finds in the table as it is now, whoever has changed it."""

import subprocess
import sys
import threading

import lancedb
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import dpr_lance
from dpr_lance import HashEncoder, InvalidInputError
from dpr_lance.indexes import maintenance as indexes
from dpr_lance.search import resident
from dpr_lance.search.resident import ResidentVectors
from dpr_lance.table.index_policy import IndexPolicy
from tests.tables import random_documents, store_in

DIMENSION = 16
QUESTIONS = ["river bridge", "castle comet", "engine"]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Blocks and reads of a few rows, so that small tables have many."""
    monkeypatch.setattr(resident, "_BLOCK", 8)
    monkeypatch.setattr(resident, "_TAKEN", 5)


def opened(place, resident_bytes=1 << 20):
    return dpr_lance.connect(place, encoder=HashEncoder(DIMENSION), resident_bytes=resident_bytes)


@pytest.fixture
def pair(tmp_path):
    """Two retrievers of one table: with its vectors in memory, and without."""
    with opened(tmp_path / "t") as ours, opened(tmp_path / "t", 0) as plain:
        yield ours, plain


def held(retriever):
    searcher = retriever._searcher  # only its own memory says what this retriever holds of which version
    return searcher.store.with_snapshot(searcher.memory.held)


def vectors_in(found):
    return int((~found.hidden).sum())


def assert_same(ours, plain, **options):
    for mode in ("dense", "hybrid"):
        single = [[retriever.search(QUESTIONS[0], 7, mode=mode, **options)] for retriever in (ours, plain)]
        batch = [retriever.search(QUESTIONS, 7, mode=mode, **options) for retriever in (ours, plain)]
        for found, expected in [*zip(*single, strict=True), *zip(*batch, strict=True)]:
            assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-4)
            # Which of equal passages stand at the end of a leg is open.
            clear = {hit.id for hit in found if hit.score > found[-1].score + 1e-4}
            assert clear <= {hit.id for hit in expected}
    assert held(ours) is not None
    assert held(plain) is None


def test_the_same_hits_after_every_change(pair):
    ours, plain = pair
    ours.add(random_documents(1, 30), splitter=None)
    assert_same(ours, plain)
    before = held(ours)
    assert held(ours) is before
    ours.add(random_documents(2, 41), splitter=None)  # 30 other texts, 11 new documents
    assert held(ours) is None
    assert_same(ours, plain)
    assert len(before.row_ids) == vectors_in(before) == 30
    ours.delete(["d003", "d017", "d040"])
    assert_same(ours, plain)
    ours.add([{"id": "late", "text": "river bridge"}], splitter=None, embed=False)
    assert_same(ours, plain)
    assert "late#0" not in [hit.id for hit in ours.search("river bridge", 60, mode="dense")]
    ours.embed()
    assert_same(ours, plain)
    assert "late#0" in [hit.id for hit in ours.search("river bridge", 60, mode="dense")]
    ours.optimize()
    assert_same(ours, plain)
    assert_same(ours, plain, where="title = 'river' OR id = 'late#0'")
    assert_same(ours, plain, where="title = 'nothing'")


def test_only_what_has_changed_is_read_again(pair):
    ours, _ = pair
    ours.add(random_documents(1, 30), splitter=None)
    ours.search("river", 3, mode="dense")
    blocks = held(ours).blocks
    ours.add([{"id": "new", "text": "a new river"}], splitter=None)
    ours.optimize()
    ours.search("river", 3, mode="dense")
    assert all(now is before for now, before in zip(held(ours).blocks, blocks, strict=True))
    assert vectors_in(held(ours)) == 31


def test_places_of_what_is_gone_are_freed_in_the_end(pair):
    ours, plain = pair
    ours.add(random_documents(1, 40), splitter=None)
    ours.search("river", 3, mode="dense")
    ours.delete([f"d{number:03}" for number in range(20)])
    ours.search("river", 3, mode="dense")
    ours.delete(["d020"])
    assert_same(ours, plain)
    assert len(held(ours).row_ids) == 19


def test_a_restored_version_is_read_again(pair, tmp_path):
    """The rows' versions go back, too."""
    ours, plain = pair
    ours.add(random_documents(1, 20), splitter=None)
    table = lancedb.connect(tmp_path / "t").open_table("passages")
    first = table.version
    ours.add(random_documents(2, 20), splitter=None)
    ours.delete(["d003"])
    assert_same(ours, plain)
    table.checkout(first)
    table.restore()
    assert_same(ours, plain)
    assert len(held(ours).row_ids) > 20
    assert vectors_in(held(ours)) == 20


def test_another_encoder(pair):
    ours, _ = pair
    ours.add(random_documents(1, 30), splitter=None)
    ours.search("river", 3, mode="dense")
    ours.reembed(HashEncoder(2 * DIMENSION))
    hits = ours.search("river bridge", 5, mode="dense")
    vectors = HashEncoder(2 * DIMENSION)
    best = max(
        float(
            vectors.encode_passages([(each["title"], each["text"])])[0] @ vectors.encode_questions(["river bridge"])[0]
        )
        for each in random_documents(1, 30)
    )
    assert hits[0].score == pytest.approx(best, abs=1e-5)
    assert held(ours).blocks[0].shape[1] == 2 * DIMENSION


class Changes(RuleBasedStateMachine):
    """Additions, replacements, deletions and folds in any order, between searches."""

    def __init__(self):
        super().__init__()
        self.ours = dpr_lance.connect("memory://", encoder=HashEncoder(DIMENSION))
        self.stored = {}

    @rule(
        seed=st.integers(0, 9),
        first=st.integers(0, 20),
        count=st.integers(1, 15),
        embed=st.sampled_from([True, True, False]),
    )
    def add(self, seed, first, count, embed):
        chosen = random_documents(seed, first + count)[first:]
        report = self.ours.add(chosen, splitter=None, embed=embed)
        for document in chosen:
            content = (document["title"], document["text"])
            known, had = self.stored.get(document["id"], (None, False))
            self.stored[document["id"]] = (content, embed or (had and known == content))
        assert report.documents_read == count

    @rule(number=st.integers(0, 34))
    def delete(self, number):
        self.ours.delete(f"d{number:03}")
        self.stored.pop(f"d{number:03}", None)

    @rule()
    def embed(self):
        self.ours.embed()
        self.stored = {name: (content, True) for name, (content, _) in self.stored.items()}

    @rule()
    def fold(self):
        if self.stored:
            self.ours.optimize()

    @invariant()
    def finds_the_nearest(self):
        embedded = {name: content for name, (content, has) in self.stored.items() if has}
        if not embedded:
            return
        encoder = HashEncoder(DIMENSION)
        vectors = encoder.encode_passages(list(embedded.values())).astype(np.float64)
        hits = self.ours.search(QUESTIONS, 100, mode="dense")
        assert vectors_in(held(self.ours)) == len(embedded)
        for question, found in zip(encoder.encode_questions(QUESTIONS), hits, strict=True):
            exact = dict(zip(embedded, vectors @ question, strict=True))
            assert {hit.document_id for hit in found} == set(exact)
            for hit in found:
                assert hit.score == pytest.approx(exact[hit.document_id], abs=1e-5)
            assert [(-hit.score, hit.id) for hit in found] == sorted((-hit.score, hit.id) for hit in found)

    def teardown(self):
        self.ours.close()


Changes.TestCase.settings = settings(max_examples=15, stateful_step_count=8, deadline=None)
TestChanges = Changes.TestCase


def test_equal_vectors_have_equal_scores_wherever_they_stand(tmp_path):
    with opened(tmp_path / "t") as ours:
        ours.add([{"id": f"d{number:02}", "text": "the same river"} for number in range(45)], splitter=None)
        single = ours.search("river", 30, mode="dense")
        assert held(ours) is not None
        assert [hit.id for hit in ours.search([*QUESTIONS, "river"], 30, mode="dense")[-1]] == [
            hit.id for hit in ours.search("river", 30, mode="dense")
        ]
        assert len({hit.score for hit in single}) == 1


def test_what_another_process_commits_is_found(tmp_path):
    code = (
        "import dpr_lance, sys\n"
        "retriever = dpr_lance.connect(sys.argv[1], encoder=dpr_lance.HashEncoder(16))\n"
        "retriever.add([{'id': 'theirs', 'text': 'river bridge'}], splitter=None)\n"
        "retriever.delete('d001')\n"
    )
    with opened(tmp_path / "t") as ours:
        ours.add(random_documents(1, 20), splitter=None)
        ours.search("river", mode="dense")
        subprocess.run([sys.executable, "-c", code, str(tmp_path / "t")], check=True)
        hits = ours.search("river bridge", 30, mode="dense")
        assert {hit.document_id for hit in hits} == {f"d{number:03}" for number in range(20) if number != 1} | {
            "theirs"
        }
        assert hits[0].document_id == "theirs"
        assert vectors_in(held(ours)) == 20


def test_threads_search_while_one_writes(tmp_path):
    """Every search finds all that was there before it began, and nothing twice."""
    with opened(tmp_path / "t") as ours:
        ours.add(random_documents(1, 20), splitter=None)
        committed, failures, done = [20], [], threading.Event()

        def search():
            while not done.is_set():
                least = committed[0]
                ids = [hit.id for hit in ours.search(QUESTIONS[0], 200, mode="dense")]
                if len(ids) < least or len(set(ids)) < len(ids):
                    failures.append((least, len(ids), len(set(ids))))

        threads = [threading.Thread(target=search) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(20, 32):
            ours.add([{"id": f"d{number:03}", "text": f"river {number}"}], splitter=None)
            committed[0] = number + 1
        done.set()
        for thread in threads:
            thread.join()
        assert not failures


def test_vectors_that_do_not_fit_are_left_in_the_table(tmp_path):
    with opened(tmp_path / "t", 30 * DIMENSION * 4) as ours:
        ours.add(random_documents(1, 30), splitter=None)
        ours.warm()
        assert ours.info().bytes_resident > 0
        ours.add(random_documents(1, 31), splitter=None)
        assert len(ours.search("river", 40, mode="dense")) == 31
        ours.warm()
        assert ours.info().bytes_resident == 0


def test_vectors_are_loaded_when_enough_has_been_asked_to_make_up_for_it(tmp_path, monkeypatch):
    with opened(tmp_path / "t") as ours:
        ours.add(random_documents(1, 32), splitter=None)
        monkeypatch.setattr(resident, "BYTES_PER_QUESTION", 8 * DIMENSION * 4)  # 32 vectors for 4 questions
        for _ in range(3):
            ours.search("river", mode="dense")
            ours.search("river", mode="bm25")
        assert held(ours) is None
        ours.search("river", mode="hybrid")
        assert held(ours) is not None
    with opened(tmp_path / "t") as batch:
        batch.search(["river"] * 4, mode="dense")
        assert held(batch) is not None
    with opened(tmp_path / "t") as warmed:
        warmed.warm()
        assert held(warmed) is not None
        assert warmed.search("river", explain=True).explanation.effort.partitions is None


def test_no_vector_at_all(tmp_path):
    with opened(tmp_path / "t") as ours:
        ours.add(random_documents(1, 5), splitter=None, embed=False)
        ours.warm()
        hits = ours.search("river", 3)
        assert hits.mode == "bm25"
        assert "no passage has a vector yet" in hits.fallback


@pytest.mark.parametrize("resident_bytes", [-1, 0.5, True, "1 GB"])
def test_a_bound_that_is_none(tmp_path, resident_bytes):
    with pytest.raises(InvalidInputError, match=f"resident_bytes={resident_bytes!r}: give a number of bytes"):
        opened(tmp_path, resident_bytes)


@pytest.mark.parametrize("questions", [1, 3])
@pytest.mark.parametrize("n", [1, 5, 8, 9, 100])
def test_the_largest_inner_products(tmp_path, questions, n):
    with opened(tmp_path / "t") as ours:
        ours.add(random_documents(4, 50), splitter=None)
        found = store_in(tmp_path / "t").with_snapshot(ResidentVectors().load)
        asked = HashEncoder(DIMENSION).encode_questions(QUESTIONS[:questions])
        rows = np.concatenate(found.blocks)[:50]
        for question, (row_ids, scores) in zip(asked, found.nearest(asked, n), strict=True):
            expected = np.sort(rows.astype(np.float64) @ question)[::-1][:n]
            np.testing.assert_allclose(scores, expected, atol=1e-6)
            places = found.places(row_ids)
            np.testing.assert_allclose(found.inner_products(places, question), scores)


def test_a_filter_asks_the_index_where_there_is_one(tmp_path):
    small = IndexPolicy(vector_index_rows=300, rows_per_partition=64, recall_questions=20)
    with opened(tmp_path / "t") as ours:
        ours.add(random_documents(5, 600), splitter=None)
        ours.warm()
        where = "title = 'river'"
        for policy, partitions in ((IndexPolicy(), None), (small, 9)):
            indexes.optimize(store_in(tmp_path / "t", policy=policy))
            every = ours.search("river", 5, explain=True).explanation.effort
            some = ours.search("river", 5, where=where, explain=True).explanation.effort
            assert (every.partitions, some.partitions) == (None, partitions)
