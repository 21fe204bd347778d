"""From a checkpoint's towers to the files of a bundle: graphs that were compared with torch, and the tokenizer."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer

from dpr_lance.encoders.bundle import SHARED_GRAPH, TOKENIZER
from dpr_lance.encoders.card import Precision
from dpr_lance.errors import EncoderError

from ..checkpoints.description import CONVERSION_VERSION, Checkpoint, Tower
from ..checkpoints.tokenizer import load_tokenizer
from ..checkpoints.towers import TowerModel, load_tower
from .onnx_graph import check_direction, check_parity, graph_vectors, probes, tower_vectors, write_graph
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
        _add_weights(digest, model, tower)
        fp32 = scratch / f"fp32-{name}"
        write_graph(model, fp32, token_types=tower.token_types)
        feeds = probes(tokenizer, token_types=tower.token_types, max_tokens=tower.max_positions)
        expected = tower_vectors(model, feeds)
        check_parity(expected, graph_vectors(fp32, feeds))
        del model  # quantising needs its memory
        files[name] = _stored(fp32, scratch / name, precision, tokenizer, tower)
        if precision != "fp32":
            check_direction(expected, graph_vectors(files[name], feeds), precision)
    return files, digest.hexdigest()[:16]


def _add_weights(digest: Any, model: TowerModel, tower: Tower) -> None:  # noqa: ANN401
    size = 0
    for name, value in sorted(model.state_dict().items()):
        array = value.contiguous().numpy()
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
        size += array.nbytes
    if size > LARGEST:
        raise EncoderError(f"{tower.folder}: {size / 1e9:.1f} GB of weights are more than one ONNX file holds (2.1 GB)")


def _stored(fp32: Path, target: Path, precision: Precision, tokenizer: Tokenizer, tower: Tower) -> Path:
    if precision == "fp32":
        return fp32
    if precision == "fp16":
        store_half(fp32, target)
    else:
        quantise(fp32, target, tokenizer, max_tokens=tower.max_positions)
    fp32.unlink()
    return target


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
