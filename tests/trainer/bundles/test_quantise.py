"""Int8 quantisation: what it computes on numbers that can be checked, and on real tiny transformers."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("torch")
pytest.importorskip("transformers")

from dpr_lance.trainer.bundles import quantise  # noqa: E402
from dpr_lance.trainer.bundles.calibration_text import (  # noqa: E402
    CALIBRATION_TEXTS,
    calibration_texts,
    single_sequences,
)
from dpr_lance.trainer.bundles.export import export  # noqa: E402

from dpr_lance.encoders.bundle import open_bundle  # noqa: E402
from dpr_lance.encoders.loading import DEFAULT_ENCODER, PACKAGED  # noqa: E402
from dpr_lance.encoders.onnx_encoder import OnnxEncoder  # noqa: E402
from dpr_lance.errors import EncoderError  # noqa: E402
from tests.contracts.encoder_contract import EncoderContract  # noqa: E402
from tests.trainer import checkpoints_made as checkpoints  # noqa: E402


def simple(weight):
    scales = np.abs(weight).max(axis=0) / quantise.LARGEST_WEIGHT
    return np.round(weight / scales) * scales


@pytest.fixture(scope="module")
def activations():
    """600 rows of 48 channels that move together, one of them twenty times larger: as real ones do."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(600, 12)) @ random.normal(size=(12, 48)) + 0.2 * random.normal(size=(600, 48))
    rows[:, 7] *= 20
    return rows.astype(np.float32)


def test_rounding_together_changes_products_less_than_rounding_one_by_one(activations):
    weight = np.random.default_rng(1).normal(size=(48, 20)).astype(np.float32)
    rounded, scales = quantise.round_together(weight, *quantise.feedback(activations.T @ activations))
    expected = activations @ weight
    together = np.square(activations @ (rounded * scales) - expected).sum()
    one_by_one = np.square(activations @ simple(weight) - expected).sum()
    assert together < 0.5 * one_by_one
    assert np.abs(rounded).max() <= quantise.LARGEST_WEIGHT


def test_channels_that_do_not_move_together_are_rounded_to_the_nearest():
    weight = np.random.default_rng(1).normal(size=(150, 20)).astype(np.float32)
    rounded, scales = quantise.round_together(weight, *quantise.feedback(np.diag(np.arange(1, 151, dtype=np.float32))))
    np.testing.assert_allclose(rounded * scales, simple(weight), atol=1e-6)


def test_errors_are_made_good_where_equation_3_of_gptq_says(activations):
    """Next to the paper's own way, row by row with the inverse of the second moments, on more rows than a block has."""
    random = np.random.default_rng(2)
    many = np.concatenate([activations, activations @ random.normal(size=(48, 100)).astype(np.float32)], axis=1)
    weight = random.normal(size=(148, 20)).astype(np.float32)
    moments = many.T @ many
    rounded, scales = quantise.round_together(weight, *quantise.feedback(moments))
    order = np.argsort(-np.diag(moments), kind="stable")
    damped = moments[np.ix_(order, order)].astype(np.float64)
    damped[np.diag_indices(148)] += quantise.DAMPING * np.diag(damped).mean()
    root = np.linalg.cholesky(np.linalg.inv(damped)).T
    left, expected = (weight / scales)[order].astype(np.float64), np.empty((148, 20))
    for row in range(148):
        expected[row] = np.clip(np.round(left[row]), -quantise.LARGEST_WEIGHT, quantise.LARGEST_WEIGHT)
        left[row:] -= np.outer(root[row, row:], (left[row] - expected[row]) / root[row, row])
    assert np.count_nonzero(rounded[order] != expected) <= 0.01 * expected.size


def test_smoothing_takes_outliers_and_leaves_quiet_channels(activations):
    weight = np.ones((48, 20), dtype=np.float32)
    largest = np.abs(activations).max(axis=0)
    largest[3] = 0.0
    factors = quantise.smoothing_factors(largest, weight)
    assert np.isclose(np.log(factors).mean(), 0, atol=1e-5)
    assert factors.argmax() == 7
    assert factors[3] == factors.min()
    assert np.count_nonzero(factors == factors.min()) == 24


def test_calibration_text_is_there_and_the_same_each_time():
    texts = calibration_texts()
    assert len(texts) == CALIBRATION_TEXTS
    assert len(set(texts)) > 0.9 * len(texts)
    assert texts == calibration_texts()
    assert min(map(len, texts)) >= 80


@pytest.fixture(scope="module", params=["bert", "distilbert", "mpnet"])
def precisions(request, tmp_path_factory):
    """The fp32 and the int8 bundle of one random tiny transformer."""
    folder = tmp_path_factory.mktemp(request.param)
    checkpoints.plain(folder / "checkpoint", request.param)
    for precision in ("fp32", "int8"):
        export(folder / "checkpoint", folder / precision, precision=precision, pooling="mean", normalise=True)
    return folder


def test_int8_points_where_fp32_does(precisions):
    fp32, int8 = (OnnxEncoder(precisions / name) for name in ("fp32", "int8"))
    cosines = (fp32.encode_passages(checkpoints.PASSAGES) * int8.encode_passages(checkpoints.PASSAGES)).sum(axis=1)
    assert cosines.min() > 0.995
    assert cosines.max() < 1 - 1e-9
    assert fp32.card.fingerprint != int8.card.fingerprint


