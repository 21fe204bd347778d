"""The packages of frameworks, which only their extras install."""

from __future__ import annotations

import importlib.util

from dpr_lance.errors import MissingExtraError


def require(package: str, framework: str, extra: str) -> None:
    """Raise `MissingExtraError` with the command that installs a framework, unless its package is installed."""
    if importlib.util.find_spec(package) is None:
        raise MissingExtraError(f"dpr_lance with {framework}", extra)
