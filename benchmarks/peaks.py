"""How near the encoder is to the hardware: its operations a second against matrix products alone on the same cores."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.accuracy import Spread

if TYPE_CHECKING:
    import onnxruntime

LAYERS, WIDTH, INNER = 6, 384, 1536
"""MiniLM: layers, hidden size, size of the feed-forward layer."""
SIDE = 1024
ROUNDS = 7


def operations(tokens: int) -> float:
    """Multiplications and additions of one sequence: projections, feed-forward layers, attention scores and sums."""
    dense = 2 * tokens * (4 * WIDTH * WIDTH + 2 * WIDTH * INNER)
    attention = 2 * 2 * tokens * tokens * WIDTH
    return float(LAYERS * (dense + attention))


def feeds(passages: list[tuple[str, str]], bundle: Path) -> list[dict[str, Any]]:
    """Graph inputs of each passage alone."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    result = []
    for title, text in passages:
        ids = np.array([tokenizer.encode(f"{title} {text}".strip()).ids], dtype=np.int64)
        result.append({"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)})
    return result


def measure(passages: list[tuple[str, str]]) -> dict[str, Any]:
    """Giga-operations a second on one thread, by round: int8 and fp32 graph, fp32 and int8 matrix product of SIDE³.

    Products run in onnxruntime, whose kernels the graphs use, and the fp32 one in numpy's BLAS too.
    """
    from benchmarks.contenders import fp32_bundle
    from dpr_lance.encoders.loading import DEFAULT_ENCODER, PACKAGED

    folder = PACKAGED / DEFAULT_ENCODER
    inputs = feeds(passages, folder)
    graph_work = sum(operations(feed["input_ids"].shape[1]) for feed in inputs) / 1e9
    product_work = 2 * SIDE**3 / 1e9
    random = np.random.default_rng(0)
    dense = {name: random.standard_normal((SIDE, SIDE), dtype=np.float32) for name in ("A", "B")}
    bytes_ = {
        "A": random.integers(0, 255, (SIDE, SIDE), np.uint8),
        "B": random.integers(-64, 64, (SIDE, SIDE), np.int8),
    }
    sessions = {
        "int8 graph": _session(folder / "encoder.onnx"),
        "fp32 graph": _session(fp32_bundle() / "encoder.onnx"),
        "fp32 product": _session(_product("MatMul", "FLOAT", "FLOAT", "FLOAT")),
        "int8 product": _session(_product("MatMulInteger", "UINT8", "INT8", "INT32")),
    }
    work = {
        "int8 graph": (inputs, graph_work),
        "fp32 graph": (inputs, graph_work),
        "fp32 product": ([dense], product_work),
        "int8 product": ([bytes_], product_work),
    }
    measured: dict[str, list[float]] = {name: [] for name in sessions}
    for number in range(-1, ROUNDS):
        for name, session in sessions.items():
            known = {graph_input.name for graph_input in session.get_inputs()}
            start = time.perf_counter()
            for feed in work[name][0]:
                session.run(None, {key: value for key, value in feed.items() if key in known})
            if number >= 0:
                measured[name].append(work[name][1] / (time.perf_counter() - start))
    return {"giga_operations_per_second": measured}


def sentence(speed: dict[str, Any]) -> str:
    """What was achieved, in one sentence."""
    rates = speed["giga_operations_per_second"]
    shares = {
        (graph, product): Spread.of([100 * a / b for a, b in zip(rates[graph], rates[product], strict=True)])
        for graph, product in (
            ("fp32 graph", "fp32 product"),
            ("int8 graph", "fp32 product"),
            ("int8 graph", "int8 product"),
        )
    }
    peaks = ", ".join(f"{name} {np.median(rates[name]):.0f}" for name in rates)
    said = "; ".join(f"{graph} at {share.median:.0f} % of the {product}" for (graph, product), share in shares.items())
    return f"Giga-operations a second on one thread: {peaks} ({said}; a product is {SIDE}³ in onnxruntime)."


def _product(operator: str, left: str, right: str, result: str) -> bytes:
    """An ONNX graph of one matrix product."""
    from onnx import TensorProto, helper

    shape = [SIDE, SIDE]
    values = [
        helper.make_tensor_value_info(name, getattr(TensorProto, kind), shape)
        for name, kind in (("A", left), ("B", right), ("C", result))
    ]
    node = helper.make_node(operator, ["A", "B"], ["C"])
    graph = helper.make_graph([node], "product", values[:2], values[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    serialised: bytes = model.SerializeToString()
    return serialised


def _session(model: Path | bytes) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"]
    )
