"""The reader's torch module: the same logits after a round trip, and fewer layers."""

import pytest
import torch
from dpr_lance.trainer.reader.model import ReaderModel, keep_layers, load_model, save_model
from safetensors.torch import load_file, save_file

from dpr_lance import EncoderError, InvalidInputError
from tests.trainer.checkpoints_made import FAMILIES, plain, read_json


def inputs():
    ids = torch.randint(5, 20, (2, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    return ids, mask


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_reader_gives_the_same_logits(family, tmp_path):
    model = ReaderModel(plain(tmp_path / "plain", family), pools=True).eval()
    save_model(model, tmp_path / "reader")
    with torch.no_grad():
        select, start, end = model(*inputs())
        again = load_model(tmp_path / "reader")(*inputs())
    assert select.shape == (2,)
    assert start.shape == end.shape == (2, 9)
    assert all(torch.equal(one, other) for one, other in zip((select, start, end), again, strict=True))
    assert read_json(tmp_path / "reader" / "config.json")["architectures"] == ["DprLanceReader"]


def test_heads_that_a_reader_lacks_are_missing_in_its_checkpoint(tmp_path):
    body = plain(tmp_path / "plain", "bert")
    for given, outputs in (({"extracts": False}, 1), ({"selects": False}, 2)):
        save_model(ReaderModel(body, **given).eval(), tmp_path / "reader")
        assert len(load_model(tmp_path / "reader")(*inputs())) == outputs


def test_a_weight_that_is_missing_is_named(tmp_path):
    save_model(ReaderModel(plain(tmp_path / "plain", "bert")), tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["span.bias"]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(EncoderError, match=r"span\.bias"):
        load_model(tmp_path)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_spans_are_read_from_deeper_layers(family, tmp_path):
    model = ReaderModel(plain(tmp_path / "plain", family), pools=True).eval()
    with torch.no_grad():
        whole = model(*inputs())
        keep_layers(model, [0], [1])
        select, start, end = model(*inputs())
        assert not torch.equal(select, whole[0])
        for one, other in zip((start, end), whole[1:], strict=True):
            torch.testing.assert_close(one[0], other[0])
            torch.testing.assert_close(one[1, :6], other[1, :6])  # of the tokens that are not hidden
        part = model.read(*inputs(), None, spans_of=torch.tensor([1]))
        assert torch.equal(part[0], select)
        torch.testing.assert_close(part[1], start[1:])
        save_model(model, tmp_path / "reader")
        again = load_model(tmp_path / "reader")(*inputs())
        assert all(torch.equal(one, other) for one, other in zip((select, start, end), again, strict=True))
        keep_layers(model, [0, 1], [1])  # layers are counted through
        torch.testing.assert_close(model(*inputs())[0], whole[0])
    assert read_json(tmp_path / "reader" / "config.json")["span_layers"] == 1
    with pytest.raises(InvalidInputError, match=r"span_layers=\[3\]: name some of the 3 layers"):
        keep_layers(model, None, [3])


def test_layers_that_cannot_follow_others_are_refused(tmp_path):
    model = ReaderModel(plain(tmp_path / "plain", "distilbert"))
    with pytest.raises(EncoderError, match="cannot be read from further layers of a DistilBertModel"):
        keep_layers(model, None, [0])


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_a_student_has_the_layers_that_it_keeps(family, tmp_path):
    model = ReaderModel(plain(tmp_path / "plain", family)).eval()
    with torch.no_grad():
        whole = model(*inputs())[0]
        keep_layers(model, [1, 0])
        assert not torch.equal(model(*inputs())[0], whole)
        keep_layers(model, [1, 0])
        assert torch.equal(model(*inputs())[0], whole)
        keep_layers(model, [1])
        kept = model(*inputs())[0]
        save_model(model, tmp_path / "reader")
        assert torch.equal(load_model(tmp_path / "reader")(*inputs())[0], kept)
    with pytest.raises(InvalidInputError, match=r"layers=\[1\]: name some of the 1 layers"):
        keep_layers(model, [1])


def test_a_modernbert_keeps_all_of_its_layers(tmp_path):
    with pytest.raises(EncoderError, match="cannot be left out"):
        keep_layers(ReaderModel(plain(tmp_path, "modernbert")), [0])
