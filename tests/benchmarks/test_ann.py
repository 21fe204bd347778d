"""The case `ann`: synthetic vectors, their true neighbours, what counts as recall."""

import numpy as np
import pytest

from benchmarks import ann
from benchmarks.peers.ann import measured, recall, searched


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return ann.make_vectors(300, tmp_path_factory.mktemp("ann"), questions=5, chunk=64)


def test_vectors_are_of_uneven_length_and_their_neighbours_are_exact(place):
    vectors, questions, exact = (np.load(place / f"{name}.npy") for name in ("vectors", "questions", "exact"))
    assert vectors.shape == (300, ann.DIMENSION)
    assert np.linalg.norm(vectors, axis=1).std() > 0.1
    np.testing.assert_array_equal(exact, np.argsort(-(questions @ vectors.T), axis=1)[:, :100])
    before = (place / "vectors.npy").stat().st_mtime_ns
    assert ann.make_vectors(300, place) == place
    assert (place / "vectors.npy").stat().st_mtime_ns == before  # made once


def test_our_table_is_filled_and_searched(place):
    built = ann.built(place, 300)
    assert built["bytes"] > 0
    for resident in (-1, 0):
        found = ann.searched(place, resident)
        assert found["recall@20"] >= 0.9
        assert len(found["milliseconds"]) == len(found["without_fetch"]) == 5
        assert all(alone < whole for alone, whole in zip(found["without_fetch"], found["milliseconds"], strict=True))
    assert found["effort"] == [1, 1]
    kept = ann.compact(built | found)
    assert kept["bytes"] == built["bytes"]
    assert kept["milliseconds"][0] <= kept["milliseconds"][1]


def test_the_least_effort_that_reaches_the_recall_is_chosen(place):
    vectors = np.load(place / "vectors.npy")

    def find(questions, k, effort):
        """Sees only the first passages: the more effort, the more of them."""
        return np.argsort(-(questions @ vectors[: effort[0]].T), axis=1)[:, :k]

    assert searched(find, [(100,), (300,), (299,)], place, 1.0)["recall@20"] == 1.0
    worst = searched(find, [(100,), (150,)], place, 1.0)
    assert worst["effort"] == (150,)
    assert worst["recall@20"] < 1.0
    assert [each["effort"] for each in worst["tried"]] == [(100,), (150,)]


def test_recall_counts_the_first_20():
    exact = np.arange(100)[None]
    assert recall(exact, np.arange(10, 110)[None]) == 0.5
    assert recall(exact, np.arange(100)[None, ::-1]) == 0.0
    found = measured(
        lambda asked, k: np.tile(np.arange(k), (len(asked), 1)), np.ones((3, 4)), np.tile(np.arange(100), (3, 1))
    )
    assert found["recall@20"] == 1.0
    assert len(found["milliseconds"]) == 3
