"""Where a graph is run: a GPU serves the precisions that have kernels there, and without one all is on the CPU."""

import onnxruntime
import pytest

from dpr_lance.encoders.bundle import open_bundle
from dpr_lance.encoders.onnx_encoder import DEFAULT_ENCODER, PACKAGED
from dpr_lance.encoders.onnx_graph import CPU, GPU, Graph, providers

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
    graph = Graph(open_bundle(PACKAGED / DEFAULT_ENCODER), "encoder.onnx")
    assert graph.on_cpu
    assert graph.budget == 0
