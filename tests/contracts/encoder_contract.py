"""What every encoder must hold. Subclass `EncoderContract` in a test file and give it an `encoder` fixture."""

import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from dpr_lance.encoders.encoder import Encoder, TokenCounter
from dpr_lance.errors import InvalidInputError

PASSAGES = [
    ("Gzip", "The gzip module reads and writes files in the format of GNU zip."),
    ("", "A passage without a title."),
    ("Eiffel Tower", "The tower in Paris is 330 metres tall and was built by Gustave Eiffel's company. " * 12),
    ("São Tomé", "Ναι, Ünïcödé: 東京, مرحبا, 😀 and a\u0301 combining accent"),
    ("   ", "x"),
]
QUESTIONS = ["how do I read a gzip file?", "how tall is the tower in Paris", "東京", "😀", "?", "a " * 2000]
BLANKS = ["", " ", "\n\t\u00a0\u2003"]
ANY_TEXT = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[
        HealthCheck.differing_executors,  # a contract is run by several classes
        HealthCheck.function_scoped_fixture,  # an encoder does not change
        HealthCheck.too_slow,
    ],
)


class EncoderContract:
    """Deterministic; batch = single; order kept; unit vectors when the card says so; blank refused; any Unicode."""

    tolerance = 0.0
    """Largest difference of one element between a vector made alone and in a batch; 0 means bit for bit."""

    @pytest.fixture
    def encoder(self) -> Encoder:
        raise NotImplementedError

    def test_shapes_and_type(self, encoder):
        for vectors, count in ((encoder.encode_questions(QUESTIONS), 6), (encoder.encode_passages(PASSAGES), 5)):
            assert vectors.shape == (count, encoder.card.dimension)
            assert vectors.dtype == np.float32
            assert np.isfinite(vectors).all()

    def test_nothing_gives_no_rows(self, encoder):
        assert encoder.encode_questions([]).shape == (0, encoder.card.dimension)
        assert encoder.encode_passages([]).shape == (0, encoder.card.dimension)

    def test_the_same_input_gives_the_same_vectors(self, encoder):
        np.testing.assert_array_equal(encoder.encode_passages(PASSAGES), encoder.encode_passages(PASSAGES))
        np.testing.assert_array_equal(encoder.encode_questions(QUESTIONS), encoder.encode_questions(QUESTIONS))

    def test_a_vector_does_not_depend_on_its_neighbours(self, encoder):
        together = encoder.encode_passages(PASSAGES)
        alone = np.concatenate([encoder.encode_passages([passage]) for passage in PASSAGES])
        np.testing.assert_allclose(together, alone, rtol=0, atol=self.tolerance)
        backwards = [encoder.encode_questions([question]) for question in reversed(QUESTIONS)]
        alone = np.concatenate(backwards[::-1])
        np.testing.assert_allclose(encoder.encode_questions(QUESTIONS), alone, rtol=0, atol=self.tolerance)

    def test_order_is_kept(self, encoder):
        shuffled = np.random.default_rng(0).permutation(len(PASSAGES) * 3)
        many = PASSAGES * 3
        expected = np.tile(encoder.encode_passages(PASSAGES), (3, 1))[shuffled]
        vectors = encoder.encode_passages([many[index] for index in shuffled])
        np.testing.assert_allclose(vectors, expected, rtol=0, atol=self.tolerance)
        assert len(np.unique(encoder.encode_passages(PASSAGES).round(4), axis=0)) == len(PASSAGES)

    def test_questions_may_repeat(self, encoder):
        vectors = encoder.encode_questions([QUESTIONS[0], QUESTIONS[1], QUESTIONS[0]])
        np.testing.assert_array_equal(vectors[0], vectors[2])
        assert np.abs(vectors[0] - vectors[1]).max() > 1e-3

    def test_vectors_that_were_handed_out_can_be_changed(self, encoder):
        before = encoder.encode_questions(QUESTIONS)
        copy = before.copy()
        before[:] = 0
        np.testing.assert_array_equal(encoder.encode_questions(QUESTIONS), copy)

    def test_unit_vectors_when_the_card_says_so(self, encoder):
        norms = np.linalg.norm(encoder.encode_passages(PASSAGES), axis=1)
        assert encoder.card.normalise == bool(np.allclose(norms, 1, atol=1e-5))

    def test_the_title_counts_and_a_blank_one_is_none(self, encoder):
        vectors = encoder.encode_passages([("Paris", "a city"), ("", "a city"), ("  ", "a city")])
        assert np.abs(vectors[0] - vectors[1]).max() > 1e-3
        np.testing.assert_allclose(vectors[1], vectors[2], rtol=0, atol=self.tolerance)

    @pytest.mark.parametrize("blank", BLANKS)
    def test_blank_input_is_refused_and_named(self, encoder, blank):
        with pytest.raises(InvalidInputError, match=r"questions\[1\].*blank"):
            encoder.encode_questions(["fine", blank])
        with pytest.raises(InvalidInputError, match=r"passages\[1\].*blank"):
            encoder.encode_passages([("fine", "fine"), ("title", blank)])

    def test_lone_surrogates_are_refused_and_named(self, encoder):
        with pytest.raises(InvalidInputError, match=r"questions\[0\].*surrogate"):
            encoder.encode_questions(["a \ud800 b"])
        for passage in (("\udfff", "text"), ("title", "\udfff")):
            with pytest.raises(InvalidInputError, match=r"passages\[1\].*surrogate"):
                encoder.encode_passages([("fine", "fine"), passage])

    def test_what_is_not_text_is_refused(self, encoder):
        with pytest.raises(InvalidInputError, match="questions='a question': give a sequence of strings"):
            encoder.encode_questions("a question")
        with pytest.raises(InvalidInputError, match=r"questions\[1\].*NoneType"):
            encoder.encode_questions(["fine", None])
        with pytest.raises(InvalidInputError, match=r"passages\[0\].*int"):
            encoder.encode_passages([("title", 3)])

    @ANY_TEXT
    @given(
        text=st.text(
            st.characters(exclude_categories=["Cs", "Cc", "Cf", "Cn", "Co", "Z", "M"]), min_size=1, max_size=60
        )
    )
    def test_any_visible_text_is_encoded(self, encoder, text):
        assume(text.strip())
        vectors = encoder.encode_questions([text])
        passages = encoder.encode_passages([(text, text)])
        assert np.isfinite(vectors).all()
        assert np.isfinite(passages).all()
        assert vectors.any()
        assert passages.any()

    @ANY_TEXT
    @given(text=st.text(max_size=40))
    def test_any_string_is_encoded_or_refused(self, encoder, text):
        try:
            vectors = encoder.encode_questions([text])
        except InvalidInputError:
            return
        assert vectors.shape == (1, encoder.card.dimension)
        assert np.isfinite(vectors).all()

    def test_threads_may_share_it(self, encoder):
        expected = encoder.encode_passages(PASSAGES)
        different: list[float] = []

        def work() -> None:
            different.append(float(np.abs(encoder.encode_passages(PASSAGES) - expected).max()))
            different.append(float(np.abs(encoder.encode_questions(QUESTIONS) - questions).max()))

        questions = encoder.encode_questions(QUESTIONS)
        workers = [threading.Thread(target=work) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(different) == 8
        assert max(different) <= self.tolerance

    def test_excess_tokens_are_counted(self, encoder):
        if not isinstance(encoder, TokenCounter):
            pytest.skip("this encoder sees all of a passage")
        limit = encoder.card.passage_max_tokens
        excess = encoder.excess_tokens([("", "a"), ("", "a " * limit), ("", "a " * (limit + 10))])
        assert excess.dtype == np.int32
        assert excess[0] == 0
        assert excess[1] > 0  # the special tokens take their place
        assert excess[2] >= excess[1] + 10
