"""The oldest packages that pyproject names for a base install, as requirements for pip: `python oldest.py`."""

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def oldest():
    """Each package with the version of its lower bound."""
    named = tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"]
    return [re.sub(r">=([^,]+).*", r"==\1", line) for line in named]


if __name__ == "__main__":
    sys.stdout.write(" ".join(oldest()) + "\n")
