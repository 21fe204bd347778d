"""Int8: the matrices of an fp32 ONNX graph become int8, computed with u8 activations.

- Smoothing (SmoothQuant, Xiao et al. 2023): large channels of an activation are divided by a factor, and the weights'
  rows are multiplied by it.
- Rounding (GPTQ, Frantar et al. 2023): the rows that are not yet rounded compensate for each row's rounding error.
- Ranges for each token: each row of a narrowing matrix's input is divided by its largest value.
- Weights have 7 bits; embeddings have 8 bits and a scale for each row.

Activation scales are dynamic, one for each matrix and run, so a run must hold one sequence (see `OnnxEncoder`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from dpr_lance.encoders.onnx_graph import ROWS
from dpr_lance.errors import EncoderError

from .calibration_text import Sequences

Floats: TypeAlias = NDArray[np.float32]
Int8s: TypeAlias = NDArray[np.int8]

LARGEST_WEIGHT = 63
"""7 bits with a sign: 2 · 255 · 64 fits the 16 bits in which AVX2 adds two products."""
LARGEST_EMBEDDING = 127
EMBEDDING_ROWS = 1000
"""Tables with fewer rows (positions, segments) stay fp32."""
NARROWEST = 16
"""Matrices with fewer columns, the heads of readers, stay fp32: they cost nothing, and rounding them costs accuracy."""
SMOOTHING = 0.6
"""Exponent α of smoothing: the best of 0.5-0.9 for MiniLM."""
DAMPING = 0.1
"""Added to the diagonal of the second moments, as a share of its mean. With the usual 0.01 passages on topics that the
calibration text lacks fell to a cosine of 0.975; this keeps 0.993."""
LEAST_RANGE = 0.01
"""Least range of a row, as a share of the largest value seen: no row is scaled up beyond it."""
BLOCK = 64
"""Rows that are rounded between two matrix products."""
SEQUENCES_TOGETHER = 32
"""Calibration sequences whose second moments are added together."""
MICROSOFT = "com.microsoft"


@dataclass(slots=True)
class _Activation:
    """Statistics of one matrix input: largest magnitude of each channel [k], second moments [k, k]."""

    largest: Floats
    moments: Floats

    @classmethod
    def unseen(cls, width: int) -> _Activation:
        return cls(np.zeros(width, np.float32), np.zeros((width, width), np.float32))

    def see(self, rows: Floats) -> None:
        """Add `rows` [t, k]; with few rows at a time adding [k, k] would cost more than the product."""
        np.maximum(self.largest, np.abs(rows).max(axis=0), out=self.largest)
        self.moments += rows.T @ rows


@dataclass(slots=True)
class _Linear:
    """A MatMul with a constant matrix, and the Add of its bias where there is one."""

    node: Any
    weight: Floats
    bias: Floats
    bias_node: Any | None

    @property
    def output(self) -> str:
        return str((self.bias_node or self.node).output[0])


@dataclass(slots=True)
class Edit:
    """New nodes by the position in the graph where they go, new tensors, and the nodes that they replace."""

    nodes: dict[int, list[Any]] = field(default_factory=dict)
    tensors: list[Any] = field(default_factory=list)
    replaced: set[str] = field(default_factory=set)

    def tensor(self, name: str, values: NDArray[Any]) -> str:
        """Add a constant and return its name."""
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name


def quantise(source: Path, target: Path, sequences: Sequences) -> None:
    """Write the int8 form of the fp32 graph `source` to `target`, calibrated on inputs like those of `sequences`.

    The same arguments give the same bytes on the same machine. Raises `EncoderError` when the graph has no matrix to
    quantise.
    """
    model = onnx.load(source)
    groups = _linear_groups(model.graph)
    if not groups:
        raise EncoderError(f"{source} has no multiplication by a constant matrix: keep this model in fp32")
    seen = _observe(model, list(groups), sequences)
    edit = Edit()
    position = {node.output[0]: index for index, node in enumerate(model.graph.node)}
    for number, (name, linears) in enumerate(groups.items()):
        first = min(position[linear.node.output[0]] for linear in linears)
        edit.nodes[first] = _int8_group(f"int8.{number}", name, linears, seen[name], edit)
    for index, node in enumerate(model.graph.node):
        table = _constants(model.graph).get(node.input[0]) if node.op_type == "Gather" else None
        if table is not None and len(table.dims) == 2 and table.dims[0] >= EMBEDDING_ROWS:
            edit.nodes[index] = int8_embedding(f"int8.embedding.{index}", node, numpy_helper.to_array(table), edit)
    _apply(edit, model)
    onnx.save(model, target)


def _constants(graph: Any) -> dict[str, Any]:  # noqa: ANN401
    return {tensor.name: tensor for tensor in graph.initializer}


def _linear_groups(graph: Any) -> dict[str, list[_Linear]]:  # noqa: ANN401
    """Return multiplications by constant matrices, by the name of their input: query, key and value share theirs."""
    constants = _constants(graph)
    users: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    groups: dict[str, list[_Linear]] = {}
    for node in graph.node:
        if node.op_type == "MatMul" and _is_matrix(constants.get(node.input[1])):
            weight = numpy_helper.to_array(constants[node.input[1]])
            bias_node, bias = _bias(users.get(node.output[0], []), node.output[0], weight.shape[1], constants)
            groups.setdefault(node.input[0], []).append(_Linear(node, weight, bias, bias_node))
    return groups


def _is_matrix(tensor: Any) -> bool:  # noqa: ANN401
    return tensor is not None and len(tensor.dims) == 2 and tensor.dims[1] >= NARROWEST


def _bias(users: Sequence[Any], output: str, width: int, constants: dict[str, Any]) -> tuple[Any | None, Floats]:
    if len(users) == 1 and users[0].op_type == "Add":
        (other,) = [name for name in users[0].input if name != output] or [output]
        if other in constants and list(constants[other].dims) == [width]:
            return users[0], numpy_helper.to_array(constants[other])
    return None, np.zeros(width, dtype=np.float32)


def _observe(model: Any, names: Sequence[str], sequences: Sequences) -> dict[str, _Activation]:  # noqa: ANN401
    """Run the fp32 graph on `sequences` and return the statistics of each tensor in `names`."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    present = {output.name for output in watched.graph.output}
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name not in present
    )
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    inputs = {graph_input.name for graph_input in session.get_inputs()}
    seen: dict[str, _Activation] = {}
    waiting: list[list[Floats]] = [[] for _ in names]
    for number, (sequence, types) in enumerate(sequences, 1):
        ids = np.array([sequence], dtype=np.int64)
        segments = np.array([types], dtype=np.int64)
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": segments}
        feed[ROWS] = np.array(len(sequence), dtype=np.int64)
        values = session.run(list(names), {name: value for name, value in feed.items() if name in inputs})
        for name, value, parts in zip(names, values, waiting, strict=True):
            parts.append(value.reshape(-1, value.shape[-1]))
            if number % SEQUENCES_TOGETHER == 0 or number == len(sequences):
                seen.setdefault(name, _Activation.unseen(value.shape[-1])).see(np.concatenate(parts))
                parts.clear()
    return seen


