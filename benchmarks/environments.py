"""A virtual environment for each peer, made once from its pinned versions and kept in `.cache/benchmarks/`."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import venv
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.data import REPOSITORY
from benchmarks.references import CACHE

PINS = REPOSITORY / "benchmarks" / "peers"
OURS = "dpr_lance"
VERSIONS = {
    "plain_lancedb": ("lancedb", "sentence-transformers"),
    "chroma": ("chromadb",),
    "txtai": ("txtai",),
    "bm25s": ("bm25s",),
}
"""Packages of a peer whose versions are named with its result."""


@cache
def environment(name: str) -> Path:
    """Return the Python of a peer's environment; it is made at the first call (needs the package index).

    What is installed is in `benchmarks/peers/NAME.txt`; for dpr_lance, its base install with the project's constraints.
    """
    pins = REPOSITORY / "constraints.txt" if name == OURS else PINS / f"{name}.txt"
    wanted = ["-c", str(pins), str(REPOSITORY)] if name == OURS else ["-r", str(pins)]
    digest = hashlib.sha256(pins.read_bytes()).hexdigest()[:12]
    folder: Path = CACHE / "environments" / f"{name}-{digest}"
    python = folder / "bin" / "python"
    done = folder / "installed"
    if not done.is_file():
        print(f"environments: making the one of {name}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", *wanted]
        subprocess.run(pip, check=True, stdout=sys.stderr, cwd=REPOSITORY)
        done.touch()
    if name == OURS:
        # The package itself as it is now; its dependencies stay.
        pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--force-reinstall", str(REPOSITORY)], check=True, stdout=sys.stderr, cwd=REPOSITORY)
    return python


def contents(name: str) -> dict[str, Any]:
    """Return the packages of a peer's environment, and their size on disk in MB, without pip."""
    python = environment(name)
    frozen = subprocess.run([str(python), "-m", "pip", "freeze"], check=True, capture_output=True, text=True).stdout
    (site,) = (python.parent.parent / "lib").glob("python3*/site-packages")
    files = [
        path
        for path in site.rglob("*")
        # Byte code comes and goes with what has been imported.
        if path.is_file() and "__pycache__" not in path.parts and not path.relative_to(site).parts[0].startswith("pip")
    ]
    packages = [line for line in frozen.splitlines() if line and not line.startswith("#")]
    named = VERSIONS.get(name, ())
    return {
        "packages": len(packages),
        "megabytes": sum(path.stat().st_size for path in files) / 1e6,
        "versions": [line.replace("==", " ") for line in packages if line.split("==")[0].lower() in named],
    }
