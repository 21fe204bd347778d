"""Rows that are gone while an index still lists them: every search finds all that is there, with exact scores."""

import itertools

import lancedb
import numpy as np
import pytest
from lancedb.expr import col

import dpr_lance
from dpr_lance import HashEncoder
from dpr_lance.search.fusion import fused_scores
from dpr_lance.table.consistency import COVERAGE
from dpr_lance.table.index_policy import IndexPolicy
from dpr_lance.table.snapshot import GoneRowsError
from tests.tables import brute_force_bm25, opened, random_documents, store_in

INDEXED = IndexPolicy(vector_index_rows=600, rows_per_partition=128, probed_shares=(1.0,), scalar_index_rows=300)
QUESTIONS = ["river bridge", "comet", "lantern harbour violin"]


def documents_of(count, seed=5):
    return [fields | {"part": number % 3} for number, fields in enumerate(random_documents(seed, count))]


def contents(documents):
    return [f"{document['title']}\n{document['text']}" for document in documents]


def names_in(documents):
    return [document["id"] for document in documents]


def compacted_elsewhere(folder, where):
    """Delete and compact as plain LanceDB does, which leaves the indexes as they are."""
    table = lancedb.connect(folder).open_table("passages")
    table.delete(where)
    table.optimize()


def check(retriever, documents, *, exact=True):
    """Compare hits of every mode with brute force over all that is stored."""
    encoder = HashEncoder(32)
    at = {document["id"]: number for number, document in enumerate(documents)}
    vectors = encoder.encode_passages([(document["title"], document["text"]) for document in documents])
    parts = np.array([document["part"] for document in documents])
    inside = {None: parts >= 0, "part = 1": parts == 1, "expression": parts < 2}
    given = {"expression": (col("part") < 2) & (col("part") < 2.5)}
    true = []
    for question in QUESTIONS:
        bm25 = brute_force_bm25(question, contents(documents))
        dense = (vectors @ encoder.encode_questions([question])[0]).astype(np.float64)
        true.append({"bm25": bm25, "dense": dense})
    for where, k, mode in itertools.product(inside, (3, 300), ("bm25", "dense", "hybrid")):
        for scores, hits in zip(
            true, retriever.search(QUESTIONS, k, mode=mode, where=given.get(where, where)), strict=True
        ):
            wanted = scores.get(mode)
            if wanted is None:
                wanted = fused_scores(scores["dense"], scores["bm25"], hits.hybrid_weight)
            matching = inside[where] & ((scores["bm25"] > 0) | (mode != "bm25"))
            assert len(hits) == min(k, matching.sum()), (mode, where, k)
            found = [at[hit.document_id] for hit in hits]
            assert matching[found].all()
            assert len(set(found)) == len(found)
            if exact:
                assert [hit.score for hit in hits] == pytest.approx(wanted[found], abs=2e-4)
                assert [hit.score for hit in hits] == pytest.approx(np.sort(wanted[matching])[::-1][:k], abs=2e-4)


