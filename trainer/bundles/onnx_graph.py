"""A torch module as an ONNX graph, and the checks that both compute the same."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer
from torch import nn

from dpr_lance.encoders.onnx_graph import ROWS
from dpr_lance.errors import EncoderError

Floats: TypeAlias = NDArray[np.float32]
Feed: TypeAlias = dict[str, NDArray[np.int64]]
"""Inputs of one run by name: int64 [b, s]."""

Outputs: TypeAlias = Mapping[str, dict[int, str]]
"""Outputs of a graph by name: their dynamic axes and what each is called."""
VECTOR: Outputs = {"vector": {0: "batch"}}

OPSET = 17
"""onnxruntime's optimizer fuses attention and layer norms in this opset, but in no later one that was tried."""
PARITY = 1e-4
"""Largest allowed difference of one element of a vector between torch and onnxruntime, both fp32."""

SAME_DIRECTION = 0.95
"""Least allowed cosine of an int8 or fp16 vector with the fp32 one; usually it is above 0.98."""
LONGEST_PROBE = 512
"""Tokens of the longest comparison: attention of 8,192 would need gigabytes."""

SENTENCES = (
    "Paris",
    "What is the capital of France?",
    "Dense passage retrieval encodes questions and passages with two BERT encoders and ranks by inner product.",
    "naïve café, ÉCOLE: 東京 2026 — O’Brien’s “quoted” text, e-mail a.b@example.org and 3.14159 % of it " * 6,
)
"""Checked before a bundle is written, each alone and all in one padded batch."""


def write_graph(
    model: nn.Module, path: Path, *, token_types: bool, outputs: Outputs = VECTOR, rows: bool = False
) -> None:
    """Write `model` as an fp32 ONNX file with dynamic batch and sequence.

    Inputs `input_ids`, `attention_mask` and, with `token_types`, `token_type_ids`: int64 [b, s]; with `rows`, `rows`:
    int64 [], how many of the first tokens are computed (see `LeadingRows`). `outputs` are those of
    the model's forward, in order: an encoder's is `vector`, float32 [b, d], pooled, projected and normalised.
    """
    names = ["input_ids", "attention_mask", *([ROWS] if rows else []), *(["token_type_ids"] if token_types else [])]
    # Two rows of different lengths, so that the trace takes neither the batch nor the mask for a constant.
    ids = torch.randint(5, 10, (2, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    values = {"input_ids": ids, "attention_mask": mask, ROWS: torch.tensor(7), "token_type_ids": torch.zeros_like(ids)}
    inputs = tuple(values[name] for name in names)
    axes = {name: {0: "batch", 1: "sequence"} for name in names if name != ROWS}
    with warnings.catch_warnings(), torch.no_grad():
        # The tracer warns of branches on shapes; the graph is compared on inputs of other shapes.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            inputs,
            str(path),
            input_names=names,
            output_names=list(outputs),
            dynamic_axes=axes | dict(outputs),
            opset_version=OPSET,
            dynamo=False,
        )


def probes(tokenizer: Tokenizer, *, token_types: bool, max_tokens: int) -> list[Feed]:
    """Return inputs for a comparison: each of `SENTENCES` alone, all in a batch, and one that fills `max_tokens`."""
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    tokenizer.enable_truncation(min(max_tokens, LONGEST_PROBE))
    long = " ".join(SENTENCES) * (1 + LONGEST_PROBE // 64)
    batches = [*([sentence] for sentence in SENTENCES), list(SENTENCES), [long]]
    return [feed_of(tokenizer.encode_batch(batch), token_types=token_types) for batch in batches]


def feed_of(encodings: Sequence[Encoding], *, token_types: bool) -> Feed:
    """Return the inputs of a graph for sequences of one length."""
    feed = {
        "input_ids": np.array([one.ids for one in encodings], dtype=np.int64),
        "attention_mask": np.array([one.attention_mask for one in encodings], dtype=np.int64),
    }
    if token_types:
        feed["token_type_ids"] = np.array([one.type_ids for one in encodings], dtype=np.int64)
    return feed


def torch_outputs(model: nn.Module, feeds: Sequence[Feed]) -> list[tuple[Floats, ...]]:
    """Return torch's outputs for each of `feeds`."""
    found = []
    with torch.no_grad():
        for feed in feeds:
            values = model(**{name: torch.from_numpy(value) for name, value in feed.items()})
            found.append(tuple(value.numpy() for value in (values if isinstance(values, tuple) else (values,))))
    return found


def graph_outputs(path: Path, feeds: Sequence[Feed]) -> list[tuple[Floats, ...]]:
    """Return onnxruntime's outputs for each of `feeds` by the graph at `path`."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [tuple(session.run(None, feed)) for feed in feeds]


def of_tokens(outputs: Sequence[tuple[Floats, ...]], feeds: Sequence[Feed], kinds: Outputs) -> list[tuple[Floats, ...]]:
    """Return outputs without those of padding, [tokens, ...] where they were [b, s, ...]: nothing reads these."""
    per_token = [1 in axes for axes in kinds.values()]
    return [
        tuple(
            value[feed["attention_mask"][:, : value.shape[1]] == 1] if tokens else value
            for value, tokens in zip(run, per_token, strict=True)
        )
        for run, feed in zip(outputs, feeds, strict=True)
    ]


def rows_of(outputs: Sequence[tuple[Floats, ...]]) -> Floats:
    """Return the first output of each run as rows, float32[n, d]: the vectors of texts, or of tokens."""
    return np.concatenate([first.reshape(-1, first.shape[-1]) for first, *_ in outputs])


def flat(outputs: Sequence[tuple[Floats, ...]]) -> Floats:
    """Return all numbers of all outputs, float32[n]."""
    return np.concatenate([value.ravel() for run in outputs for value in run])


def check_parity(expected: Floats, found: Floats) -> float:
    """Return the largest difference of an element; raises `EncoderError` when it is above `PARITY`."""
    difference = float(np.abs(found - expected).max()) if found.shape == expected.shape else float("inf")
    if not difference <= PARITY:
        raise EncoderError(
            f"the exported graph differs from the checkpoint by {difference:.1e} in an element (allowed {PARITY:.0e}): "
            "nothing was written; please report this with the checkpoint's config.json"
        )
    return difference


def check_direction(expected: Floats, found: Floats, precision: str) -> float:
    """Return the least cosine of a vector with its fp32 form; raises `EncoderError` below `SAME_DIRECTION`."""
    lengths = np.linalg.norm(expected, axis=1) * np.linalg.norm(found, axis=1)
    cosine = float(((expected * found).sum(axis=1) / lengths).min())
    if not cosine >= SAME_DIRECTION:
        raise EncoderError(
            f"the {precision} graph of this checkpoint is not like its fp32 form (cosine {cosine:.2f}, wanted "
            f"{SAME_DIRECTION}): nothing was written; choose precision fp32"
        )
    return cosine
