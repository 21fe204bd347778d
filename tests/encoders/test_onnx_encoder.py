"""The runtime on real graphs: the packaged encoder, and tiny ones whose vectors can be computed by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest
from tokenizers import Tokenizer, processors

from dpr_lance.encoders.bundle import Bundle, write_bundle
from dpr_lance.encoders.card import EncoderCard
from dpr_lance.encoders.encoder import TokenCounter
from dpr_lance.encoders.hash_encoder import HashEncoder
from dpr_lance.encoders.loading import DEFAULT_ENCODER, load_encoder
from dpr_lance.encoders.onnx_encoder import RECENT_QUESTIONS, WINDOW, OnnxEncoder
from dpr_lance.encoders.onnx_graph import Graph
from dpr_lance.errors import EncoderError, InvalidInputError
from tests.contracts.encoder_contract import EncoderContract
from tests.encoders.tiny_bundle import CARD, LETTERS, made, rewritten, tiny_graph, tiny_tokenizer


@pytest.fixture
def tiny(tmp_path):
    """Make a tiny fp32 bundle: `tiny(card fields..., graph arguments...)`."""

    def make(*, card: EncoderCard = CARD, pair: bool = False, **graph: float) -> Bundle:
        files = {"tokenizer.json": tiny_tokenizer(tmp_path)}
        if pair:
            files["question.onnx"] = tiny_graph(tmp_path / "q.onnx", seed=1)
            files["passage.onnx"] = tiny_graph(tmp_path / "p.onnx", seed=2)
        else:
            files["encoder.onnx"] = tiny_graph(tmp_path / "e.onnx", **graph)
        return write_bundle(tmp_path / "tiny", card, files, precision="fp32", replace=True)

    return make


@pytest.fixture(scope="module")
def packaged():
    return load_encoder(DEFAULT_ENCODER)


class TestPackagedEncoderContract(EncoderContract):
    @pytest.fixture
    def encoder(self, packaged):
        return packaged


class TestPairContract(EncoderContract):
    """Two fp32 graphs, pairs with [SEP], batches with padding."""

    tolerance = 1e-6

    @pytest.fixture
    def encoder(self, tiny):
        return OnnxEncoder(tiny(card=replace(CARD, title_style="pair"), pair=True))

    def test_questions_and_passages_have_their_own_weights(self, encoder):
        assert np.abs(encoder.encode_questions(["a b"]) - encoder.encode_passages([("", "a b")])).max() > 0.1


def by_hand(ids: list[int], types: list[int], *, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    letters, segments = (random.normal(size=(rows, 8)).astype(np.float32) for rows in (30, 2))
    return (letters[ids] + segments[types]).mean(axis=0)


A, B, C, CLS, SEP = 4, 5, 6, 2, 3


@pytest.mark.parametrize(
    ("fields", "passage", "ids", "types"),
    [
        ({}, ("", "a b"), [CLS, A, B, SEP], [0, 0, 0, 0]),
        ({"title_style": "pair"}, ("c", "a b"), [CLS, C, SEP, A, B, SEP], [0] * 6),
        (
            {"title_style": "pair", "zero_token_types": False},
            ("c", "a b"),
            [CLS, C, SEP, A, B, SEP],
            [0, 0, 0, 1, 1, 1],
        ),
        ({"title_style": "pair"}, (" ", "a b"), [CLS, A, B, SEP], [0] * 4),
        ({"title_style": "joined"}, ("c", "a b"), [CLS, C, A, B, SEP], [0] * 5),
        ({"title_style": "joined", "passage_prefix": "b "}, ("c", "a"), [CLS, B, C, A, SEP], [0] * 5),
        ({"title_style": "pair", "passage_prefix": "b "}, ("c", "a"), [CLS, B, C, SEP, A, SEP], [0] * 6),
        ({"title_style": "joined"}, ("", "a " * 40), [CLS, *[A] * 14, SEP], [0] * 16),
        ({"title_style": "pair"}, ("c", "a " * 40), [CLS, C, SEP, *[A] * 12, SEP], [0] * 16),
    ],
)
def test_the_graph_is_fed_what_the_card_says(tiny, fields, passage, ids, types):
    encoder = OnnxEncoder(tiny(card=replace(CARD, **fields)))
    np.testing.assert_allclose(encoder.encode_passages([passage])[0], by_hand(ids, types), atol=1e-6)


def test_the_question_has_its_own_prefix_and_limit(tiny):
    encoder = OnnxEncoder(tiny(card=replace(CARD, question_prefix="c ", question_max_tokens=5)))
    np.testing.assert_allclose(encoder.encode_questions(["a b"])[0], by_hand([CLS, C, A, B, SEP], [0] * 5), atol=1e-6)
    np.testing.assert_allclose(encoder.encode_questions(["a b c"])[0], by_hand([CLS, C, A, B, SEP], [0] * 5), atol=1e-6)


def test_control_characters_alone_are_blank_even_behind_a_prefix(tiny):
    encoder = OnnxEncoder(tiny(card=replace(CARD, question_prefix="c ", passage_prefix="c ")))
    with pytest.raises(InvalidInputError, match=r"questions\[2\] is blank"):
        encoder.encode_questions(["a", "b", "\x00\x01"])
    with pytest.raises(InvalidInputError, match=r"passages\[1\] is blank"):
        encoder.encode_passages([("", "a"), ("", "\u200b\x00")])


def test_many_passages_go_through_windows_and_threads(tiny):
    bundle = tiny()
    passages = [("", " ".join(LETTERS[: 1 + index % 14])) for index in range(WINDOW + 300)]
    expected = np.stack([by_hand([CLS, *range(4, 5 + index % 14), SEP], [0] * (3 + index % 14)) for index in range(14)])
    for threads in (1, 3):
        vectors = OnnxEncoder(bundle, threads=threads).encode_passages(passages)
        np.testing.assert_allclose(vectors, np.tile(expected, (len(passages) // 14 + 1, 1))[: len(passages)], atol=1e-6)


def test_the_index_of_a_blank_passage_counts_from_the_first_window(tiny):
    passages = [("", "a")] * (WINDOW + 5)
    passages[WINDOW + 3] = ("", " ")
    with pytest.raises(InvalidInputError, match=rf"passages\[{WINDOW + 3}\] is blank"):
        OnnxEncoder(tiny()).encode_passages(passages)


def test_threads_do_not_change_packaged_vectors(packaged):
    passages = [("title", f"passage {index} " * (index % 17 + 1)) for index in range(40)]
    one, three = (OnnxEncoder(packaged.bundle, threads=threads).encode_passages(passages) for threads in (1, 3))
    np.testing.assert_array_equal(one, three)


def test_excess_tokens_are_what_is_cut(tiny):
    encoder = OnnxEncoder(tiny(card=replace(CARD, title_style="joined")))
    assert isinstance(encoder, TokenCounter)
    assert not isinstance(HashEncoder(), TokenCounter)
    passages = [("", "a"), ("b", "a " * 13), ("b", "a " * 14), ("", "a " * 100)]
    np.testing.assert_array_equal(encoder.excess_tokens(passages), [0, 0, 1, 86])
    assert encoder.excess_tokens([]).shape == (0,)


def test_recent_questions_are_remembered_and_bounded(tiny, monkeypatch):
    encoder = OnnxEncoder(tiny())
    questions = [f"{first} {second} {third}" for first in "abc" for second in LETTERS for third in LETTERS]
    assert len(questions) > RECENT_QUESTIONS
    before = encoder.encode_questions(questions)
    runs, run = [], Graph.run
    monkeypatch.setattr(Graph, "run", lambda graph, encodings: runs.append(len(encodings)) or run(graph, encodings))
    np.testing.assert_array_equal(encoder.encode_questions(questions[-RECENT_QUESTIONS:]), before[-RECENT_QUESTIONS:])
    assert runs == []
    np.testing.assert_array_equal(encoder.encode_questions(questions[:5]), before[:5])
    assert sum(runs) == 5


def test_threads_must_be_positive(tiny):
    with pytest.raises(InvalidInputError, match="threads=0: at least 1 is needed"):
        OnnxEncoder(tiny(), threads=0)


def test_a_damaged_graph_is_found_before_it_is_run(tiny):
    bundle = tiny()
    graph = bundle.folder / "encoder.onnx"
    content = bytearray(graph.read_bytes())
    content[-40] ^= 1
    graph.write_bytes(content)
    encoder = OnnxEncoder(bundle.folder)
    with pytest.raises(EncoderError, match=r"encoder.onnx is damaged"):
        encoder.encode_questions(["a"])


def test_vectors_that_cannot_be_used_are_refused(tiny):
    with pytest.raises(EncoderError, match="NaN or infinite"):
        OnnxEncoder(tiny(scale=np.inf)).encode_passages([("", "a")])
    with pytest.raises(EncoderError, match=r"\(1, 4\).*8 dimensions"):
        OnnxEncoder(tiny(dimension=4)).encode_passages([("", "a")])


def test_the_packaged_encoder_knows_meaning(packaged):
    passages = [
        ("Gzip", "Read and write files in the compressed format of GNU zip."),
        ("Bread", "Flour, water and yeast are kneaded, left to rise and baked."),
        ("Tower", "The monument in Paris was finished in 1889."),
    ]
    questions = ["how can I open a .gz archive?", "recipe for a loaf", "oldest iron landmark of the French capital"]
    scores = packaged.encode_questions(questions) @ packaged.encode_passages(passages).T
    np.testing.assert_array_equal(scores.argmax(axis=1), [0, 1, 2])


@pytest.mark.parametrize("content", [b"[" * 100_000, b"nonsense", b"null", b'{"model": {"type": "WordPiece"}}'])
def test_a_tokenizer_that_cannot_be_read_is_named(tmp_path, content):
    folder = made(tmp_path)
    rewritten(folder, "tokenizer.json", content)
    with pytest.raises(EncoderError, match=r"tokenizer\.json cannot be used"):
        load_encoder(folder).encode_questions(["a"])


def test_a_tokenizer_that_panics_is_named(tmp_path):
    """A special token that the template names and the vocabulary has not: `tokenizers` panics, or raises."""
    tokenizer = Tokenizer.from_file(str(tiny_tokenizer(tmp_path)))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    values = json.loads(tokenizer.to_str())
    values["post_processor"]["special_tokens"] = {}
    folder = made(tmp_path)
    rewritten(folder, "tokenizer.json", json.dumps(values).encode())
    encoder = load_encoder(folder)
    for call in (
        lambda: encoder.encode_questions(["a b"]),
        lambda: encoder.encode_passages([("c", "a b")]),
        lambda: encoder.excess_tokens([("c", "a b")]),
    ):
        with pytest.raises(EncoderError, match=r"tokenizer\.json cannot be used"):
            call()


def test_an_interruption_while_tokenising_stays_one(tmp_path, monkeypatch):
    class Interrupted:
        def from_file(self):
            raise KeyboardInterrupt

    encoder = OnnxEncoder(made(tmp_path))
    monkeypatch.setattr("tokenizers.Tokenizer", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        encoder.encode_questions(["a"])
