"""How the benchmark talks to a peer's process: `python -m benchmarks.peers.NAME VERB FOLDER FILE MODEL`.

`ingest` reads passages from FILE (JSON lines of id and text), stores them below FOLDER and reports wall seconds, CPU
seconds and peak memory. `search` opens what was stored, writes a line after the first answer, asks every question of
FILE (JSON lines of strings) alone, and reports milliseconds and ids. A report is one JSON object on the last line of
standard output.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

K = 20

Texts = dict[str, str]
"""Text by id: title, newline, text."""
Search = Callable[[str], list[tuple[str, str]]]
"""The best K passages for a question: ids and texts."""
Ingest = Callable[[Path, Texts, str], None]
Opened = Callable[[Path, str], Search]


def main(ingest: Ingest, opened: Opened) -> None:
    """Do what the command line says."""
    verb, folder, source, model = sys.argv[1:5]
    with Path(source).open(encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    report = _ingested if verb == "ingest" else _searched
    print(json.dumps(report(ingest if verb == "ingest" else opened, Path(folder), records, model)))


def _ingested(ingest: Any, folder: Path, records: list[Any], model: str) -> dict[str, Any]:  # noqa: ANN401
    texts = {record["id"]: record["text"] for record in records}
    started, used = time.perf_counter(), time.process_time()
    ingest(folder, texts, model)
    wall, cpu = time.perf_counter() - started, time.process_time() - used
    return {"seconds": wall, "cpu_seconds": cpu, "peak_mib": peak_mebibytes()}


def _searched(opened: Any, folder: Path, records: list[Any], model: str) -> dict[str, Any]:  # noqa: ANN401
    search: Search = opened(folder, model)
    search(records[0])
    print("first answer", flush=True)
    milliseconds, ids = [], []
    for question in records:
        started = time.perf_counter()
        found = search(question)
        milliseconds.append(1000 * (time.perf_counter() - started))
        ids.append([identity for identity, _ in found])
    return {"milliseconds": milliseconds, "ids": ids, "peak_mib": peak_mebibytes()}


def tree_bytes(folder: Path) -> int:
    """Size of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def peak_mebibytes() -> float:
    """The most memory this process has held, in MiB (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    if found is None:
        raise RuntimeError("/proc/self/status has no VmHWM")
    return int(found.group(1)) / 1024
