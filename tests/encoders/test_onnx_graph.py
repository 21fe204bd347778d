"""One graph: where it is run, and what is refused of a graph that is damaged or made by someone else."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from dpr_lance.encoders.bundle import open_bundle
from dpr_lance.encoders.loading import DEFAULT_ENCODER, PACKAGED, load_encoder
from dpr_lance.encoders.onnx_encoder import encoder_graph
from dpr_lance.encoders.onnx_graph import CPU, GPU, Graph, providers
from dpr_lance.errors import EncoderError
from tests.encoders.tiny_bundle import made, rewritten, tiny_graph, tiny_tokenizer

onnx = pytest.importorskip("onnx")

BUILT_WITH_CUDA = ["TensorrtExecutionProvider", GPU, CPU]


@pytest.mark.parametrize(
    ("precision", "available", "wanted"),
    [
        ("fp32", BUILT_WITH_CUDA, [GPU, CPU]),
        ("fp16", BUILT_WITH_CUDA, [GPU, CPU]),
        ("int8", BUILT_WITH_CUDA, [CPU]),
        ("fp32", ["AzureExecutionProvider", CPU], [CPU]),
    ],
)
def test_the_gpu_comes_first_where_it_has_kernels(precision, available, wanted):
    assert providers(precision, available) == wanted


def test_the_names_are_those_of_onnxruntime():
    """A name that it does not know would be passed over in silence."""
    assert {CPU, GPU} <= set(onnxruntime.get_all_providers())


def test_int8_runs_one_sequence_at_a_time_on_the_cpu():
    bundle = open_bundle(PACKAGED / DEFAULT_ENCODER)
    graph = Graph(bundle, "encoder.onnx", encoder_graph(bundle.card))
    assert graph.on_cpu
    assert graph.budget == 0


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


def test_a_file_that_is_no_graph_is_named(tmp_path):
    (tmp_path / "no.onnx").write_bytes(b"not a graph")
    made(tmp_path, graph=tmp_path / "no.onnx")
    with pytest.raises(EncoderError, match=r"encoder.onnx cannot be loaded: it is not an ONNX file"):
        load_encoder(tmp_path / "bundle").encode_questions(["a"])
