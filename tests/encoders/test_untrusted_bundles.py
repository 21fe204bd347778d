"""Bundles that are damaged or made by someone else: whatever is wrong is an `EncoderError` that names the file."""

import hashlib
import json
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, processors

from dpr_lance.encoders.bundle import CARD, MANIFEST, open_bundle, write_bundle
from dpr_lance.encoders.card import EncoderCard
from dpr_lance.encoders.onnx_encoder import OnnxEncoder, load_encoder
from dpr_lance.encoders.onnx_file import external_data
from dpr_lance.errors import EncoderError
from tests.encoders.test_onnx_encoder import CARD as TINY
from tests.encoders.test_onnx_encoder import tiny_graph, tiny_tokenizer

onnx = pytest.importorskip("onnx")


def made(tmp_path, *, graph=None, tokenizer=None, card=TINY):
    """A bundle of these files, with a manifest that fits them."""
    graph = graph or tiny_graph(tmp_path / "graph.onnx")
    files = {"tokenizer.json": tokenizer or tiny_tokenizer(tmp_path), "encoder.onnx": graph}
    return write_bundle(tmp_path / "bundle", card, files, precision="fp32", replace=True).folder


def rewritten(folder, name, content):
    """Put other contents into a file, and say so in the manifest, as a forger would."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / MANIFEST).write_text(json.dumps(manifest))


WRONG = [None, True, 3, -1, 1.5, "x", [], {}, 10**400]


@pytest.mark.parametrize("field", [field.name for field in fields(EncoderCard)])
def test_each_field_of_a_card_has_its_type_or_is_named(field):
    right = json.loads(TINY.to_json())
    for value in WRONG:
        text = json.dumps(right | {field: value})
        fits = type(value) is type(right[field]) or (type(right[field]), type(value)) == (float, int)
        if fits and value not in (-1, 10**400) and field not in ("similarity", "pooling", "title_style"):
            assert asdict(EncoderCard.from_json(text, place="encoder.json"))[field] == value
        else:
            with pytest.raises(EncoderError, match=rf"encoder\.json: .*{field}"):
                EncoderCard.from_json(text, place="encoder.json")


@pytest.mark.parametrize(
    ("field", "value"),
    [("dimension", 0), ("question_max_tokens", 0), ("passage_max_tokens", -3), ("projection", -1),
     ("hybrid_weight", float("nan")), ("hybrid_weight", float("inf")), ("hybrid_weight", -1.0), ("pooling", "max")],
)  # fmt: skip
def test_values_that_no_encoder_can_have_are_refused(field, value):
    with pytest.raises(EncoderError, match=field):
        EncoderCard.from_json(json.dumps(json.loads(TINY.to_json()) | {field: value}), place="encoder.json")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"format": true}', "1" * 5_000, "null", '{"format": 1}'])
def test_a_card_that_is_none_is_refused(text):
    with pytest.raises(EncoderError, match=r"encoder\.json"):
        EncoderCard.from_json(text, place="encoder.json")


def test_a_bundle_without_a_fingerprint_is_refused(tmp_path):
    folder = made(tmp_path)
    rewritten(folder, CARD, json.dumps(json.loads(TINY.to_json()) | {"fingerprint": " "}).encode())
    with pytest.raises(EncoderError, match="the fingerprint is blank"):
        open_bundle(folder)


def test_a_changed_card_of_the_same_size_is_found_when_the_bundle_is_opened(tmp_path):
    path = made(tmp_path) / CARD
    path.write_text(path.read_text().replace('"dimension": 8', '"dimension": 9'))
    with pytest.raises(EncoderError, match=r"encoder\.json is damaged"):
        open_bundle(path.parent)


@pytest.mark.parametrize("size", ["12", None, 1.5, True, -1])
@pytest.mark.parametrize("sha256", [None, "", 5, "z" * 64])
def test_types_in_a_manifest_are_checked(tmp_path, size, sha256):
    manifest = made(tmp_path) / MANIFEST
    for entry in ({"size": size}, {"sha256": sha256}):
        values = json.loads(manifest.read_text())
        values["files"]["tokenizer.json"] |= entry
        (tmp_path / "bundle" / MANIFEST).write_text(json.dumps(values))
        with pytest.raises(EncoderError, match=r"manifest\.json is damaged|tokenizer\.json is damaged"):
            open_bundle(manifest.parent)
        values["files"]["tokenizer.json"] = json.loads(manifest.read_text())["files"]["encoder.onnx"]


@pytest.mark.parametrize("content", [b"[" * 100_000, b"nonsense", b"null", b'{"model": {"type": "WordPiece"}}'])
def test_a_tokenizer_that_cannot_be_read_is_named(tmp_path, content):
    folder = made(tmp_path)
    rewritten(folder, "tokenizer.json", content)
    with pytest.raises(EncoderError, match=r"tokenizer\.json cannot be used"):
        load_encoder(folder).encode_questions(["a"])


def test_a_tokenizer_that_panics_is_named(tmp_path):
    """A special token that the template names and the vocabulary has not: `tokenizers` panics, or raises."""
    tokenizer = Tokenizer.from_file(str(tiny_tokenizer(tmp_path)))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    values = json.loads(tokenizer.to_str())
    values["post_processor"]["special_tokens"] = {}
    folder = made(tmp_path)
    rewritten(folder, "tokenizer.json", json.dumps(values).encode())
    encoder = load_encoder(folder)
    for call in (
        lambda: encoder.encode_questions(["a b"]),
        lambda: encoder.encode_passages([("c", "a b")]),
        lambda: encoder.excess_tokens([("c", "a b")]),
    ):
        with pytest.raises(EncoderError, match=r"tokenizer\.json cannot be used"):
            call()


def test_an_interruption_while_tokenising_stays_one(tmp_path, monkeypatch):
    encoder = OnnxEncoder(made(tmp_path))

    def interrupted(self, limit):
        with self._tokenizing():
            raise KeyboardInterrupt

    monkeypatch.setattr(OnnxEncoder, "_tokenizer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        encoder.encode_questions(["a"])


def graph_of(tmp_path, change):
    model = onnx.load(str(tiny_graph(tmp_path / "graph.onnx")))
    change(model)
    (tmp_path / "graph.onnx").write_bytes(model.SerializeToString())
    return tmp_path / "graph.onnx"


def outside(model, where=0, location="weights.bin"):
    """Move a tensor's content to another file, which is there."""
    tensor = model.graph.initializer[where]
    content = onnx.numpy_helper.to_array(tensor).tobytes()
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": str(len(content))}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return content


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "/etc/hostname"])
def test_a_graph_that_reads_a_file_that_no_manifest_lists_is_refused(tmp_path, location):
    contents = []
    graph = graph_of(tmp_path, lambda model: contents.append(outside(model, location=location)))
    folder = made(tmp_path, graph=graph)
    if not Path(location).is_absolute():
        (folder / location).write_bytes(contents[0])
    with pytest.raises(EncoderError, match=rf"encoder\.onnx keeps weights in another file \('{location}'\)"):
        load_encoder(folder).encode_questions(["a"])


