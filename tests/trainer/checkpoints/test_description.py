"""What a checkpoint says about itself is read, what it does not say is asked for, and no weight is left random."""

import collections
import dataclasses
import json
import pickle
import shutil
import subprocess
import sys
import types
import typing

import pytest
import torch
import transformers
from dpr_lance.trainer.bundles.export import cached_bundle, export
from dpr_lance.trainer.checkpoints.description import read_checkpoint
from dpr_lance.trainer.checkpoints.dpr_cp import unpack
from dpr_lance.trainer.checkpoints.locate import SHORT_NAMES, Located, locate
from dpr_lance.trainer.checkpoints.overrides import Overrides
from dpr_lance.trainer.checkpoints.tokenizer import load_tokenizer
from dpr_lance.trainer.checkpoints.towers import load_tower
from safetensors.torch import load_file, save_file

from dpr_lance.encoders.bundle import open_bundle
from dpr_lance.encoders.card import EncoderCard
from dpr_lance.errors import EncoderError, InvalidInputError
from tests.trainer import checkpoints_made as checkpoints
from tests.trainer.checkpoints_made import edit_json, write_json

torch.set_num_threads(1)
IDS = torch.tensor([[2, 5, 9, 12, 3]])
MASK = torch.ones_like(IDS)


def read(source, **said):
    return read_checkpoint(locate(source), Overrides(**said))


@pytest.fixture
def pair(tmp_path):
    """(folder, question model, passage model)."""
    question, passage = checkpoints.dpr_pair(tmp_path / "pair")
    return tmp_path / "pair", question, passage


@pytest.fixture
def bert(tmp_path):
    checkpoints.plain(tmp_path / "bert", "bert")
    return tmp_path / "bert"


@pytest.fixture
def pipeline(tmp_path):
    checkpoints.sentence_transformer(tmp_path / "pipeline", similarity_fn_name="cosine")
    return tmp_path / "pipeline"


# Weights


def test_a_context_encoder_is_loaded_as_what_it_is(pair):
    """AutoModel makes a randomly initialised question encoder of it; here each side has its own weights."""
    folder, question, passage = pair
    with torch.no_grad():
        expected = [model(IDS, MASK).pooler_output for model in (question, passage)]
        wrong = transformers.AutoModel.from_pretrained(folder / "passage")
        assert type(wrong).__name__ == "DPRQuestionEncoder"
        assert (wrong(IDS, MASK).pooler_output - expected[1]).abs().max() > 0.01
        checkpoint = read(folder)
        found = [load_tower(checkpoint, tower)(IDS, MASK) for tower in (checkpoint.question, checkpoint.passage)]
    torch.testing.assert_close(found, expected)


def test_a_missing_weight_is_named(pair):
    folder, _, _ = pair
    path = folder / "passage" / "model.safetensors"
    weights = load_file(path)
    name = "ctx_encoder.bert_model.encoder.layer.1.output.dense.weight"
    del weights[name]
    save_file(weights, path, metadata={"format": "pt"})
    checkpoint = read(folder)
    with pytest.raises(EncoderError, match=f"1 weights .*{name}"):
        load_tower(checkpoint, checkpoint.passage)


def test_a_weight_of_another_shape_is_an_error(bert):
    path = bert / "model.safetensors"
    weights = load_file(path)
    weights["embeddings.position_embeddings.weight"] = torch.zeros(10, 32)
    save_file(weights, path, metadata={"format": "pt"})
    checkpoint = read(bert, pooling="cls", normalise=False)
    with pytest.raises(EncoderError, match="position_embeddings"):
        load_tower(checkpoint, checkpoint.passage)


def test_weights_of_another_architecture_are_an_error(bert):
    """A config.json that belongs to other weights: every weight is missing, and that is said."""
    edit_json(bert / "config.json", model_type="distilbert", dim=32, n_layers=2, n_heads=2, hidden_dim=64)
    checkpoint = read(bert, pooling="cls", normalise=False)
    with pytest.raises(EncoderError, match="missing or misshapen"):
        load_tower(checkpoint, checkpoint.passage)


