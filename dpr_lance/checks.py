"""Checks of what callers give: each returns the value, or raises `InvalidInputError` that names it, and the remedy."""

from __future__ import annotations

import re

from dpr_lance.errors import InvalidInputError

_SURROGATE = re.compile("[\ud800-\udfff]")


def checked_text(value: object, *, name: str, place: str) -> str:
    """Return `value` when it is a string that can be stored as UTF-8; raise `InvalidInputError` naming it otherwise."""
    if not isinstance(value, str):
        raise InvalidInputError(f"{place}: {name} must be a string, it is {type(value).__name__} ({value!r:.60})")
    if found := _SURROGATE.search(value):
        raise InvalidInputError(
            f"{place}: {name} has a lone surrogate ({found.group()!a}) at character {found.start()}, which is no text; "
            f"decode the source as UTF-8 with errors='replace', or drop it"
        )
    return value
