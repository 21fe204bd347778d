"""From a checkpoint's towers to the files of a bundle: graphs that were compared with torch, and the tokenizer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from dpr_lance.encoders.bundle import SHARED_GRAPH, TOKENIZER
from dpr_lance.encoders.card import Precision
from dpr_lance.encoders.onnx_graph import ROWS
from dpr_lance.errors import EncoderError

from ..checkpoints.description import CONVERSION_VERSION, Checkpoint
from ..checkpoints.tokenizer import load_tokenizer
from ..checkpoints.towers import load_tower
from .calibration_text import Sequences, single_sequences
from .onnx_graph import (
    VECTOR,
    Feed,
    Floats,
    Outputs,
    check_direction,
    check_parity,
    flat,
    graph_outputs,
    of_tokens,
    probes,
    rows_of,
    torch_outputs,
    write_graph,
)
from .quantise import quantise

LARGEST = 2**31 - 2**20
"""Bytes of fp32 weights that one ONNX file can hold."""


def convert(checkpoint: Checkpoint, scratch: Path, *, precision: Precision) -> tuple[dict[str, Path], str]:
    """Write the graphs of `checkpoint` in `precision` and its tokenizer into `scratch`; return files and fingerprint.

    Raises `EncoderError` when a file of the checkpoint is missing or does not fit, or when a graph differs from torch
    more than its precision allows.
    """
    tokenizer = load_tokenizer(checkpoint)
    tokenizer.save(str(scratch / TOKENIZER))
    towers = {"question.onnx": checkpoint.question, "passage.onnx": checkpoint.passage}
    if checkpoint.shared:
        towers = {SHARED_GRAPH: checkpoint.passage}
    files = {TOKENIZER: scratch / TOKENIZER}
    settings = [CONVERSION_VERSION, precision, *checkpoint.text_settings().values()]
    digest = hashlib.sha256(json.dumps(settings).encode())
    digest.update(tokenizer.to_str().encode())
    for name, tower in towers.items():
        model = load_tower(checkpoint, tower)
        graph = GraphSource(
            model,
            VECTOR,
            token_types=tower.token_types,
            feeds=probes(tokenizer, token_types=tower.token_types, max_tokens=tower.max_positions),
            sequences=partial(single_sequences, tokenizer, tower.max_positions),
            compare=compare_vectors,
            place=tower.folder,
        )
        del model  # quantising needs its memory
        files[name] = graph.convert(scratch / name, precision, digest)
    return files, digest.hexdigest()[:16]


def compare_vectors(
    expected: Sequence[tuple[Floats, ...]], found: Sequence[tuple[Floats, ...]], precision: str
) -> None:
    """Raise `EncoderError` when rounded vectors do not point where the exact ones do."""
    check_direction(rows_of(expected), rows_of(found), precision)


@dataclass(slots=True)
class GraphSource:
    """A torch module that becomes one file of a bundle, and what it is compared and calibrated on."""

    model: nn.Module | None
    outputs: Outputs
    token_types: bool
    feeds: Sequence[Feed]
    sequences: Callable[[], Sequences]
    """Returns what int8 is calibrated on."""
    compare: Callable[[Sequence[tuple[Floats, ...]], Sequence[tuple[Floats, ...]], str], object]
    """Compares the exact outputs for `feeds`, without padding, with the rounded ones, and raises `EncoderError`."""
    place: Path

    def convert(self, target: Path, precision: Precision, digest: Any) -> Path:  # noqa: ANN401 - of hashlib
        """Write the graph and return where it is; add the weights to `digest`. It can be called once.

        Raises `EncoderError` when the graph differs from torch more than its precision allows.
        """
        model, self.model = self.model, None
        if model is None:
            raise RuntimeError("this graph was converted")
        _add_weights(digest, model, self.place)
        fp32 = target.with_name(f"fp32-{target.name}")
        rows = ROWS in self.feeds[0]
        write_graph(model, fp32, token_types=self.token_types, outputs=self.outputs, rows=rows)
        expected = of_tokens(torch_outputs(model, self.feeds), self.feeds, self.outputs)
        check_parity(flat(expected), flat(self._outputs(fp32)))
        del model  # quantising needs its memory
        if precision == "fp32":
            return fp32
        if precision == "fp16":
            store_half(fp32, target)
        else:
            quantise(fp32, target, self.sequences())
        fp32.unlink()
        self.compare(expected, self._outputs(target), precision)
        return target

    def _outputs(self, path: Path) -> list[tuple[Floats, ...]]:
        return of_tokens(graph_outputs(path, self.feeds), self.feeds, self.outputs)


def _add_weights(digest: Any, model: nn.Module, place: Path) -> None:  # noqa: ANN401
    size = 0
    for name, value in sorted(model.state_dict().items()):
        array = value.contiguous().numpy()
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
        size += array.nbytes
    if size > LARGEST:
        raise EncoderError(f"{place}: {size / 1e9:.1f} GB of weights are more than one ONNX file holds (2.1 GB)")


def store_half(source: Path, target: Path) -> None:
    """Write the fp32 graph `source` with its matrices stored as fp16 and widened when the model is loaded.

    It has half the size and the same speed, as onnxruntime folds the casts. Values beyond fp16's range are clipped.
    """
    model = onnx.load(source)
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2:
            continue
        limits = np.finfo(np.float16)
        half = numpy_helper.to_array(tensor).clip(limits.min, limits.max).astype(np.float16)
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], name=f"{name}.widen", to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, target)
