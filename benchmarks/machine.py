"""What a number was measured on: machine, versions, commit."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.data import REPOSITORY

INSTRUCTION_SETS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm")
GENERATED = ("*.md", "benchmarks/results", "benchmarks/plots", "benchmarks/quick")
"""What a run itself writes."""
PACKAGES = (
    "bm25s",
    "lancedb",
    "numpy",
    "onnxruntime",
    "pyarrow",
    "sentence-transformers",
    "tokenizers",
    "torch",
    "transformers",
)


def describe() -> dict[str, Any]:
    """Cores, processor, instruction sets, memory, load, system, versions of what was measured, commit."""
    processor, flags = _processor()
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "processor": processor,
        "instruction_sets": [name for name in INSTRUCTION_SETS if name in flags],
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name)) is not None},
        "commit": commit(),
    }


def sentence(machine: dict[str, Any]) -> str:
    """The description as one line of prose for the tables."""
    sets = ", ".join(machine["instruction_sets"]) or "no listed instruction set"
    versions = [f"{name} {machine['versions'].get(name, 'missing')}" for name in ("lancedb", "onnxruntime")]
    cores = "1 core" if machine["cores"] == 1 else f"{machine['cores']} cores"
    where = f"{cores} of {machine['processor']} ({sets})"
    return ", ".join([where, f"Python {machine['python']}", *versions, f"commit {machine['commit']}"])


def commit() -> str:
    """Short commit, with + when code of the working tree differs from it; `unknown` outside a git checkout."""
    git = ["git", "-C", str(REPOSITORY)]
    changed = [*git, "status", "--porcelain", "--untracked-files=no", "--", ".", *(f":!{path}" for path in GENERATED)]
    try:
        name, changes = (
            subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
            for command in ([*git, "rev-parse", "--short=9", "HEAD"], changed)
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return name + ("+" if changes else "")


def _processor() -> tuple[str, set[str]]:
    """Model name and feature flags; Linux only, elsewhere what `platform` knows and no flags."""
    listing = Path("/proc/cpuinfo")
    if not listing.is_file():
        return platform.processor() or "unknown processor", set()
    fields: dict[str, str] = {}
    for line in listing.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    return fields.get("model name", "unknown processor"), set(fields.get("flags", fields.get("Features", "")).split())


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
