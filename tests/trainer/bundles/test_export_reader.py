"""A reader's bundle gives the checkpoint's scores: parity with transformers on the same weights."""

import numpy as np
import onnx
import pytest
import torch
from dpr_lance.trainer.bundles.export_reader import cached_reader_bundle, export_reader
from dpr_lance.trainer.bundles.onnx_graph import graph_outputs
from dpr_lance.trainer.bundles.reader_conversion import check_order
from dpr_lance.trainer.reader.model import ReaderModel, save_model
from transformers import PreTrainedTokenizerFast

from dpr_lance.errors import EncoderError, InvalidInputError, ReaderError
from dpr_lance.reader.bundle import GRAPH, open_reader_bundle
from dpr_lance.reader.card import ReaderCard
from dpr_lance.reader.loading import load_reader
from dpr_lance.reader.onnx_reader import Reader
from dpr_lance.reader.reranker import PassageText
from tests.trainer import checkpoints_made as checkpoints
from tests.trainer import readers_made as readers

PARITY = 1e-4
QUESTIONS = ["What is the capital of France?", "Who wrote Faust?", "how tall", "naïve ÉCOLE 東京 — “q”"]
PASSAGES = [PassageText(title, text) for title, text in checkpoints.PASSAGES]
torch.set_num_threads(1)  # the models are tiny, and waiting for a second thread costs more than they do


def joined(passage):
    return f"{passage.title} {passage.text}" if passage.title else passage.text


def pair_inputs(source, question, passage, family="bert"):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(source)
    typed = family in ("bert", "electra")
    return tokenizer(question, joined(passage), return_tensors="pt", return_token_type_ids=typed)


def dpr_inputs(source, question, passage):
    """[CLS] question [SEP] title [SEP] text, as transformers' own tokenizer of this reader builds it."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(source)

    def ids(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    sequence = [2, *ids(question), 3, *ids(passage.title), 3, *ids(passage.text)]
    return {"input_ids": torch.tensor([sequence]), "attention_mask": torch.ones(1, len(sequence), dtype=torch.long)}


def graph_of(folder, inputs):
    """The bundle's outputs for inputs of torch, of all rows."""
    feed = {name: value.numpy() for name, value in inputs.items()}
    if any(graph_input.name == "rows" for graph_input in onnx.load(str(folder / GRAPH)).graph.input):
        feed["rows"] = np.array(feed["input_ids"].shape[1])
    return graph_outputs(folder / GRAPH, [feed])[0]


@pytest.mark.parametrize("family", readers.CLASSES)
def test_cross_encoders_agree_with_transformers(family, tmp_path):
    """Of every family that is offered: with its special tokens, its position offsets and its head."""
    model = readers.cross_encoder(tmp_path / "source", family)
    card = export_reader(tmp_path / "source", tmp_path / "out", precision="fp32")
    assert (card.selects, card.extracts, card.input_style, card.zero_token_types) == (True, False, "pair", False)
    assert (card.max_tokens, card.name) == (readers.POSITIONS_OF_READERS, "source")
    reader = Reader(tmp_path / "out")
    for question in QUESTIONS:
        with torch.no_grad():
            expected = [
                model(**pair_inputs(tmp_path / "source", question, each, family)).logits.item() for each in PASSAGES
            ]
        np.testing.assert_allclose(reader.score(question, PASSAGES), expected, atol=PARITY)
    assert np.ptp(expected) > 100 * PARITY


def test_cross_encoders_of_sentence_transformers_agree_with_the_library(tmp_path):
    """A folder that it wrote, which names the sigmoid: the raw logit has the same order, and does not saturate."""
    library = pytest.importorskip("sentence_transformers")
    readers.cross_encoder(tmp_path / "source")
    model = library.CrossEncoder(str(tmp_path / "source"), device="cpu")
    model.save_pretrained(str(tmp_path / "saved"))
    export_reader(tmp_path / "saved", tmp_path / "out", precision="fp32")
    found = Reader(tmp_path / "out").score(QUESTIONS[0], PASSAGES)
    pairs = [(QUESTIONS[0], joined(each)) for each in PASSAGES]
    np.testing.assert_allclose(1 / (1 + np.exp(-found)), model.predict(pairs), atol=PARITY)
    np.testing.assert_allclose(found, model.predict(pairs, activation_fn=torch.nn.Identity()), atol=PARITY)


