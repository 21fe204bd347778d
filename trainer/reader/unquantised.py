"""fp32 weights of a BERT cross-encoder that is published as an int8 ONNX file (onnxruntime's dynamic quantisation).

Weights, scales and zero points are initialisers of the file: weight = (quantised - zero point) · scale.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from dpr_lance.errors import EncoderError

Weights: TypeAlias = dict[str, NDArray[np.float32]]

_QUANTISED, _ZERO, _SCALE = "_quantized", "_zero_point", "_scale"
_BIAS = "bias"
_STEPS_TO_BIAS = 6
"""Nodes between a matrix product and the addition of its bias: casts and scales."""


def read_weights(path: Path) -> Weights:
    """Return the weights by their names in transformers; raises `EncoderError` for a file that is not of this form.

    A matrix is named after the bias that is added to its product, as the exporter dropped its own name.
    """
    graph = onnx.load(path).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    users: dict[str, list[Any]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            users[name].append(node)
    weights: Weights = {
        name: value.astype(np.float32)
        for name, value in stored.items()
        if value.dtype == np.float32 and value.ndim and name.endswith((".weight", f".{_BIAS}"))
    }
    for name in stored:
        if name.endswith(f".weight{_QUANTISED}"):
            weights[name.removesuffix(_QUANTISED)] = _restored(stored, name)
    for node in graph.node:
        if node.op_type == "MatMulInteger":
            bias = _bias_of(node, users, stored)
            if bias is None:
                raise EncoderError(f"{path}: the matrix {node.input[1]} has no bias that names it")
            weights[bias.removesuffix(_BIAS) + "weight"] = np.ascontiguousarray(_restored(stored, node.input[1]).T)
    if "bert.encoder.layer.0.intermediate.dense.weight" not in weights:
        raise EncoderError(f"{path} holds no quantised BERT")
    return weights


def _restored(stored: dict[str, NDArray[Any]], name: str) -> NDArray[np.float32]:
    plain = name.removesuffix(_QUANTISED)
    shifted = stored[name].astype(np.float32) - stored[plain + _ZERO].astype(np.float32)
    restored: NDArray[np.float32] = (shifted * stored[plain + _SCALE]).astype(np.float32)
    return restored


def _bias_of(node: Any, users: dict[str, list[Any]], stored: dict[str, NDArray[Any]]) -> str | None:  # noqa: ANN401
    """Return the name of the vector that is added to what a matrix product gives."""
    output = node.output[0]
    for _ in range(_STEPS_TO_BIAS):
        following = users[output]
        for user in following:
            if user.op_type == "Add":
                for name in user.input:
                    if name in stored and stored[name].ndim == 1 and name.endswith(_BIAS):
                        return str(name)
        if not following:
            return None
        output = following[0].output[0]
    return None