def test_every_constant_matrix_is_int8(precisions):
    def kinds(name):
        graph = onnx.load(precisions / name / "encoder.onnx").graph
        return [node.op_type for node in graph.node], {tensor.name: tensor for tensor in graph.initializer}

    before, constants = kinds("fp32")
    after, weights = kinds("int8")
    multiplications = sum(kind == "MatMul" for kind in before) - sum(kind == "MatMul" for kind in after)
    assert multiplications == sum(kind in ("MatMulIntegerToFloat", "DynamicQuantizeMatMul") for kind in after) > 0
    int8 = [
        tensor for tensor in weights.values() if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) == 2
    ]
    assert len(int8) == multiplications
    assert not [name for name in constants if name in weights and name.startswith("onnx::MatMul")]


def test_the_same_graph_gives_the_same_bytes(precisions, tmp_path):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(precisions / "fp32" / "tokenizer.json"))
    for name in ("one.onnx", "two.onnx"):
        source = precisions / "fp32" / "encoder.onnx"
        quantise.quantise(source, tmp_path / name, single_sequences(tokenizer, checkpoints.POSITIONS))
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()


class TestInt8Contract(EncoderContract):
    """A vector does not depend on its neighbours, bit for bit."""

    @pytest.fixture
    def encoder(self, precisions):
        return OnnxEncoder(precisions / "int8")


def run(nodes, tensors, name, values, *, width):
    """What onnxruntime makes of `values`, the input `name`, through `nodes` to the output `rows` [n, width]."""
    import onnxruntime

    value, kind = onnx.helper.make_tensor_value_info, onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
    graph = onnx.helper.make_graph(
        nodes,
        "part",
        [value(name, kind, ["n", *values.shape[1:]])],
        [value("rows", onnx.TensorProto.FLOAT, ["n", width])],
        tensors,
    )
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid(quantise.MICROSOFT, 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["rows"], {name: values})[0]


def test_a_large_embedding_is_stored_by_rows():
    """Each row has its own scale, so that a small row keeps its resolution next to a large one."""
    random = np.random.default_rng(0)
    table = random.normal(size=(quantise.EMBEDDING_ROWS, 16)).astype(np.float32)
    table[5] *= 1e-3
    node = onnx.helper.make_node("Gather", ["table", "input_ids"], ["rows"], name="lookup")
    edit = quantise.Edit()
    nodes = quantise.int8_embedding("e", node, table, edit)
    rows = run(nodes, edit.tensors, "input_ids", np.array([5, 0, 999]), width=16)
    expected = table[[5, 0, 999]]
    assert (np.abs(rows - expected).max(axis=1) <= np.abs(expected).max(axis=1) / 254 * 1.001).all()


def test_a_small_token_keeps_its_resolution_beside_a_large_one():
    """A product by rows: a fiftieth of the largest is still right to a hundredth, and nothing stays nothing."""
    random = np.random.default_rng(0)
    values = random.normal(size=(4, 64)).astype(np.float32) * np.array([[1], [0.2], [0.02], [0]], np.float32)
    weight, scales = random.integers(-63, 64, size=(64, 16)).astype(np.int8), np.full(16, 0.01, np.float32)
    edit = quantise.Edit()
    parts = [("w", weight), ("s", scales), ("z", np.zeros(16, np.int8)), ("b", np.zeros(16, np.float32))]
    nodes = quantise.int8_by_rows("m", "values", [edit.tensor(name, part) for name, part in parts], "rows", 3.0, edit)
    rows = run(nodes, edit.tensors, "values", values, width=16)
    expected = values @ (weight * scales)
    assert (np.abs(rows - expected).max(axis=1) <= 0.01 * np.abs(expected).max(axis=1)).all()


def test_a_graph_without_matrices_is_refused(tmp_path):
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["a"], ["b"], name="i")],
        "none",
        [value("a", onnx.TensorProto.FLOAT, [1])],
        [value("b", onnx.TensorProto.FLOAT, [1])],
    )
    onnx.save(onnx.helper.make_model(graph), str(tmp_path / "none.onnx"))
    with pytest.raises(EncoderError, match=r"none.onnx has no multiplication by a constant matrix"):
        quantise.quantise(tmp_path / "none.onnx", tmp_path / "out.onnx", [([0], [0])])


def test_the_packaged_encoder_is_what_its_script_makes():
    """The bytes are compared by the script itself; here, that it was made by this kind of quantising."""
    graph = onnx.load(open_bundle(PACKAGED / DEFAULT_ENCODER).verified("encoder.onnx")).graph
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("MatMulIntegerToFloat") == kinds.count("DynamicQuantizeMatMul") == 18


def test_no_product_of_the_packaged_encoder_saturates_without_vnni():
    """AVX2 adds two products of an activation (at most 255) and a weight in 16 bits with a sign."""
    graph = onnx.load(open_bundle(PACKAGED / DEFAULT_ENCODER).verified("encoder.onnx")).graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    multiplied = [
        tensors[name]
        for node in graph.node
        if node.op_type in ("MatMulIntegerToFloat", "DynamicQuantizeMatMul")
        for name in node.input
        if name in tensors and tensors[name].data_type == onnx.TensorProto.INT8 and len(tensors[name].dims) == 2
    ]
    assert len(multiplied) == 36
    assert max(np.abs(onnx.numpy_helper.to_array(one).astype(int)).max() for one in multiplied) * 2 * 255 < 2**15