@pytest.mark.parametrize("family", readers.CLASSES)
def test_question_answering_models_agree_with_transformers(family, tmp_path):
    model = readers.question_answering(tmp_path / "source", family)
    card = export_reader(tmp_path / "source", tmp_path / "out", precision="fp32")
    assert (card.selects, card.extracts, card.input_style) == (False, True, "pair")
    for question, passage in zip(QUESTIONS, PASSAGES, strict=False):
        inputs = pair_inputs(tmp_path / "source", question, passage, family)
        with torch.no_grad():
            expected = model(**inputs)
        start, end = graph_of(tmp_path / "out", inputs)
        np.testing.assert_allclose(start, expected.start_logits, atol=PARITY)
        np.testing.assert_allclose(end, expected.end_logits, atol=PARITY)
    reader = Reader(tmp_path / "out")
    assert all(reading.spans for reading in reader.read(QUESTIONS[0], PASSAGES))
    with pytest.raises(ReaderError, match="only finds answer spans"):
        reader.score(QUESTIONS[0], PASSAGES)


def test_dpr_readers_agree_with_transformers(tmp_path):
    """Selection by the state of [CLS], spans, token types zero, and no [SEP] after the text."""
    model = readers.dpr_reader(tmp_path / "source")
    card = export_reader(tmp_path / "source", tmp_path / "out", precision="fp32")
    assert (card.selects, card.extracts, card.input_style, card.zero_token_types) == (True, True, "dpr", True)
    assert not card.final_separator
    reader = Reader(tmp_path / "out")
    titled = [each for each in PASSAGES if each.title]
    for question in QUESTIONS:
        expected = []
        for passage in titled:
            inputs = dpr_inputs(tmp_path / "source", question, passage)
            with torch.no_grad():
                output = model(**inputs)
            expected.append(output.relevance_logits.item())
            feed = inputs | {"token_type_ids": torch.zeros_like(inputs["input_ids"])}
            select, start, end = graph_of(tmp_path / "out", feed)
            np.testing.assert_allclose(select, output.relevance_logits, atol=PARITY)
            np.testing.assert_allclose(start, output.start_logits, atol=PARITY)
            np.testing.assert_allclose(end, output.end_logits, atol=PARITY)
        np.testing.assert_allclose(reader.score(question, titled), expected, atol=PARITY)


def trained(folder, *, family="bert", card=None, **heads):
    model = ReaderModel(checkpoints.plain(folder, family), **heads).eval()
    save_model(model, folder)
    card = card or ReaderCard(name="own", fingerprint="", max_tokens=150, licence="mine", **heads_of(heads))
    (folder / "reader.json").write_text(card.to_json())
    return model


def heads_of(heads):
    return {name: value for name, value in heads.items() if name in ("selects", "extracts")}


@pytest.mark.parametrize("heads", [{"pools": True}, {"extracts": False}, {"selects": False}])
def test_a_trained_reader_becomes_a_bundle(heads, tmp_path):
    """What training saves, with all heads or some, and its card; only the fingerprint is new."""
    model = trained(tmp_path / "source", **heads)
    card = export_reader(tmp_path / "source", tmp_path / "out", precision="fp32")
    assert (card.name, card.max_tokens, card.licence, len(card.fingerprint)) == ("own", 150, "mine", 16)
    inputs = dict(pair_inputs(tmp_path / "source", QUESTIONS[0], PASSAGES[0]))
    with torch.no_grad():
        expected = model(**inputs)
    found = graph_of(tmp_path / "out", inputs)
    assert len(found) == len(expected) == 2 * card.extracts + card.selects
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=PARITY)


@pytest.mark.parametrize("made", [readers.cross_encoder, readers.dpr_reader])
def test_int8_ranks_as_fp32(made, tmp_path):
    made(tmp_path / "source")
    scores = {}
    for precision in ("fp32", "fp16", "int8"):
        export_reader(tmp_path / "source", tmp_path / precision, precision=precision)
        reader = Reader(tmp_path / precision)
        scores[precision] = np.concatenate([reader.score(question, PASSAGES) for question in QUESTIONS])
    assert np.corrcoef(scores["fp32"], scores["int8"])[0, 1] > 0.97
    assert np.abs(scores["fp32"] - scores["fp16"]).max() < 1e-2
    assert not np.array_equal(scores["fp32"], scores["int8"])
    sizes = {precision: (tmp_path / precision / GRAPH).stat().st_size for precision in scores}
    assert sizes["int8"] < sizes["fp32"] > sizes["fp16"]
    assert len({open_reader_bundle(tmp_path / precision).card.fingerprint for precision in scores}) == 3


def test_heads_stay_in_fp32(tmp_path):
    """Their matrices have one or two columns: rounding them costs accuracy and saves nothing."""
    onnx = pytest.importorskip("onnx")
    readers.dpr_reader(tmp_path / "source")
    export_reader(tmp_path / "source", tmp_path / "out")
    graph = onnx.load(tmp_path / "out" / GRAPH).graph
    narrow = [tensor for tensor in graph.initializer if len(tensor.dims) == 2 and min(tensor.dims) <= 2]
    assert {tensor.data_type for tensor in narrow} == {onnx.TensorProto.FLOAT}


