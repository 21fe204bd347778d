"""Weights read back from an int8 ONNX file are those that were quantised, rounded."""

import numpy as np
import pytest
import torch
import transformers
from dpr_lance.trainer.reader.packaged import compared, cross_encoder
from dpr_lance.trainer.reader.unquantised import read_weights

from dpr_lance import EncoderError
from tests.trainer.reader.published import published


def test_the_restored_cross_encoder_scores_as_the_file_does(tmp_path):
    model = published(tmp_path)
    restored = read_weights(tmp_path / "model.onnx")
    expected = {name: value.numpy() for name, value in model.state_dict().items()}
    assert restored.keys() == expected.keys()
    for name, value in expected.items():
        step = (value.max() - value.min()) / 255 if value.ndim > 1 else 1e-6
        assert np.abs(restored[name] - value).max() <= step, name
    assert compared(cross_encoder(restored), tmp_path / "model.onnx", tmp_path / "tokenizer.json") < 0.5
    # Other weights do not: the layers are restored to their places.
    torch.manual_seed(1)
    other = transformers.BertForSequenceClassification(model.config).eval()
    assert compared(other, tmp_path / "model.onnx", tmp_path / "tokenizer.json") > 0.5


def test_a_file_without_quantised_weights_is_refused(tmp_path):
    published(tmp_path, quantised=False)
    with pytest.raises(EncoderError, match="no quantised BERT"):
        read_weights(tmp_path / "model.onnx")