def test_an_unused_pooler_may_be_missing_or_there(bert):
    """Many checkpoints lack the pooler's weights; no encoder here uses them."""
    weights = {name: value for name, value in load_file(bert / "model.safetensors").items() if "pooler" not in name}
    checkpoint = read(bert, pooling="cls", normalise=False)
    with torch.no_grad():
        expected = load_tower(checkpoint, checkpoint.passage)(IDS, MASK)
        save_file(weights, bert / "model.safetensors", metadata={"format": "pt"})
        assert torch.equal(load_tower(checkpoint, checkpoint.passage)(IDS, MASK), expected)


def test_pickled_weights_are_read_as_tensors_only(bert, tmp_path):
    """Older Hub checkpoints have pytorch_model.bin alone: tensors are read from it, code in it is not run."""
    weights = load_file(bert / "model.safetensors")
    checkpoint = read(bert, pooling="cls", normalise=False)
    with torch.no_grad():
        expected = load_tower(checkpoint, checkpoint.passage)(IDS, MASK)
        (bert / "model.safetensors").unlink()
        torch.save(weights, bert / "pytorch_model.bin")
        assert torch.equal(load_tower(checkpoint, checkpoint.passage)(IDS, MASK), expected)
    torch.save(weights | {"evil": Evil(tmp_path / "trace")}, bert / "pytorch_model.bin")
    with pytest.raises(EncoderError, match="weights cannot be loaded"):
        load_tower(checkpoint, checkpoint.passage)
    assert not (tmp_path / "trace").exists()


def test_the_published_pairs_files_are_read(pair):
    """Those of 2020: pickled before torch 1.6's format, with position ids and a pooler that nothing uses."""
    folder, *models = pair
    checkpoint = read(folder)
    for tower, model in zip((checkpoint.question, checkpoint.passage), models, strict=True):
        prefix = f"{model.base_model_prefix}.bert_model."
        unused = {
            f"{prefix}embeddings.position_ids": torch.arange(checkpoints.POSITIONS)[None],
            f"{prefix}pooler.dense.weight": torch.ones(32, 32),
        }
        (tower.folder / "model.safetensors").unlink()
        state = model.state_dict() | unused
        torch.save(state, tower.folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
        with torch.no_grad():
            torch.testing.assert_close(load_tower(checkpoint, tower)(IDS, MASK), model(IDS, MASK).pooler_output)


def test_a_folder_without_weights_is_an_error(bert):
    (bert / "model.safetensors").unlink()
    checkpoint = read(bert, pooling="cls", normalise=False)
    with pytest.raises(EncoderError, match="weights cannot be loaded"):
        load_tower(checkpoint, checkpoint.passage)


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


# Pairs


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


# What nobody names is asked for


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


# sentence-transformers


OLD, NEW = "sentence_transformers.models.", "sentence_transformers.sentence_transformer.modules.pooling."


@pytest.mark.parametrize("prefix", [OLD, NEW])
@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": ["mean"], "include_prompt": True}, "mean"),
    ],
)
def test_old_and_new_pooling_files_are_read(pipeline, prefix, config, pooling):
    text = (pipeline / "modules.json").read_text(encoding="utf-8").replace(OLD, prefix)
    (pipeline / "modules.json").write_text(text, encoding="utf-8")
    write_json(pipeline / "1_Pooling" / "config.json", config)
    assert read(pipeline).pooling == pooling


@pytest.mark.parametrize(
    "config", [{"pooling_mode": "max"}, {"pooling_mode": ["cls", "mean"]}, {"pooling_mode_max_tokens": True}, {}]
)
def test_other_pooling_is_refused(pipeline, config):
    write_json(pipeline / "1_Pooling" / "config.json", config)
    with pytest.raises(EncoderError, match="not one of cls, mean"):
        read(pipeline)


def test_pooling_without_the_prompt_is_refused(pipeline):
    write_json(pipeline / "1_Pooling" / "config.json", {"pooling_mode": "mean", "include_prompt": False})
    assert read(pipeline).pooling == "mean"
    edit_json(pipeline / "config_sentence_transformers.json", prompts={"query": "find: "})
    with pytest.raises(EncoderError, match="leaves out the prompt"):
        read(pipeline)


