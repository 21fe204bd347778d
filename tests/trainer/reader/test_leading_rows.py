"""A reader whose last layer computes the first tokens alone gives the same numbers for them."""

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402
import transformers  # noqa: E402
from dpr_lance.trainer.bundles.onnx_graph import write_graph  # noqa: E402
from dpr_lance.trainer.reader.leading_rows import LeadingRows, has_leading_rows  # noqa: E402
from dpr_lance.trainer.reader.model import ReaderModel, keep_layers  # noqa: E402

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 50}
FAMILIES = {
    "bert": lambda: transformers.BertModel(transformers.BertConfig(**SIZES)),
    "roberta": lambda: transformers.RobertaModel(transformers.RobertaConfig(**SIZES)),
    "electra": lambda: transformers.ElectraModel(transformers.ElectraConfig(**SIZES, embedding_size=16)),
}


def model(family, *, layers=None, deeper=None, **heads):
    torch.manual_seed(0)
    made = ReaderModel(FAMILIES[family](), **heads).eval()
    keep_layers(made, layers, deeper)
    return made


def batch():
    """Two sequences of different lengths."""
    ids = torch.arange(5, 19).reshape(2, 7)
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("rows", [1, 7])
def test_spans_are_read_after_deeper_layers_when_all_tokens_are_computed(rows):
    whole = model("bert", layers=[0], deeper=[1])
    with torch.no_grad():
        expected = whole(**batch())
        found = LeadingRows(whole)(**batch(), rows=torch.tensor(rows))
        shallow = model("bert", layers=[0])(**batch())
    torch.testing.assert_close(found[0], expected[0])
    torch.testing.assert_close(found[0], shallow[0])  # selection reads the first layer
    assert not torch.allclose(expected[1], shallow[1], atol=1e-3)
    assert found[1].shape == (2, rows)
    if rows == 7:
        torch.testing.assert_close(found[1:], expected[1:])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rows", [1, 3, 7])
def test_the_first_tokens_are_those_of_the_whole_reader(family, rows):
    whole = model(family, pools=True)
    with torch.no_grad():
        expected = whole(**batch())
        found = LeadingRows(whole)(**batch(), rows=torch.tensor(rows))
        after = whole(**batch())
    assert found[1].shape == found[2].shape == (2, rows)
    for one, other, again in zip(found, expected, after, strict=True):
        torch.testing.assert_close(one, other if one.ndim == 1 else other[:, :rows])
        torch.testing.assert_close(again, other, rtol=0, atol=0)  # the reader itself is as before


@pytest.mark.parametrize("deeper", [None, [1]])
def test_the_graph_takes_any_number_of_rows(tmp_path, deeper):
    whole = model("bert", deeper=deeper)
    outputs = {"select": {0: "batch"}, "start": {0: "batch", 1: "rows"}, "end": {0: "batch", 1: "rows"}}
    write_graph(LeadingRows(whole).eval(), tmp_path / "reader.onnx", token_types=False, outputs=outputs, rows=True)
    session = onnxruntime.InferenceSession(str(tmp_path / "reader.onnx"))
    feed = {name: value.numpy() for name, value in batch().items()}
    with torch.no_grad():
        expected = [value.numpy() for value in whole(**batch())]
    for rows in (1, 2, 7):
        select, start, end = session.run(None, feed | {"rows": np.array(rows)})
        np.testing.assert_allclose(select, expected[0], atol=1e-5)
        if rows == 7 or deeper is None:  # deeper layers read the tokens that are computed
            np.testing.assert_allclose(start, expected[1][:, :rows], atol=1e-5)
            np.testing.assert_allclose(end, expected[2][:, :rows], atol=1e-5)


def test_the_weights_are_listed_once():
    whole = model("bert")
    assert {name.removeprefix("model.") for name in LeadingRows(whole).state_dict()} == set(whole.state_dict())


def test_other_layers_are_told_apart():
    assert has_leading_rows(model("bert"))
    config = transformers.DistilBertConfig(dim=16, n_layers=1, n_heads=2, hidden_dim=24, vocab_size=50)
    assert not has_leading_rows(ReaderModel(transformers.DistilBertModel(config)))
