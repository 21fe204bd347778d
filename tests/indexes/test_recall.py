"""The recall of the vector index, measured and kept up."""

import dataclasses

import numpy as np
import pytest

from dpr_lance.table.tuning import keep_training
from tests.indexes.clusters import kinds, numbered, training_in
from tests.tables import store_in


def test_recall_outlives_what_lancedb_does_to_partitions(either):
    retriever, encoder = either
    retriever.add(numbered(0, 2_400))
    trained = retriever.optimize().recall
    retriever.optimize()
    retriever.add(numbered(2_400, 2_600))
    retriever.optimize()
    vectors = encoder.encode_passages([("", f"text number {number}") for number in range(2_600)])
    found = 0
    for number in range(0, 2_600, 52):
        exact = np.argsort(-(vectors @ vectors[number]))[:20]
        hits = retriever.search(f"about {number}", 20, mode="dense")
        found += len({hit.document_id for hit in hits} & {f"d{at:05}" for at in exact})
    assert found / (50 * 20) >= trained - 0.02
    assert trained >= 0.9


def test_recall_is_measured_again_when_the_table_has_grown_and_training_follows_its_effort(clustered, place):
    clustered.add(numbered(0, 700))
    clustered.optimize()
    store = store_in(place)
    clustered.add(numbered(700, 800))
    clustered.optimize()
    assert training_in(place).measured_rows == 700
    clustered.add(numbered(800, 900))
    clustered.optimize()
    training = training_in(place)
    assert (training.measured_rows, training.changed_rows) == (900, 0)
    assert training.probes > 0

    for drifted in (
        dataclasses.replace(training, probes=3 * training.trained_probes),
        dataclasses.replace(training, trained_recall=0.99, recall=0.95),
    ):
        keep_training(store, drifted)
        report = clustered.optimize()
        assert "vector" in report.built
        assert report.recall >= 0.95
        assert "vector" not in clustered.optimize().built


def test_indexed_scores_are_exact_and_filters_find_enough(either):
    retriever, encoder = either
    retriever.add(numbered(0, 700))
    retriever.optimize()
    retriever.add(numbered(700, 720))  # the unindexed tail is searched too
    assert kinds(retriever)["vector"] == "IvfRq"
    question = encoder.encode_questions(["about 7"])[0]
    hits = retriever.search("about 7", 50, mode="dense")
    assert len(hits) == 50
    for hit in hits:
        expected = float(encoder.encode_passages([("", hit.text)])[0] @ question)
        assert hit.score == pytest.approx(expected, abs=1e-4)
    # Passages far from the question, in partitions that are not probed at first.
    wanted = [f"d{number:05}" for number in range(0, 720, 9)]
    where = "document_id IN (" + ", ".join(f"'{name}'" for name in wanted) + ")"
    found = retriever.search("about 7", 200, mode="dense", where=where)
    assert sorted(hit.document_id for hit in found) == wanted
