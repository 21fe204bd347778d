"""What every re-ranker must hold. Subclass `RerankerContract` in a test file and give it a `reranker` fixture."""

import threading

import numpy as np
import pytest

from dpr_lance.reader.reranker import PassageText, Reranker

QUESTION = "how tall is the tower in Paris?"
PASSAGES = [
    PassageText("Eiffel Tower", "The tower in Paris is 330 metres tall."),
    PassageText("", "A passage without a title."),
    PassageText("Gzip", "The gzip module reads and writes files. " * 30),
    PassageText("São Tomé", "Ναι, Ünïcödé: 東京, مرحبا, 😀 and a\u0301 combining accent"),
    PassageText("   ", "x"),
]


class RerankerContract:
    """One float32 for each passage, in their order; deterministic; a score never depends on the other passages."""

    tolerance = 0.0
    """Largest difference of a score given alone and with others; 0 means bit for bit."""

    @pytest.fixture
    def reranker(self) -> Reranker:
        raise NotImplementedError

    def test_one_finite_float32_for_each_passage(self, reranker):
        scores = reranker.score(QUESTION, PASSAGES)
        assert scores.shape == (len(PASSAGES),)
        assert scores.dtype == np.float32
        assert np.isfinite(scores).all()

    def test_no_passages_have_no_scores(self, reranker):
        scores = reranker.score(QUESTION, [])
        assert scores.shape == (0,)
        assert scores.dtype == np.float32

    def test_the_same_input_has_the_same_scores(self, reranker):
        np.testing.assert_array_equal(reranker.score(QUESTION, PASSAGES), reranker.score(QUESTION, PASSAGES))

    def test_a_score_does_not_depend_on_its_neighbours(self, reranker):
        together = reranker.score(QUESTION, PASSAGES)
        alone = np.concatenate([reranker.score(QUESTION, [passage]) for passage in PASSAGES])
        np.testing.assert_allclose(together, alone, rtol=0, atol=self.tolerance)

    def test_the_order_is_kept(self, reranker):
        many = PASSAGES * 3
        shuffled = np.random.default_rng(0).permutation(len(many))
        expected = np.tile(reranker.score(QUESTION, PASSAGES), 3)[shuffled]
        scores = reranker.score(QUESTION, [many[index] for index in shuffled])
        np.testing.assert_allclose(scores, expected, rtol=0, atol=self.tolerance)

    def test_the_question_counts(self, reranker):
        assert np.abs(reranker.score(QUESTION, PASSAGES) - reranker.score("a module", PASSAGES)).max() > 1e-3

    def test_threads_may_share_it(self, reranker):
        expected, different = reranker.score(QUESTION, PASSAGES), []

        def work() -> None:
            different.append(float(np.abs(reranker.score(QUESTION, PASSAGES) - expected).max()))

        workers = [threading.Thread(target=work) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(different) == 4
        assert max(different) <= self.tolerance
