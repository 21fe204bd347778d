"""What the benchmarks compute: ranks, intervals, spreads, synthetic vectors, and what is kept of a case."""

import numpy as np
import pytest

from benchmarks import cold_start, end_to_end, fine_tune, quality, scale, search, synthetic_vectors, train_speed
from benchmarks.data import LabelledPassage, LabelledQuestion, QuestionSet
from benchmarks.summaries import accuracies, first_rank, gain, hits_within, interval, p50_p99, ratios, spread
from dpr_lance.records.hits import Effort


def test_ranks_count_from_one_and_a_miss_is_never_a_hit():
    assert first_rank(["x", "a", "b"], {"b", "a"}) == 2
    assert first_rank(["x"], {"a"}) == 0
    assert hits_within([1, 5, 6, 0], 5).tolist() == [100, 100, 0, 0]
    assert [each[0] for each in accuracies([1, 5, 6, 0], (1, 5, 20))] == [25, 50, 75]


def test_the_interval_holds_the_mean_and_narrows_with_more_questions():
    few, many = interval(np.array([0.0, 100.0] * 10)), interval(np.array([0.0, 100.0] * 1000))
    assert few[0] == many[0] == 50
    assert few[1] < many[1] < 50 < many[2] < few[2]
    # The normal approximation: 1.96 · 50 / sqrt(2000) = 2.19 points each way.
    assert many[2] - many[1] == pytest.approx(2 * 2.19, abs=0.3)


def test_a_gain_is_paired():
    assert gain([1, 1, 0, 0], [1, 0, 0, 1], 1)[0] == 0
    assert gain([1] * 50 + [0] * 50, [1] * 50 + [0] * 50, 1) == [0, 0, 0]  # where nothing differs, nothing is in doubt


def test_spreads_and_ratios():
    assert spread([3.0, 1.0, 2.0]) == [1, 2, 3]
    assert ratios([2.0, 9.0, 4.0], [1.0, 3.0, 4.0]) == [1, 2, 3]
    assert p50_p99([1.0, 2.0, 3.0]) == [2, pytest.approx(2.98)]


class TestSyntheticVectors:
    def test_the_same_number_makes_the_same(self):
        texts = [document["text"] for document in synthetic_vectors.documents(5, 8)]
        assert texts == [synthetic_vectors.text_of(number) for number in (5, 6, 7)]
        passages = [("", text) for text in texts]
        once, again = (synthetic_vectors.SyntheticEncoder().encode_passages(passages) for _ in range(2))
        assert np.array_equal(once, again)
        assert np.allclose(np.linalg.norm(once, axis=1), 1)

    def test_the_true_neighbours_are_those_of_one_large_product(self):
        encoder = synthetic_vectors.SyntheticEncoder()
        asked = encoder.encode_questions(synthetic_vectors.questions(5, 300))
        found = scale.exact(encoder, asked, 300, chunk=64)
        vectors = encoder.vectors(range(300))
        assert np.array_equal(found, np.argsort(-(asked @ vectors.T), axis=1, kind="stable")[:, :100])
        assert found[:, 0].tolist() == np.linspace(0, 299, 5).astype(int).tolist()


def test_what_is_kept_of_a_set_compares_hybrid_with_the_better_leg():
    passages = tuple(LabelledPassage(name, "", name) for name in "abc")
    questions = tuple(LabelledQuestion(f"q{number}", "?", frozenset("a")) for number in range(4))
    ranks = {"bm25": [1, 1, 0, 0], "dense": [1, 1, 1, 0], "hybrid": [1, 1, 1, 1]}
    kept = quality.summary(QuestionSet("tiny", "dev", passages, questions), ranks, 60.0)
    assert (kept["passages"], kept["questions"], kept["hybrid_weight"]) == (3, 4, 60.0)
    assert [each[0] for each in kept["accuracy"]["dense"]] == [75] * 4
    assert kept["gain"][0] == 25


def test_what_is_kept_of_processes_has_ratios_within_a_round():
    rounds = {name: [{"wall": wall, "cpu": 1.0, "peak_mib": 9.0} for wall in (2.0, 8.0)] for name in cold_start.SCRIPTS}
    rounds[cold_start.OURS] = [{"wall": wall, "cpu": 1.0, "peak_mib": 9.0} for wall in (1.0, 2.0)]
    kept = cold_start.summary(rounds)
    assert kept["ratios"][f"{cold_start.OURS} / {cold_start.PEER}"] == [0.25, 0.375, 0.5]
    assert kept["processes"][cold_start.OURS]["wall"] == [1.0, 1.5, 2.0]


def test_what_is_kept_of_a_contender_is_its_medians():
    ingest = {"seconds": 2.0, "cpu_seconds": 4.0, "bytes": 100, "peak_mib": 10.0}
    search = [
        {"first": first, "milliseconds": [first] * 3, "peak_mib": 5.0, "ids": [["a"], ["b"]]}
        for first in (1.0, 3.0, 2.0)
    ]
    kept = end_to_end.summary({"ingest": [ingest], "search": search}, [frozenset("a"), frozenset("a")])
    assert (kept["first"], kept["milliseconds"], kept["ingest"]) == (2.0, [2.0, 2.0], ingest)
    assert [each[0] for each in kept["accuracy"]] == [50, 50, 50]
    measured = {name: {"ingest": [ingest], "search": search} for name in end_to_end.CONTENDERS}
    measured["chroma"] = {"ingest": [ingest | {"seconds": 8.0}], "search": search}
    assert end_to_end.compared(measured)["chroma"]["ingest"] == [4, 4, 4]


def test_what_is_kept_of_fine_tuning_and_of_the_speed_of_training():
    before = {"bm25": [0, 0], "dense": [1, 0], "hybrid": [1, 0]}
    kept = fine_tune.compared(before, {"dense": [1, 1], "hybrid": [1, 1]}, {"weight": 9.0, "hybrid": [1, 1]})
    assert kept["accuracy"]["dense, fine-tuned"][0][0] == 100
    assert kept["differences"]["dense, fine-tuned − dense, default"][0][0] == 50
    times = {"dpr_lance": [(1.0, 2.0)], train_speed.PEER: [(4.0, 4.0)]}
    assert train_speed.speeds(times)["ratios"] == {"dpr_lance": [[4, 4, 4], [2, 2, 2]]}


def test_how_vectors_were_searched_is_named_with_the_index():
    assert scale.searched_how(["FTS", "BTree", "IvfRq"], Effort(98, 34)) == "IVF-RQ, 34 of 98"
    assert scale.searched_how(["FTS", "IvfRq"], Effort()) == "exact"
    assert scale.searched_how(["FTS"], None) == "exact"


def test_a_hybrid_search_is_compared_with_its_parts():
    p50 = {"hybrid": 4.0, "encode": 2.0, "raw dense": 2.0, "raw bm25": 2.0, "bm25": 3.0, "bm25s": 2.0}
    assert search.ratios(p50) == {"hybrid / (2 encode + raw legs)": 0.5, "bm25 / bm25s": 1.5}