@pytest.mark.parametrize(
    ("similarity", "normalise"),
    [("cosine", True), ("dot", False)],
)
def test_without_the_module_normalisation_follows_from_the_similarity(tmp_path, similarity, normalise):
    """Cosine is the inner product of unit vectors; an inner product of the model's own is left as it is."""
    folder = tmp_path / "source"
    checkpoints.sentence_transformer(folder, modules=["Transformer", "Pooling"], similarity_fn_name=similarity)
    assert read(folder).normalise is normalise


def test_without_module_and_similarity_normalisation_is_asked_for(tmp_path):
    checkpoints.sentence_transformer(tmp_path / "source", modules=["Transformer", "Pooling"])
    with pytest.raises(EncoderError, match="does not name its normalisation"):
        read(tmp_path / "source")
    assert read(tmp_path / "source", normalise=False).normalise is False


def test_other_similarities_are_refused(tmp_path):
    folder = tmp_path / "source"
    checkpoints.sentence_transformer(folder, modules=["Transformer", "Pooling"], similarity_fn_name="euclidean")
    with pytest.raises(EncoderError, match="'euclidean' is not supported"):
        read(folder)


@pytest.mark.parametrize(
    ("prompts", "default", "expected"),
    [
        ({"query": "q: ", "document": "d: "}, None, ("q: ", "d: ")),
        ({"query": "q: ", "passage": "p: "}, None, ("q: ", "p: ")),
        ({"any": "a: ", "query": "q: "}, "any", ("q: ", "a: ")),
        ({"other": "o: "}, None, ("", "")),
    ],
)
def test_prompts_become_prefixes(pipeline, prompts, default, expected):
    edit_json(pipeline / "config_sentence_transformers.json", prompts=prompts, default_prompt_name=default)
    checkpoint = read(pipeline)
    assert (checkpoint.question_prefix, checkpoint.passage_prefix) == expected


def test_max_tokens_come_from_either_file(pipeline):
    """max_seq_length in older files; sentence-transformers 6 keeps it as the tokenizer's model_max_length."""
    assert read(pipeline).passage_max_tokens == 48
    write_json(pipeline / "sentence_bert_config.json", {})
    edit_json(pipeline / "tokenizer_config.json", model_max_length=24)
    assert read(pipeline).passage_max_tokens == 24
    edit_json(pipeline / "tokenizer_config.json", model_max_length=10**30)
    assert read(pipeline).passage_max_tokens == checkpoints.POSITIONS


@pytest.mark.parametrize("modules", [["Transformer"], ["Transformer", "Pooling", "LayerNorm"], ["Router"]])
def test_other_modules_are_refused(tmp_path, modules):
    checkpoints.sentence_transformer(tmp_path / "source", modules=modules)
    with pytest.raises(EncoderError, match=f"{', '.join(modules)} are not supported"):
        read(tmp_path / "source")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"activation_function": "torch.nn.modules.activation.Softplus"}, "'Softplus' is not one of"),
        ({"activation_function": "os.system"}, "'system' is not one of"),
        ({"use_residual": True}, "residual"),
        ({"module_input_name": "token_embeddings"}, "token_embeddings"),
    ],
)
def test_other_dense_layers_are_refused(tmp_path, config, message):
    checkpoints.sentence_transformer(tmp_path / "source", modules=["Transformer", "Pooling", "Dense"])
    write_json(tmp_path / "source" / "2_Dense" / "config.json", {"in_features": 32, "out_features": 8} | config)
    with pytest.raises(EncoderError, match=message):
        read(tmp_path / "source")


def test_an_old_pipeline_with_its_transformer_in_a_sub_folder_is_read(pipeline):
    """Before 2021 the transformer lay in 0_Transformer/."""
    described = ("modules.json", "1_Pooling", "config_sentence_transformers.json")
    moved = [path for path in pipeline.iterdir() if path.name not in described]
    (pipeline / "0_Transformer").mkdir()
    for path in moved:
        path.rename(pipeline / "0_Transformer" / path.name)
    modules = checkpoints.read_json(pipeline / "modules.json")
    write_json(pipeline / "modules.json", [modules[0] | {"path": "0_Transformer"}, *modules[1:]])
    checkpoint = read(pipeline)
    assert checkpoint.passage_max_tokens == 48
    assert load_tower(checkpoint, checkpoint.passage)(IDS, MASK).shape == (1, 32)