def test_an_order_that_rounding_destroys_is_refused():
    random = np.random.default_rng(0)
    exact = [(random.normal(size=1), random.normal(size=9), random.normal(size=9)) for _ in range(6)]
    near = [tuple(value + 0.01 for value in run) for run in exact]
    assert check_order(exact, near, "int8", singles=6, selects=True) > 0.99
    for output in range(3):
        wrong = [tuple(-value if at == output else value for at, value in enumerate(run)) for run in exact]
        with pytest.raises(EncoderError, match="int8 graph of this reader does not rank"):
            check_order(exact, wrong, "int8", singles=6, selects=True)


def test_a_checkpoint_is_a_name_for_a_reader(tmp_path, monkeypatch):
    """Converted once, into the cache, and again when a file of it changes."""
    monkeypatch.setenv("DPR_LANCE_CACHE", str(tmp_path / "cache"))
    readers.cross_encoder(tmp_path / "source")
    reader = load_reader(tmp_path / "source")
    assert reader.bundle.precision == "int8"
    assert reader.bundle.folder.is_relative_to(tmp_path / "cache")
    assert cached_reader_bundle(tmp_path / "source") == reader.bundle.folder
    readers.cross_encoder(tmp_path / "source", initializer_range=0.3)
    again = load_reader(tmp_path / "source")
    assert again.bundle.folder != reader.bundle.folder
    assert again.card.fingerprint != reader.card.fingerprint


def test_lengths_and_names_can_be_given(tmp_path):
    readers.question_answering(tmp_path / "source")
    card = export_reader(tmp_path / "source", tmp_path / "out", precision="fp32", max_tokens=200, name="mine")
    assert (card.max_tokens, card.name) == (200, "mine")
    for tokens in (64, 10_000):
        with pytest.raises(InvalidInputError, match=f"max_tokens={tokens}"):
            export_reader(tmp_path / "source", tmp_path / "other", max_tokens=tokens)
    with pytest.raises(InvalidInputError, match="exists: choose another place"):
        export_reader(tmp_path / "source", tmp_path / "out")


def plain_encoder(folder):
    checkpoints.plain(folder, "bert")


def lacking_weights(folder):
    from safetensors.torch import load_file, save_file

    readers.cross_encoder(folder)
    weights = load_file(folder / "model.safetensors")
    del weights["classifier.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def without_card(folder):
    trained(folder)
    (folder / "reader.json").unlink()


def too_long_a_card(folder):
    trained(folder, card=ReaderCard(name="own", fingerprint="", max_tokens=999))


def with_unknown_activation(folder):
    trained(folder, pools=True)
    checkpoints.edit_json(folder / "config.json", pool_activation="sin")


def with_module(folder):
    readers.cross_encoder(folder)
    modules = [{"idx": at, "path": "", "type": f"x.{name}"} for at, name in enumerate(("Transformer", "LogitScore"))]
    checkpoints.write_json(folder / "modules.json", modules)


def of_another_family(folder):
    readers.cross_encoder(folder)
    checkpoints.edit_json(folder / "config.json", model_type="t5")


def of_modernbert(folder):
    checkpoints.plain(folder, "modernbert")
    checkpoints.edit_json(
        folder / "config.json", architectures=["ModernBertForSequenceClassification"], id2label={"0": "LABEL_0"}
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (plain_encoder, r"BertModel is not a reader; supported are DPRReader"),
        (lambda folder: readers.cross_encoder(folder, labels=2), r"has one label, this .* has 2"),
        (lambda folder: readers.cross_encoder(folder, labels=3), r"has one label, this .* has 3"),
        (lambda folder: readers.dpr_reader(folder, projection=16), r"projection_dim 16 is not supported"),
        (lacking_weights, r"1 weights of BertForSequenceClassification are missing or misshapen \(classifier.weight\)"),
        (without_card, r"reader\.json is missing: it says how"),
        (too_long_a_card, r"max_tokens 999 is more than the 160 positions"),
        (with_unknown_activation, r"pool_activation 'sin' is not one of tanh, gelu, relu"),
        (with_module, r"modules\.json: the module LogitScore after a cross-encoder is not supported"),
        (of_another_family, r"architecture 't5' is not supported"),
        (of_modernbert, r"its heads are not those of BERT"),
    ],
)
def test_what_is_not_a_reader_is_named(make, message, tmp_path):
    make(tmp_path / "source")
    with pytest.raises(ReaderError, match=message):
        export_reader(tmp_path / "source", tmp_path / "out", precision="fp32")
    assert not (tmp_path / "out").exists()


def test_a_bundle_is_not_a_checkpoint(tmp_path):
    readers.cross_encoder(tmp_path / "source")
    export_reader(tmp_path / "source", tmp_path / "out", precision="fp32")
    with pytest.raises(ReaderError, match="is a bundle already"):
        export_reader(tmp_path / "out", tmp_path / "again")
