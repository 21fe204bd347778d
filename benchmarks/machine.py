"""What a result was measured on: machine, versions, commit, date."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.data import REPOSITORY

INT8_INSTRUCTIONS = ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp", "avx2")
"""The first that the processor has decides how fast int8 weights are."""
GENERATED = ("*.md", "benchmarks/results")
"""What a run itself writes: a change of these files is no change of the code."""
PACKAGES = ("lancedb", "onnxruntime")


def origin() -> dict[str, Any]:
    """Return where and when a result was measured, in the form in which it is stored with the result."""
    commit, changed = commit_state()
    return {
        "commit": commit,
        "dirty": changed,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": _machine(),
        "versions": ", ".join([f"Python {platform.python_version()}", *map(_version, PACKAGES)]),
        "load": round(os.getloadavg()[0], 1),
    }


@cache
def commit_state() -> tuple[str, bool]:
    """Return the short commit at the first call in this process, and whether the code differs from it."""
    git = ["git", "-C", str(REPOSITORY)]
    status = [*git, "status", "--porcelain", "--untracked-files=no", "--", ".", *(f":!{path}" for path in GENERATED)]
    try:
        commit, changes = (
            subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
            for command in ([*git, "rev-parse", "--short=9", "HEAD"], status)
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown", True
    return commit, bool(changes)


def _machine() -> str:
    """Return cores, processor and the instructions for int8, as "2 cores of AMD EPYC, avx512_vnni"."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    processor, flags = _processor()
    instructions = next((name for name in INT8_INSTRUCTIONS if name in flags), "no instructions for int8")
    return f"{cores} core{'s' * (cores != 1)} of {processor}, {instructions}"


def _processor() -> tuple[str, set[str]]:
    """Return model name and feature flags; outside Linux what `platform` knows, and no flags."""
    listing = Path("/proc/cpuinfo")
    if not listing.is_file():
        return platform.processor() or "unknown processor", set()
    fields: dict[str, str] = {}
    for line in listing.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    return fields.get("model name", "unknown processor"), set(fields.get("flags", fields.get("Features", "")).split())


def _version(package: str) -> str:
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"no {package}"
