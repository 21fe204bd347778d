"""The files of sentence-transformers, old and new."""

import pytest
from dpr_lance.trainer.checkpoints.towers import load_tower

from dpr_lance import EncoderError
from tests.trainer import checkpoints_made as checkpoints
from tests.trainer.checkpoints_made import edit_json, write_json
from tests.trainer.checkpoints_read import IDS, MASK, read

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