def _int8_group(prefix: str, name: str, linears: Sequence[_Linear], seen: _Activation, edit: Edit) -> list[Any]:
    together = np.concatenate([linear.weight for linear in linears], axis=1)
    factors = smoothing_factors(seen.largest, together)
    order, along = feedback(seen.moments / factors[:, None] / factors[None, :])
    weights, scales = round_together(together * factors[:, None], order, along)
    smooth = f"{prefix}.smooth"
    nodes = [helper.make_node("Mul", [name, edit.tensor(f"{prefix}.factors", 1 / factors)], [smooth], name=smooth)]
    if len(linears) > 1:
        quantised = [f"{prefix}.{part}" for part in ("quantised", "scale", "zero")]
        nodes.append(helper.make_node("DynamicQuantizeLinear", [smooth], quantised, name=quantised[0]))
    start = 0
    for index, linear in enumerate(linears):
        columns = slice(start, start := start + linear.weight.shape[1])
        own = f"{prefix}.{index}"
        names = [
            edit.tensor(f"{own}.weight", weights[:, columns]),
            edit.tensor(f"{own}.scales", scales[columns]),
            edit.tensor(f"{own}.zeros", np.zeros(len(scales[columns]), dtype=np.int8)),
        ]
        bias = edit.tensor(f"{own}.bias", linear.bias)
        if len(linears) > 1:
            activation, scale, zero = quantised
            arguments = [activation, names[0], scale, names[1], zero, names[2], bias]
            nodes.append(_microsoft("MatMulIntegerToFloat", arguments, linear.output, own))
        elif len(together) > together.shape[1]:
            largest = float((seen.largest / factors).max())
            nodes += int8_by_rows(own, smooth, [*names, bias], linear.output, largest, edit)
        else:
            nodes.append(_microsoft("DynamicQuantizeMatMul", [smooth, *names, bias], linear.output, own))
        edit.replaced |= {linear.node.name, *([linear.bias_node.name] if linear.bias_node else [])}
    return nodes


def int8_by_rows(prefix: str, values: str, matrix: Sequence[str], output: str, largest: float, edit: Edit) -> list[Any]:
    """Return the nodes of an int8 product in which each row (token) of `values` is divided by its largest value.

    `matrix`: the names of its int8 values, scales, zeros and bias; `largest`: the largest value seen. Rows behind the
    activation function differ in range, and with one scale most of them would lose bits to the widest.
    """
    *weight, bias = matrix
    tops, range_, scaled, product, widened = (
        f"{prefix}.{part}" for part in ("tops", "range", "scaled", "product", "widened")
    )
    least = edit.tensor(f"{prefix}.least", np.array(LEAST_RANGE * largest, dtype=np.float32))
    return [
        helper.make_node("ReduceMax", [values], [tops], name=tops, axes=[-1], keepdims=1),
        helper.make_node("Max", [tops, least], [range_], name=range_),
        helper.make_node("Div", [values, range_], [scaled], name=scaled),
        _microsoft("DynamicQuantizeMatMul", [scaled, *weight], product, prefix),
        helper.make_node("Mul", [product, range_], [widened], name=widened),
        helper.make_node("Add", [widened, bias], [output], name=f"{prefix}.sum"),
    ]