def test_a_tensor_outside_is_found_wherever_it_is(tmp_path):
    tensor = onnx.numpy_helper.from_array(np.zeros(3, np.float32), "elsewhere")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    helper = onnx.helper
    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [3])

    def model(nodes=(), **graph):
        return helper.make_model(helper.make_graph(list(nodes), "g", [value], [value], **graph))

    constant = helper.make_node("Constant", [], ["c"], value=tensor)
    branch = helper.make_graph([constant], "branch", [], [value])
    sparse = onnx.SparseTensorProto(values=tensor)
    function = helper.make_function("mine", "F", [], ["c"], [constant], [helper.make_opsetid("", 17)])
    with_function = model()
    with_function.functions.append(function)
    for found in (
        model(initializer=[tensor]),
        model([constant]),
        model([helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)]),
        model(sparse_initializer=[sparse]),
        with_function,
    ):
        assert external_data(found.SerializeToString()) == "unnamed"
    assert external_data(model().SerializeToString()) is None
    for nonsense in (b"\x3b\x3c", b"\xff" * 30, b"\x3a\xff\x01a", b"\x01"):
        with pytest.raises(EncoderError, match="no ONNX file"):
            external_data(nonsense)


def renamed(old, new):
    def change(model):
        for node in model.graph.node:
            node.input[:] = [new if name == old else name for name in node.input]
            node.output[:] = [new if name == old else name for name in node.output]
        for value in (*model.graph.input, *model.graph.output):
            value.name = new if value.name == old else value.name

    return change


def typed(name, kind):
    def change(model):
        for value in (*model.graph.input, *model.graph.output):
            if value.name == name:
                value.type.tensor_type.elem_type = kind

    return change


def further_input(model):
    model.graph.input.append(onnx.helper.make_tensor_value_info("position_ids", onnx.TensorProto.INT64, ["b", "s"]))


def custom_operator(model):
    model.graph.node[0].domain = "someone.else"
    model.opset_import.append(onnx.helper.make_opsetid("someone.else", 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (renamed("input_ids", "ids"), "no input 'input_ids'"),
        (renamed("attention_mask", "mask_2"), "no input 'attention_mask'"),
        (renamed("vector", "embedding"), "named 'vector'"),
        (further_input, "input 'position_ids' is not one of"),
        (custom_operator, "cannot be loaded by onnxruntime"),
        (typed("input_ids", 6), "cannot be loaded by onnxruntime|not int64"),
        (typed("vector", 7), "cannot be loaded by onnxruntime|named 'vector'"),
    ],
)
def test_a_graph_with_other_inputs_outputs_or_operators_is_named(tmp_path, change, message):
    folder = made(tmp_path, graph=graph_of(tmp_path, change))
    with pytest.raises(EncoderError, match=rf"encoder\.onnx.*({message})"):
        load_encoder(folder).encode_questions(["a"])


def test_ids_that_the_graph_does_not_know_are_an_encoder_error(tmp_path):
    tokenizer = json.loads(tiny_tokenizer(tmp_path).read_text())
    tokenizer["model"]["vocab"]["a"] = 5_000
    folder = made(tmp_path)
    rewritten(folder, "tokenizer.json", json.dumps(tokenizer).encode())
    encoder = load_encoder(folder)
    with pytest.raises(EncoderError, match=r"encoder\.onnx failed on sequences of"):
        encoder.encode_questions(["a"])
    assert np.isfinite(encoder.encode_questions(["b"])).all()


def test_files_beside_those_of_the_manifest_are_not_read(tmp_path):
    folder = made(tmp_path)
    before = load_encoder(folder).encode_questions(["a b"])
    for name in ("question.onnx", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).write_text("nonsense")
    np.testing.assert_array_equal(load_encoder(folder).encode_questions(["a b"]), before)
