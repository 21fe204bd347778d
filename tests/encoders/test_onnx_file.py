"""Weights in other files are found wherever in an ONNX file they are named."""

import numpy as np
import pytest

from dpr_lance.encoders.onnx_file import external_data
from dpr_lance.errors import EncoderError

onnx = pytest.importorskip("onnx")


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
        with pytest.raises(EncoderError, match="not an ONNX file"):
            external_data(nonsense)
