"""Folding, rebuilding and compacting real tables."""

import lancedb
import pytest

import dpr_lance
from dpr_lance import HashEncoder
from dpr_lance.indexes.maintenance import fold_is_due, unindexed_tail
from dpr_lance.table.index_policy import IndexPolicy
from dpr_lance.table.store import Store
from tests.indexes.clusters import SMALL, kinds, numbered, with_policy
from tests.tables import brute_force_bm25, random_documents, store_in


def test_folding_is_due_by_rows_and_by_share(clustered, place):
    tails, store = [], store_in(place)
    for start, stop in ((0, 49), (49, 50), (50, 90), (90, 700), (700, 769), (769, 770)):
        clustered.add(numbered(start, stop))
        tails.append(store.retry_on_conflict(unindexed_tail))
    # By itself from 50 rows on, and from a tenth of what is indexed.
    assert tails == [(49, 0), (0, 50), (40, 50), (0, 700), (69, 700), (0, 770)]
    assert not store.retry_on_conflict(lambda table: fold_is_due(table, IndexPolicy(), bulk=False))


def test_a_table_that_is_filled_step_by_step_has_exact_scores(place):
    """Also of passages that the other leg has found, and where a filter leaves few."""
    documents = [document | {"part": number % 3} for number, document in enumerate(random_documents(7, 450))]
    bm25 = brute_force_bm25("river bridge", [f"{document['title']}\n{document['text']}" for document in documents])
    with dpr_lance.connect(place, encoder=HashEncoder(dimension=32)) as retriever:
        for start in range(0, 450, 150):
            retriever.add(documents[start : start + 150], splitter=None)
        for where in (None, "part = 1"):
            for hit in retriever.search("river bridge", 100, where=where):
                assert hit.bm25_score == pytest.approx(bm25[int(hit.document_id[1:])], abs=1e-4)


@with_policy(rebuild_rows=100, fold_rows_least=1_000, fold_rows=1_000, vector_index_rows=10**6)
def test_many_new_rows_are_indexed_by_rebuilding_and_few_by_folding(clustered):
    clustered.add(numbered(0, 90))
    assert "content" not in clustered.optimize().built
    clustered.add(numbered(90, 200))
    report = clustered.optimize()
    assert "content" in report.built
    assert [(index.indexed_rows, index.unindexed_rows) for index in report.indexes if index.column == "content"] == [
        (200, 0)
    ]
    assert [clustered.search(f"number {at}", 1, mode="bm25")[0].document_id for at in (3, 95, 199)] == [
        "d00003",
        "d00095",
        "d00199",
    ]


def test_maintenance_reads_the_same_table_apart_and_in_memory_the_table_itself(clustered, place):
    clustered.add(numbered(0, 5))
    store = store_in(place, policy=SMALL)
    with store.apart() as apart:
        assert apart is not store
        assert (apart.card, apart.policy) == (store.card, SMALL)
        apart.delete("document_id = 'd00003'")
    assert len(clustered) == 4
    in_memory = Store("memory://", "passages")
    with in_memory.apart() as apart:
        assert apart is in_memory


def test_a_missing_text_index_is_built(clustered, place):
    clustered.add(numbered(0, 5))
    lancedb.connect(place).open_table("passages").drop_index("content_idx")
    assert clustered.optimize().built == ("content",)
    assert len(clustered.search("number 3", mode="bm25")) == 5


def test_adding_builds_a_text_index_that_a_killed_process_left_out(clustered, place):
    clustered.add(numbered(0, 5))
    lancedb.connect(place).open_table("passages").drop_index("content_idx")
    clustered.add([{"id": "new", "text": "numbers 7"}])
    assert "content" in kinds(clustered)
    assert len(clustered.search("number", mode="bm25")) == 6  # stemmed: "numbers" too


@with_policy(vector_index_rows=200, recall_questions=5, probed_shares=(1.0,))
@pytest.mark.parametrize("gone", ["deleted", "replaced"])
def test_an_index_of_which_all_vectors_are_gone_is_dropped(clustered, gone):
    """LanceDB cannot bring it up to date: it fails, or asks for another try for ever."""
    clustered.add(numbered(0, 200))
    clustered.optimize()
    assert "vector" in kinds(clustered)
    if gone == "deleted":
        clustered.delete([f"d{number:05}" for number in range(200)])
    clustered.add([{**document, "title": "new"} for document in numbered(0, 200)], embed=False)
    clustered.optimize()
    assert "vector" not in kinds(clustered)
    clustered.embed()
    assert len(clustered.search("text number 7", 5, mode="dense")) == 5
