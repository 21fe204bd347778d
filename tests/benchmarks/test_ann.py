"""The cases `ann` and `search`: made vectors, truth, what counts as recall, tables."""

import numpy as np
import pytest

from benchmarks import ann, search
from benchmarks.peers.ann import measured, recall, searched

MACHINE = {
    "cores": 2,
    "processor": "p",
    "instruction_sets": [],
    "python": "3",
    "versions": {},
    "commit": "c",
    "load_average": [1.0, 1.0, 1.0],
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(ann, "CACHE", tmp_path)
    monkeypatch.setattr(ann, "QUESTIONS", 5)
    monkeypatch.setattr(ann, "CHUNK", 64)
    return ann.made(300)


def test_made_vectors_are_of_uneven_length_and_their_neighbours_are_exact(place):
    vectors, questions, exact = (np.load(place / f"{name}.npy") for name in ("vectors", "questions", "exact"))
    assert vectors.shape == (300, ann.DIMENSION)
    assert np.linalg.norm(vectors, axis=1).std() > 0.1
    np.testing.assert_array_equal(exact, np.argsort(-(questions @ vectors.T), axis=1)[:, :100])
    assert ann.made(300) == place  # made once


def test_our_table_is_filled_and_searched(place):
    built = ann.built(place, 300)
    assert built["bytes"] > 0
    for resident in (-1, 0):
        found = ann.searched(place, resident)
        assert found["recall@20"] >= 0.9
        assert len(found["milliseconds"]) == len(found["without_fetch"]) == 5
        assert found["stages"]["total"] > found["stages"]["fetch"] > 0
    assert found["effort"] == [1, 1]
    assert all(part["milliseconds"] > 0 for part in found["lancedb"].values())


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


def test_the_tables():
    ours = measured(
        lambda asked, k: np.tile(np.arange(k), (len(asked), 1)), np.ones((3, 4)), np.tile(np.arange(100), (3, 1))
    )
    assert ours["recall@20"] == 1.0
    record = {"vectors": 300, "machine": MACHINE, "contenders": {"dpr_lance": ours | {"build_cpu": 1.2, "bytes": 3e6}}}
    assert "| dpr_lance | 1.000 |" in ann.tables([record])
    parts = {part: {"milliseconds": 2.0, "cpu_milliseconds": 1.5} for part in ann.LANCEDB_STAGES}
    more = {"stages": dict.fromkeys(ann.STAGES, 3.0), "without_fetch": [1.0], "lancedb": parts, "effort": [1, 2]}
    peer = ours | {"build_cpu": 2.4, "bytes": 3e6, "milliseconds": [5.0]}
    contenders = {"dpr_lance": record["contenders"]["dpr_lance"] | more | {"milliseconds": [4.0]}, "lancedb": peer}
    told = ann.tables([record | {"contenders": contenders}])
    assert "| dpr_lance, ids and scores alone | 1.000 | 1.00 / 1.00 |" in told
    assert "| `search`: all of it | 3.00 |" in told
    assert "Partitions probed: 1 of 2 at 300." in told
    assert "| p50, ids alone / LanceDB's defaults | 0.2 | 0.20 |" in told
    assert "| p50, whole passages / LanceDB's defaults (ids) |  | 0.80 |" in told
    assert "| p50 / that of the smallest size | 2 | 1.00 |" in told
    times = {name: [2.0] * 3 for name in search.TIMED}
    values = {
        "milliseconds": times | {"hybrid": [4.0] * 3},
        "cpu_milliseconds": times,
        "machine": MACHINE,
        "questions": 3,
        "passages": 300,
    }
    values |= {"held": True, "bytes_resident": 2**20, "probes": [2, 10]}
    values |= {"stages": {"encode": [1.0, 2.0, 3.0], "dense": [4.0], "total": [9.0]}}
    text = search.tables([values])
    assert "**0.50**" in text  # of 4 over 2·2 + 2 + 2
    assert "2 of 10 partitions" in text
    assert "| encode 2.0, dense 4.0 |" in text