# Tokenizers


def pieces(folder, text="Paris"):
    return load_tokenizer(read(folder)).encode(text, add_special_tokens=False).tokens


def test_a_cased_dpr_checkpoint_stays_cased(tmp_path):
    """transformers' DPR tokenizer lowers whatever it is told, and writes that down beside the contrary."""
    checkpoints.dpr_pair(tmp_path / "pair", cased=True)
    assert pieces(tmp_path / "pair") == ["Paris"]
    for side, name in (("question", "DPRQuestionEncoderTokenizer"), ("passage", "DPRContextEncoderTokenizer")):
        folder = tmp_path / "pair" / side
        wrong = getattr(transformers, name).from_pretrained(folder, do_lower_case=False)
        assert wrong.tokenize("Paris") == ["paris"]  # the trap
        wrong.save_pretrained(folder)
        assert json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["normalizer"]["lowercase"] is True
    assert pieces(tmp_path / "pair") == ["Paris"]


@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize("cased", [True, False])
def test_vocabulary_files_alone_are_enough(tmp_path, cased, stated):
    """vocab.txt with do_lower_case, or without: then the vocabulary tells, because one with capitals is cased."""
    checkpoints.dpr_pair(tmp_path / "pair", cased=cased)
    for side in ("question", "passage"):
        folder = tmp_path / "pair" / side
        (folder / "tokenizer.json").unlink()
        write_json(folder / "tokenizer_config.json", {"do_lower_case": not cased} if stated else {})
        checkpoints.write_vocabulary(folder, cased=cased)
    assert pieces(tmp_path / "pair") == ["Paris" if cased else "paris"]


def test_sentence_transformers_lower_case_means_the_text(tmp_path):
    """do_lower_case there lowers the text even for a cased tokenizer."""
    checkpoints.sentence_transformer(tmp_path / "source")
    checkpoints.bert_tokenizer(tmp_path / "source", cased=True)
    edit_json(tmp_path / "source" / "config.json", vocab_size=500)
    assert pieces(tmp_path / "source") == ["Paris"]
    edit_json(tmp_path / "source" / "sentence_bert_config.json", do_lower_case=True)
    assert pieces(tmp_path / "source") == ["paris"]


