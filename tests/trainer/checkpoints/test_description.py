"""What a checkpoint says of itself is read, and what it does not say is asked for."""

import dataclasses
import subprocess
import sys

import pytest
from dpr_lance.trainer.checkpoints.tokenizer import load_tokenizer

from dpr_lance import EncoderError, InvalidInputError
from dpr_lance.encoders.card import EncoderCard
from tests.trainer import checkpoints_made as checkpoints
from tests.trainer.checkpoints_made import edit_json
from tests.trainer.checkpoints_read import read


def test_half_a_pair_is_refused(pair):
    with pytest.raises(EncoderError, match="one half of a DPR pair"):
        read(pair[0] / "passage")


def test_a_swapped_pair_is_refused(pair):
    folder, _, _ = pair
    with pytest.raises(EncoderError, match=r"DPRContextEncoder.*named as the question encoder"):
        read((folder / "passage", folder / "question"))


@pytest.mark.parametrize("architectures", [["DPRReader"], [], None])
def test_other_dpr_classes_are_refused(pair, architectures):
    edit_json(pair[0] / "question" / "config.json", architectures=architectures)
    with pytest.raises(EncoderError, match="DPRQuestionEncoder, DPRContextEncoder"):
        read(pair[0])


def test_halves_of_different_widths_are_refused(tmp_path):
    checkpoints.dpr_pair(tmp_path / "a")
    checkpoints.dpr_pair(tmp_path / "b", projection=8)
    with pytest.raises(EncoderError, match=r"32 numbers .* 8"):
        read((tmp_path / "a" / "question", tmp_path / "b" / "passage"))


def test_halves_with_different_tokenizers_are_refused(tmp_path):
    checkpoints.dpr_pair(tmp_path / "a")
    checkpoints.dpr_pair(tmp_path / "b", cased=True)
    checkpoint = read((tmp_path / "a" / "question", tmp_path / "b" / "passage"))
    with pytest.raises(EncoderError, match="different tokenizers"):
        load_tokenizer(checkpoint)


def test_a_pair_of_plain_models_needs_its_pooling_named(bert, tmp_path):
    """Two encoders need not be of DPR's classes; then nobody names their pooling."""
    checkpoints.plain(tmp_path / "other", "bert", seed=1)
    with pytest.raises(EncoderError, match="pooling and normalisation"):
        read((bert, tmp_path / "other"))
    checkpoint = read((bert, tmp_path / "other"), pooling="mean", normalise=True)
    assert not checkpoint.shared
    assert (checkpoint.pooling, checkpoint.normalise, checkpoint.zero_token_types) == ("mean", True, False)


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ({}, r"pooling \(cls or mean\) and normalise \(true or false\)"),
        ({"pooling": "mean"}, r"pass normalise \(true or false\)"),
        ({"normalise": False}, r"pass pooling \(cls or mean\)"),
    ],
)
def test_pooling_and_normalisation_are_not_guessed(bert, said, asked):
    with pytest.raises(EncoderError, match=asked):
        read(bert, **said)


def test_what_the_user_says_wins_over_our_card_and_that_over_the_files(pipeline):
    """The order of trust, fact by fact."""
    card = EncoderCard("own", 32, "", pooling="cls", question_prefix="own: ", hybrid_weight=7.5)
    card = dataclasses.replace(card, question_max_tokens=33, passage_max_tokens=44)
    (pipeline / "encoder.json").write_text(card.to_json(), encoding="utf-8")
    assert read(pipeline, hybrid_weight=0.0).hybrid_weight == 0.0
    checkpoint = read(pipeline, question_prefix="user: ", normalise=True)
    assert (checkpoint.question_prefix, checkpoint.normalise) == ("user: ", True)
    assert (checkpoint.name, checkpoint.pooling, checkpoint.hybrid_weight) == ("own", "cls", 7.5)
    assert (checkpoint.question_max_tokens, checkpoint.passage_max_tokens) == (33, 44)
    assert read(pipeline).normalise is False


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"pooling": "max"}, "'max' is not one of cls, mean"),
        ({"title_style": "none"}, "'none' is not one of pair, joined"),
        ({"question_max_tokens": 3}, "at least 8"),
        ({"passage_max_tokens": 161}, "more than the 160 positions"),
        ({"hybrid_weight": -1.0}, "at least 0"),
        ({"prefix": "query: "}, "unknown settings prefix; known are pooling, "),
    ],
)
def test_what_the_user_says_must_be_possible(pair, said, message):
    with pytest.raises(InvalidInputError, match=message):
        read(pair[0], **said)


def test_dpr_defaults_are_those_of_the_paper(pair):
    edit_json(pair[0] / "passage" / "config.json", max_position_embeddings=512)
    edit_json(pair[0] / "question" / "config.json", max_position_embeddings=100)
    checkpoint = read(pair[0])
    assert (checkpoint.pooling, checkpoint.normalise, checkpoint.title_style) == ("cls", False, "pair")
    assert (checkpoint.zero_token_types, checkpoint.hybrid_weight) == (True, 1.1)
    assert (checkpoint.question_max_tokens, checkpoint.passage_max_tokens) == (100, 256)


def test_positions_that_padding_takes_are_not_offered(tmp_path):
    """XLM-R has 514 positions for 512 tokens."""
    checkpoints.plain(tmp_path / "source", "xlm-roberta")
    checkpoint = read(tmp_path / "source", pooling="cls", normalise=True)
    assert checkpoint.passage.max_positions == checkpoint.passage_max_tokens == checkpoints.POSITIONS
    with pytest.raises(InvalidInputError, match="more than the 160 positions"):
        read(tmp_path / "source", pooling="cls", normalise=True, passage_max_tokens=161)


@pytest.mark.parametrize("model_type", ["gpt2", "t5", None])
def test_other_families_are_refused_by_name(bert, model_type):
    edit_json(bert / "config.json", model_type=model_type)
    with pytest.raises(EncoderError, match=r"not supported; supported are bert, .*xlm-roberta"):
        read(bert, pooling="cls", normalise=False)


def test_the_licence_comes_from_the_model_card(bert):
    (bert / "README.md").write_text("---\nlanguage: en\nlicense: cc-by-nc-4.0\n---\n\nlicense: mit\n", encoding="utf-8")
    assert read(bert, pooling="cls", normalise=False).licence == "cc-by-nc-4.0"


@pytest.mark.parametrize("text", ["", "[]", "{", "\ufeff{}"])
def test_a_damaged_config_is_named(bert, text):
    (bert / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(EncoderError, match=r"config\.json is not"):
        read(bert, pooling="cls", normalise=False)


def test_a_folder_that_is_no_checkpoint_says_so(tmp_path):
    with pytest.raises(EncoderError, match=r"no config\.json"):
        read(tmp_path)


def test_reading_a_checkpoint_imports_no_torch():
    """Only conversion needs it; the cache is found without."""
    program = (
        "import sys, dpr_lance.trainer.bundles.export, dpr_lance.trainer.checkpoints.description\n"
        "print({'torch', 'transformers', 'onnx', 'onnxruntime'} & sys.modules.keys())"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