def _microsoft(kind: str, inputs: Sequence[str], output: str, name: str) -> Any:  # noqa: ANN401
    return helper.make_node(kind, inputs, [output], name=name, domain=MICROSOFT)


def smoothing_factors(largest: Floats, weight: Floats) -> Floats:
    """Return factors [k] for an activation with channel magnitudes `largest` [k] and its matrix [k, n].

    Their geometric mean is 1. A channel below the median counts as the median: the calibration text may lack its topic.
    """
    rows = np.abs(weight).max(axis=1)
    quiet = max(float(np.median(largest)), 1e-5)
    factors = np.maximum(largest, quiet) ** SMOOTHING / np.maximum(rows, 1e-5) ** (1 - SMOOTHING)
    return np.asarray(factors / np.exp(np.log(factors).mean()), dtype=np.float32)


def feedback(moments: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Return the order in which channels are rounded, strongest first, and how later ones compensate for an error.

    The latter is U [k, k], unit upper triangular in that order: damped moments = U·D·Uᵀ with a diagonal D. Errors E of
    the weights cost |√D·Uᵀ·E|², so Uᵀ times the earlier errors is added to a row before it is rounded: GPTQ without its
    inverse (Chee et al. 2023, sections 3 and 4).
    """
    order = np.argsort(-np.diag(moments), kind="stable")
    backward = order[::-1]
    damped = moments[np.ix_(backward, backward)].astype(np.float64)
    damped[np.diag_indices(len(damped))] += DAMPING * np.trace(damped) / len(damped) + 1e-12
    root = np.linalg.cholesky(damped)[::-1, ::-1]  # upper triangular: backward and forward again
    return order, (root / np.diag(root)).astype(np.float32)


def round_together(weight: Floats, order: NDArray[np.intp], along: Floats) -> tuple[Int8s, Floats]:
    """Round `weight` [k, n] to int8 columns with scales [n] so that its products with real activations change least.

    `order` and `along` are those of `feedback`.
    """
    scales = np.abs(weight).max(axis=0) / LARGEST_WEIGHT
    scales[scales == 0] = 1
    wanted = (weight / scales)[order].astype(np.float32)
    rounded, errors = np.empty_like(wanted), np.empty_like(wanted)
    for start in range(0, len(wanted), BLOCK):
        block = slice(start, start + BLOCK)
        owed = along[:start, block].T @ errors[:start]
        for row in range(start, min(start + BLOCK, len(wanted))):
            best = wanted[row] + owed[row - start] + along[start:row, row] @ errors[start:row]
            rounded[row] = np.clip(np.round(best), -LARGEST_WEIGHT, LARGEST_WEIGHT)
            errors[row] = wanted[row] - rounded[row]
    result = np.empty(weight.shape, dtype=np.int8)
    result[order] = rounded.astype(np.int8)
    return result, scales.astype(np.float32)


def int8_embedding(prefix: str, node: Any, table: Floats, edit: Edit) -> list[Any]:  # noqa: ANN401
    """Return the nodes that look up `node`'s table in int8 with a scale for each row."""
    scales = np.abs(table).max(axis=1, keepdims=True) / LARGEST_EMBEDDING
    scales[scales == 0] = 1
    rows = edit.tensor(f"{prefix}.rows", np.round(table / scales).astype(np.int8))
    scale = edit.tensor(f"{prefix}.scales", scales.astype(np.float32))
    edit.replaced.add(node.name)
    steps = [
        ("Gather", [rows, node.input[1]], f"{prefix}.row"),
        ("Gather", [scale, node.input[1]], f"{prefix}.scale"),
        ("Cast", [f"{prefix}.row"], f"{prefix}.wide"),
        ("Mul", [f"{prefix}.wide", f"{prefix}.scale"], node.output[0]),
    ]
    nodes = [helper.make_node(kind, inputs, [output], name=f"{output}.node") for kind, inputs, output in steps]
    nodes[2].attribute.append(helper.make_attribute("to", TensorProto.FLOAT))
    return nodes


def _apply(edit: Edit, model: Any) -> None:  # noqa: ANN401
    """Put the new nodes in the place of the first that they replace, and drop unused tensors."""
    graph = model.graph
    nodes = list(_edited(edit, graph.node))
    used = {name for node in nodes for name in node.input} | {output.name for output in graph.output}
    tensors = [tensor for tensor in [*graph.initializer, *edit.tensors] if tensor.name in used]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    kept = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in tensors]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(copies)
    graph.initializer.extend(kept)
    if not any(opset.domain == MICROSOFT for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))


def _edited(edit: Edit, nodes: Iterable[Any]) -> Iterator[Any]:
    for index, node in enumerate(nodes):
        yield from edit.nodes.get(index, ())
        if node.name not in edit.replaced:
            yield node
