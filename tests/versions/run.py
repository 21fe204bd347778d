"""Tests the wheel and the sdist with several versions of Python, and with the oldest and the newest packages.

    python -m tests.versions.run PYTHON...

Each PYTHON gets two environments: the wheel with the newest packages that pyproject allows, the sdist with the oldest
ones that it names. `tests/versions/walk.py` and the tests of the core run in both. A PYTHON that is not there is named
and left out.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.versions.oldest import oldest

ROOT = Path(__file__).parents[2]
CORE = [
    "tests/documents/test_values.py",
    "tests/ingest/test_dump.py",
    "tests/ingest/test_ingestion.py",
    "tests/records",
    "tests/search/test_pages.py",
    "tests/search/test_ranking.py",
    "tests/table/test_filters.py",
    "tests/table/test_lancedb_internals.py",
    "tests/table/test_passages.py",
    "tests/table/test_snapshots.py",
]
TOOLS = ["pytest", "hypothesis", "packaging", "pandas", "polars"]


def built(folder):
    """The wheel and the sdist of this checkout."""
    # setuptools reads the arguments of the process.
    code = "import sys, setuptools.build_meta as b; to = sys.argv.pop(); b.build_wheel(to); b.build_sdist(to)"
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


def tried(python, folder, packages):
    """Install packages into a new environment and run there what is to be run, away from this checkout."""
    environment = folder / "environment"
    subprocess.run([python, "-m", "venv", environment], check=True)
    program = environment / "bin" / "python"
    subprocess.run([program, "-m", "pip", "install", "--quiet", *map(str, packages), *TOOLS], check=True)
    for name in ("tests", "docs"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("pyproject.toml", "mkdocs.yml"):
        shutil.copy(ROOT / name, folder / name)
    quiet = os.environ | {"LANCEDB_LOG": "error", "HF_HUB_OFFLINE": "1"}
    walk = [program, "tests/versions/walk.py", folder / "walked"]
    subprocess.run(walk, cwd=folder, env=quiet, check=True)
    subprocess.run([program, "-m", "pytest", "-q", *CORE], cwd=folder, env=quiet, check=True)


def main():
    pythons = []
    for python in sys.argv[1:]:
        found = shutil.which(python)
        works = found and subprocess.run([found, "--version"], check=False, capture_output=True).returncode == 0
        pythons += [found] if works else []
        sys.stdout.write("" if works else f"{python}: not found, left out\n")
    assert pythons, "none of them is there"
    with tempfile.TemporaryDirectory() as scratch:
        wheel, sdist = built(Path(scratch))
        for number, python in enumerate(pythons):
            for name, packages in (("oldest", [sdist, *oldest()]), ("newest", [wheel])):
                sys.stdout.write(f"{python}, {name} packages\n")
                sys.stdout.flush()
                folder = Path(scratch) / f"{number}-{name}"
                folder.mkdir()
                tried(python, folder, packages)


if __name__ == "__main__":
    main()
