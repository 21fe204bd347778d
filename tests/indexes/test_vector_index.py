"""When the vector index is trained, and of which kind it is."""

import dataclasses

import lancedb
import numpy as np
import pytest

import dpr_lance
from dpr_lance import InvalidInputError
from dpr_lance.indexes.vector_index import kind_of
from tests.indexes.clusters import SMALL, VectorsByNumber, kinds, numbered, training_in, with_policy
from tests.tables import opened, store_in


def test_no_vector_index_while_the_table_is_small(clustered):
    clustered.add(numbered(0, 299))
    report = clustered.optimize()
    assert report.recall is None
    assert kinds(clustered) == {"content": "FTS"}


@with_policy(retrain_effort=99, retrain_fall=1.0)
def test_training_recall_and_retraining(clustered, place):
    clustered.add(numbered(0, 700))
    report = clustered.optimize()
    assert kinds(clustered) == {"content": "FTS", "id": "BTree", "document_id": "BTree", "vector": "IvfRq"}
    assert report.recall >= 0.95
    assert clustered.info().recall == report.recall
    training = training_in(place)
    assert (training.rows, training.partitions) == (700, 10)

    clustered.add(numbered(700, 900))
    assert "vector" not in clustered.optimize().built
    clustered.add(numbered(900, 1350))
    assert "vector" not in clustered.optimize().built
    clustered.add(numbered(1350, 1400))
    assert "vector" in clustered.optimize().built
    assert training_in(place).rows == 1400


class Elsewhere(VectorsByNumber):
    """Numbers from 10,000 on have vectors without any clusters."""

    def _vector(self, number):
        if number < 10_000:
            centre, own = (np.random.default_rng(seed).standard_normal(64) for seed in (number % 20, 1_000 + number))
            vector = centre + 0.3 * own
        else:
            vector = np.random.default_rng(number).standard_normal(64)
        return (vector / np.linalg.norm(vector)).astype(np.float32)


@pytest.mark.parametrize("kind", ["ivf_rq", "ivf_sq"])
def test_an_index_is_trained_again_when_other_passages_take_the_place_of_the_old(place, kind):
    """The table does not grow: that its vectors lie elsewhere now is found by measuring recall.

    With clusters few of the 15 partitions hold all that is near, mostly 2 or 3; without them it takes 10 or more.
    """
    encoder, policy = Elsewhere(dimension=64), dataclasses.replace(SMALL, retrain_effort=1.05)
    with opened(place, encoder, policy=policy, resident_bytes=0) as retriever:
        retriever.add(numbered(0, 1_000))
        retriever.optimize(index=kind)
        first = training_in(place)
        moved = [{"id": f"d{number:05}", "text": f"text number {10_000 + number}"} for number in range(1_000)]
        for start in range(0, 1_000, 250):
            retriever.add(moved[start : start + 250])
            retriever.optimize()
            assert training_in(place).changed_rows == 0  # measured again
        training = training_in(place)
        assert training.rows == first.rows == len(retriever) == 1_000
        assert training.trained_probes > first.trained_probes  # trained on other vectors
        assert training.recall >= 0.9
        vectors = encoder.encode_passages([("", document["text"]) for document in moved])
        nearest = {f"d{number:05}" for number in np.argsort(vectors @ vectors[7])[-20:]}
        found = {hit.document_id for hit in retriever.search("text number 10007", 20, mode="dense")}
        assert len(found & nearest) >= 16


@with_policy(most_parts=3, parts_growth=1.15, recall_change=99)
def test_an_index_in_many_parts_is_trained_again_once_the_table_has_grown_enough(clustered, place):
    clustered.add(numbered(0, 700))
    clustered.optimize()
    built, parts = [], []
    for start in range(700, 840, 20):
        clustered.add(numbered(start, start + 20))
        built.append("vector" in clustered.optimize().built)
        parts.append(lancedb.connect(place).open_table("passages").index_stats("vector_idx").num_indices)
    assert built.count(True) == 1
    at = built.index(True)
    assert parts[at - 1] > 3
    assert parts[at] == 1
    assert 700 + 20 * (at + 1) >= 1.15 * 700
    assert [hit.document_id for hit in clustered.search("about 833", 1, mode="dense")] == ["d00833"]


def test_a_kind_of_index_is_asked_for_by_name_and_kept(clustered, place):
    clustered.add(numbered(0, 700))
    clustered.optimize()
    assert kinds(clustered)["vector"] == "IvfRq"
    assert "vector" in clustered.optimize(index="ivf_pq").built
    assert kinds(clustered)["vector"] == "IvfPq"
    assert clustered.search("about 7", 1, mode="dense", explain=True).explanation.effort.refine_factor == 4
    assert "vector" not in clustered.optimize().built
    clustered.add(numbered(700, 1_400))
    assert clustered.optimize().recall >= 0.95
    assert training_in(place).rows == 1_400
    assert kinds(clustered)["vector"] == "IvfPq"
    assert "vector" in clustered.optimize(index="ivf_sq").built
    assert kinds(clustered)["vector"] == "IvfSq"


def test_a_kind_that_is_unknown_or_unsuitable_is_refused_and_nothing_is_kept(place):
    with dpr_lance.connect(place, encoder=VectorsByNumber(unit=False)) as retriever:
        retriever.add(numbered(0, 5))
        with pytest.raises(InvalidInputError, match="index='hnsw' is not one of ivf_rq, ivf_sq, ivf_pq"):
            retriever.optimize(index="hnsw")
        with pytest.raises(InvalidInputError, match=r"index='ivf_pq' is for unit vectors, .* use 'ivf_sq'"):
            retriever.optimize(index="ivf_pq")
        store = store_in(place)
        assert kind_of(store, store.card) == "ivf_rq"


def test_vectors_of_an_odd_dimension_get_a_scalar_quantised_index(place):
    with opened(place, VectorsByNumber(dimension=13), policy=SMALL, resident_bytes=0) as retriever:
        retriever.add(numbered(0, 700))
        with pytest.raises(InvalidInputError, match=r"index='ivf_rq' is for dimensions divisible by 8, .* have 13"):
            retriever.optimize(index="ivf_rq")
        assert retriever.optimize().recall >= 0.95
        assert kinds(retriever)["vector"] == "IvfSq"