@pytest.mark.parametrize(("count", "share", "resident_bytes"), [(50, 0.2, 1 << 24), (700, 0.12, 0)])
def test_after_many_deletions_and_optimize_every_score_is_exact(tmp_path, count, share, resident_bytes):
    documents = documents_of(count)
    gone = int(count * share)
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(32), resident_bytes=resident_bytes) as retriever:
        retriever.add(documents, splitter=None)
        retriever.optimize()
        retriever.delete(names_in(documents[:gone]))
        check(retriever, documents[gone:], exact=False)
        retriever.optimize()
        check(retriever, documents[gone:])
        retriever.add(documents[: gone // 2], splitter=None)
        check(retriever, documents[: gone // 2] + documents[gone:], exact=False)
        retriever.optimize()
        check(retriever, documents[: gone // 2] + documents[gone:])


@pytest.mark.parametrize(("count", "share", "resident_bytes"), [(50, 0.2, 0), (400, 0.3, 0), (400, 0.3, 1 << 24)])
def test_rows_that_another_program_has_compacted_away_are_passed_over(tmp_path, count, share, resident_bytes):
    documents = documents_of(count)
    gone = int(count * share)
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(32), resident_bytes=resident_bytes) as retriever:
        retriever.add(documents, splitter=None)
        retriever.optimize(filter_columns=["part"])
        names = ", ".join(f"'{name}'" for name in names_in(documents[:gone]))
        compacted_elsewhere(tmp_path / "t", f"document_id IN ({names})")
        few = IndexPolicy(least_candidates=20, candidates_per_hit=1)
        with opened(tmp_path / "t", HashEncoder(32), policy=few, resident_bytes=resident_bytes) as shallow:
            hits = shallow.search("river", 20)
        check(retriever, documents[gone:], exact=False)
        alone = {hit.id: hit.score for hit in retriever.search("river", 400, mode="bm25")}
        for hit in hits:
            assert hit.bm25_score == pytest.approx(alone.get(hit.id, 0.0), abs=1e-5)
        explained = retriever.search("river", 2, mode="bm25", explain=True).explanation
        assert explained.bm25_candidates <= (brute_force_bm25("river", contents(documents[gone:])) > 0).sum()
        retriever.calibrate(QUESTIONS)
        assert retriever.context(f"{documents[-1]['id']}#0")
        retriever.optimize()
        check(retriever, documents[gone:])


def test_an_index_of_each_kind_passes_over_rows_that_are_gone(tmp_path):
    """A vector index lists them too, and an index on a filter's column."""
    documents, encoder = documents_of(1_200), HashEncoder(32)
    vectors = encoder.encode_passages([(document["title"], document["text"]) for document in documents])
    order = np.argsort(-(vectors @ encoder.encode_questions(QUESTIONS[:1])[0]))
    gone, left = [documents[at] for at in order[:240]], [documents[at] for at in order[240:]]
    vectors = vectors[order[240:]]
    with opened(tmp_path / "t", encoder, policy=INDEXED, resident_bytes=0) as retriever:
        retriever.add(documents, splitter=None)
        retriever.optimize(filter_columns=["part"])
        assert {index.kind for index in retriever.info().indexes} == {"FTS", "BTree", "IvfRq"}
        names = ", ".join(f"'{name}'" for name in names_in(gone))
        compacted_elsewhere(tmp_path / "t", f"document_id IN ({names})")

        def recall():
            found = 0
            for question in QUESTIONS:
                exact = np.argsort(-(vectors @ encoder.encode_questions([question])[0]))[:20]
                hits = retriever.search(question, 20, mode="dense")
                assert len(hits) == 20
                found += len({hit.document_id for hit in hits} & {left[at]["id"] for at in exact})
            return found / (20 * len(QUESTIONS))

        # How much an index of so few bits finds depends on its training, which is random.
        assert recall() >= 0.6
        assert len(retriever.search("river", 500, mode="bm25", where="part = 1")) == sum(
            "river" in content and document["part"] == 1 for document, content in zip(left, contents(left), strict=True)
        )
        retriever.optimize()
        assert recall() >= 0.6
        # Nothing is hidden any more: the next search does not have to look for rows that are gone.
        snapshot = store_in(tmp_path / "t").with_snapshot(lambda snapshot: snapshot)
        assert not snapshot.ask(snapshot.may_list_gone_rows()).result()


def test_a_table_that_was_emptied_finds_what_is_added_afterwards(retriever):
    retriever.add(documents_of(60), splitter=None)
    retriever.delete(where="part >= 0")
    retriever.optimize()
    for mode in ("bm25", "dense", "hybrid"):
        assert len(retriever.search("river", mode=mode)) == 0
    retriever.add([{"id": "new", "text": "a river again", "part": 1}])
    for mode in ("bm25", "dense", "hybrid"):
        assert [hit.document_id for hit in retriever.search("river", 5, mode=mode)] == ["new"]


def test_nothing_is_written_again_where_no_row_is_gone(retriever, folder):
    store = store_in(folder)
    retriever.add(documents_of(60), splitter=None)
    retriever.optimize()
    version, covered = store.table.version, store.remembered.values()[COVERAGE]
    retriever.optimize()
    assert store.table.version == version
    assert store.remembered.values()[COVERAGE] == covered
    retriever.delete("d001")
    retriever.optimize()
    assert store.remembered.values()[COVERAGE]["rows"] == 59
    assert store.remembered.values()[COVERAGE]["index"] != covered["index"]


def test_rows_that_stay_gone_are_told_as_damage(retriever, folder, monkeypatch):
    """Where hiding them does not help, the search ends, with an error that says what to do."""
    retriever.add(documents_of(60), splitter=None)
    monkeypatch.setattr("dpr_lance.table.snapshot.Snapshot.hide_gone_rows", lambda self: None)
    names = ", ".join(f"'d{number:03}'" for number in range(20))
    retriever.optimize()
    compacted_elsewhere(folder, f"document_id IN ({names})")
    with pytest.raises(GoneRowsError, match=r"lists passages that are gone: call optimize\(\)"):
        retriever.search("river mountain glacier", 40, mode="bm25")