def test_padding_and_truncation_of_the_file_are_not_kept(pipeline):
    """MiniLM's tokenizer.json pads to 128 and cuts there."""
    values = checkpoints.read_json(pipeline / "tokenizer.json")
    fixed = {"strategy": {"Fixed": 20}, "direction": "Right", "pad_to_multiple_of": None}
    values["padding"] = fixed | {"pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
    values["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    write_json(pipeline / "tokenizer.json", values)
    tokenizer = load_tokenizer(read(pipeline))
    assert [len(tokenizer.encode(text).ids) for text in ("paris", "paris " * 30)] == [3, 32]


def test_a_tokenizer_of_another_model_is_refused(bert):
    edit_json(bert / "config.json", vocab_size=20)
    with pytest.raises(EncoderError, match="do not belong together"):
        load_tokenizer(read(bert, pooling="cls", normalise=False))


def test_a_checkpoint_without_tokenizer_is_an_error(bert):
    (bert / "tokenizer.json").unlink()
    with pytest.raises(EncoderError, match=r"neither tokenizer.json nor vocab.txt"):
        load_tokenizer(read(bert, pooling="cls", normalise=False))


# The original project's file


@pytest.fixture
def published(tmp_path):
    """(a `.cp` file's parts, the folder of its base model, the two models), projection 16."""
    question, passage = checkpoints.dpr_pair(tmp_path / "models", projection=16)
    base = tmp_path / "base"
    checkpoints.plain(base, "bert")
    state = {}
    for prefix, model in (("question_model.", question.question_encoder), ("ctx_model.", passage.ctx_encoder)):
        state |= {prefix + name: value for name, value in model.bert_model.state_dict().items()}
        state |= {f"{prefix}encode_proj.{name}": value for name, value in model.encode_proj.state_dict().items()}
        state[f"{prefix}pooler.dense.weight"] = torch.zeros(32, 32)
        state[f"{prefix}embeddings.position_ids"] = torch.arange(checkpoints.POSITIONS)
    parts = {"model_dict": state, "optimizer_dict": {"state": {}}, "scheduler_dict": {}, "offset": 0, "epoch": 39}
    return parts, base, question, passage


@pytest.mark.parametrize("zipped", [True, False], ids=["new file", "file before torch 1.6"])
def test_a_cp_file_gives_the_published_vectors(published, tmp_path, zipped):
    parts, base, question, passage = published
    settings = {"do_lower_case": True, "pretrained_model_cfg": "bert-base-uncased", "projection_dim": 16}
    torch.save(parts | {"encoder_params": settings}, tmp_path / "nq.cp", _use_new_zipfile_serialization=zipped)
    checkpoint = read_checkpoint(unpack(tmp_path / "nq.cp", base, tmp_path / "unpacked"))
    assert (checkpoint.name, checkpoint.passage.projection, checkpoint.pooling) == ("nq", 16, "cls")
    with torch.no_grad():
        for tower, model in ((checkpoint.question, question), (checkpoint.passage, passage)):
            torch.testing.assert_close(load_tower(checkpoint, tower)(IDS, MASK), model(IDS, MASK).pooler_output)
    card = export(tmp_path / "nq.cp", tmp_path / "out", precision="fp32", base=base)
    assert (card.name, card.dimension, card.zero_token_types) == ("nq", 16, True)
    assert card.source.endswith("nq.cp")


def test_settings_pickled_by_omegaconf_are_passed_over(published, tmp_path):
    """Files of 2021 and later hold OmegaConf objects: stand-ins take them, the library need not be installed."""
    parts, base, _, _ = published
    torch.save(parts | {"encoder_params": {"encoder": omegaconf_like()}}, tmp_path / "nq.cp")
    assert b"omegaconf" in (tmp_path / "nq.cp").read_bytes()
    assert read_checkpoint(unpack(tmp_path / "nq.cp", base, tmp_path / "unpacked")).passage.dimension == 16


def omegaconf_like():
    """An object whose pickle names the class omegaconf.dictconfig.DictConfig and has a state."""
    module = types.ModuleType("omegaconf.dictconfig")
    module.DictConfig = type("DictConfig", (), {"__module__": "omegaconf.dictconfig"})
    sys.modules |= {"omegaconf": types.ModuleType("omegaconf"), "omegaconf.dictconfig": module}
    settings = module.DictConfig()
    settings._content = {"pretrained_model_cfg": "bert-base-uncased"}
    settings._metadata = [dict, int, list, typing.Any, collections.defaultdict(dict)]  # as the real ones have
    return settings


def test_code_in_a_cp_file_is_not_run(published, tmp_path):
    parts, base, _, _ = published
    torch.save(parts | {"encoder_params": Evil(tmp_path / "trace")}, tmp_path / "evil.cp")
    with pytest.raises(EncoderError, match="as tensors only"):
        unpack(tmp_path / "evil.cp", base, tmp_path / "unpacked")
    (tmp_path / "plain.cp").write_bytes(pickle.dumps({"model_dict": Evil(tmp_path / "trace")}, protocol=2))
    with pytest.raises(EncoderError, match="as tensors only"):
        unpack(tmp_path / "plain.cp", base, tmp_path / "unpacked")
    assert not (tmp_path / "trace").exists()


def test_a_cp_file_needs_a_base(published, tmp_path):
    torch.save(published[0], tmp_path / "nq.cp")
    with pytest.raises(InvalidInputError, match="`base`"):
        export(tmp_path / "nq.cp", tmp_path / "out")


def test_a_cp_file_with_a_missing_weight_is_an_error(published, tmp_path):
    parts, base, _, _ = published
    del parts["model_dict"]["ctx_model.encoder.layer.0.output.dense.weight"]
    torch.save(parts, tmp_path / "nq.cp")
    with pytest.raises(EncoderError, match=r"layer\.0\.output\.dense\.weight"):
        unpack(tmp_path / "nq.cp", base, tmp_path / "unpacked")


def test_a_reader_file_is_refused(published, tmp_path):
    parts, base, _, _ = published
    state = {name.replace("question_model", "encoder"): value for name, value in parts["model_dict"].items()}
    torch.save({"model_dict": state}, tmp_path / "reader.cp")
    with pytest.raises(EncoderError, match=r"no weights named question_model\."):
        unpack(tmp_path / "reader.cp", base, tmp_path / "unpacked")


# Sources


def test_short_names_are_the_published_pairs(hub):
    """dpr-single-nq is the question and the context encoder, at the commits that the cache has."""
    question, passage = SHORT_NAMES["dpr-single-nq"]
    first, second = hub(question, "1" * 40), hub(passage, "2" * 40)
    located = locate("dpr-single-nq")
    assert (located.question, located.passage) == (first, second)
    assert located.name == "dpr-single-nq"
    assert located.source == f"{question}@{'1' * 40} + {passage}@{'2' * 40}"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An offline Hugging Face cache; the fixture adds a repository's snapshot to it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def add(repository, commit, branch="main", weights="model.safetensors"):
        folder = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
        snapshot = folder / "snapshots" / commit
        snapshot.mkdir(parents=True)
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / branch).write_text(commit, encoding="utf-8")
        (snapshot / weights).write_bytes(b"")
        return snapshot

    return add


def test_a_revision_is_pinned_to_its_commit(hub):
    hub("someone/encoder", "a" * 40)
    tagged = hub("someone/encoder", "b" * 40, branch="v1")
    assert locate("someone/encoder").source == f"someone/encoder@{'a' * 40}"
    assert locate("someone/encoder", revision="v1") == Located(
        "encoder", f"someone/encoder@{'b' * 40}", tagged, tagged, tagged
    )
    assert locate("someone/encoder", revision="b" * 40).question == tagged
    pair = locate(("someone/encoder", "someone/encoder"), revision=("a" * 40, "b" * 40))
    assert pair.question != pair.passage


def test_a_repository_with_pickled_weights_alone_is_found(hub):
    """The published DPR pairs have no safetensors."""
    folder = hub("someone/old", "c" * 40, weights="pytorch_model.bin")
    assert locate("someone/old").passage == folder


def test_a_hub_checkpoint_in_the_cache_needs_the_hub_no_more(hub, pipeline, tmp_path, monkeypatch):
    """Made once, found again without the repository; the card has the commit; another revision is another bundle."""
    monkeypatch.setenv("DPR_LANCE_CACHE", str(tmp_path / "cache"))
    snapshot = hub("someone/encoder", "a" * 40)
    shutil.copytree(pipeline, snapshot, dirs_exist_ok=True)
    folder = cached_bundle("someone/encoder", precision="fp32")
    assert open_bundle(folder).card.source == f"someone/encoder@{'a' * 40}"
    assert open_bundle(folder).card.name == "encoder"
    shutil.rmtree(tmp_path / "hub")
    assert cached_bundle("someone/encoder", precision="fp32") == folder
    with pytest.raises(EncoderError, match="at revision 'v2'"):
        cached_bundle("someone/encoder", precision="fp32", revision="v2")


@pytest.mark.parametrize("named", ["someone/nothing", "nothing"])
def test_a_hub_name_that_cannot_be_had_is_an_error(hub, named):
    with pytest.raises(EncoderError, match=f"no folder is named '{named}'.*HF_HUB_OFFLINE"):
        locate(named)


@pytest.mark.parametrize("named", ["./nothing", "/no/such/folder", "a/b/c"])
def test_a_path_that_does_not_exist_is_not_looked_for_on_the_hub(named):
    with pytest.raises(EncoderError, match="does not exist"):
        locate(named)


def test_a_local_folder_has_no_revision(bert):
    with pytest.raises(InvalidInputError, match="local path"):
        locate(bert, revision="main")
    with pytest.raises(InvalidInputError, match="two revisions"):
        locate("someone/encoder", revision=("a", "b"))


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
