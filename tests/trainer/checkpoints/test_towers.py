"""Towers: no weight is left random, and no code in weights is run."""

import pytest
import torch
import transformers
from dpr_lance.trainer.checkpoints.towers import load_tower
from safetensors.torch import load_file, save_file

from dpr_lance import EncoderError
from tests.trainer import checkpoints_made as checkpoints
from tests.trainer.checkpoints_made import edit_json
from tests.trainer.checkpoints_read import IDS, MASK, Evil, read


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
