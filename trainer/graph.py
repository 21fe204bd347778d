"""A tower as an ONNX graph, and the proof that both compute the same."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from tokenizers import Tokenizer

from dpr_lance.errors import EncoderError

from .towers import TowerModel

OPSET = 17
"""onnxruntime's optimizer fuses attention and layer norms in this opset and in no later one that was tried."""
PARITY = 1e-4
"""Largest allowed difference of one element of a vector between torch and onnxruntime, both fp32."""

SENTENCES = (
    "Paris",
    "What is the capital of France?",
    "Dense passage retrieval encodes questions and passages with two BERT encoders and ranks by inner product.",
    "naïve café, ÉCOLE: 東京 2026 — O’Brien’s “quoted” text, e-mail a.b@example.org and 3.14159 % of it " * 6,
)
"""Checked before a bundle is written, each alone and all in one padded batch."""


def write_graph(tower: TowerModel, path: Path, *, token_types: bool) -> None:
    """Write `tower` as an fp32 ONNX file with dynamic batch and sequence.

    Inputs `input_ids`, `attention_mask` and, with `token_types`, `token_type_ids`: int64 [b, s]; one output `vector`:
    float32 [b, d], pooled, projected and normalised.
    """
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if token_types else [])]
    # Two rows of different lengths: a batch or a mask that the trace could take for constant is none.
    ids = torch.randint(5, 10, (2, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    inputs = (ids, mask, torch.zeros_like(ids))[: len(names)]
    with warnings.catch_warnings(), torch.no_grad():
        # The tracer warns of branches on shapes; `check_parity` runs the graph on other shapes.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            tower,
            inputs,
            str(path),
            input_names=names,
            output_names=["vector"],
            dynamic_axes={name: {0: "batch", 1: "sequence"} for name in names} | {"vector": {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
        )


def check_parity(tower: TowerModel, path: Path, tokenizer: Tokenizer, *, token_types: bool, max_tokens: int) -> float:
    """Return the largest difference of a vector element between `tower` and the graph at `path`.

    Each of `SENTENCES` is encoded alone, then all together padded, then one as long as `max_tokens` allows. Raises
    `EncoderError` when the difference is above `PARITY`.
    """
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    tokenizer.enable_truncation(max_tokens)
    long = " ".join(SENTENCES) * (1 + max_tokens // 64)
    batches = [*([sentence] for sentence in SENTENCES), list(SENTENCES), [long]]
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    worst = max(_difference(tower, session, tokenizer, batch, token_types=token_types) for batch in batches)
    if not worst <= PARITY:
        raise EncoderError(
            f"the exported graph differs from the checkpoint by {worst:.1e} in an element (allowed {PARITY:.0e}): "
            "nothing was written; please report this with the checkpoint's config.json"
        )
    return worst


def _difference(
    tower: TowerModel, session: ort.InferenceSession, tokenizer: Tokenizer, batch: Sequence[str], *, token_types: bool
) -> float:
    encoded = tokenizer.encode_batch(list(batch))
    feeds = {
        "input_ids": np.array([one.ids for one in encoded], dtype=np.int64),
        "attention_mask": np.array([one.attention_mask for one in encoded], dtype=np.int64),
    }
    if token_types:
        feeds["token_type_ids"] = np.array([one.type_ids for one in encoded], dtype=np.int64)
    with torch.no_grad():
        expected = tower(**{name: torch.from_numpy(value) for name, value in feeds.items()}).numpy()
    (found,) = session.run(["vector"], feeds)
    if found.shape != expected.shape:
        return float("inf")
    return float(np.abs(found - expected).max())
