"""The original project's checkpoint file."""

import collections
import pickle
import sys
import types
import typing

import pytest
import torch
from dpr_lance.trainer.bundles.export import export
from dpr_lance.trainer.checkpoints.description import read_checkpoint
from dpr_lance.trainer.checkpoints.dpr_cp import unpack
from dpr_lance.trainer.checkpoints.towers import load_tower

from dpr_lance import EncoderError, InvalidInputError
from tests.trainer import checkpoints_made as checkpoints
from tests.trainer.checkpoints_read import IDS, MASK, Evil


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
