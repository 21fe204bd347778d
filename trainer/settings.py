"""Settings in frozen dataclasses: read from TOML or options, with checks of their types and ranges."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from dpr_lance.checks import checked_fields
from dpr_lance.errors import InvalidInputError

T = TypeVar("T")


def read_toml(path: str | Path) -> dict[str, Any]:
    """Return the contents of a TOML file; raise `InvalidInputError` that names it when it cannot be read."""
    import tomllib  # noqa: PLC0415 - the command line imports this module for its help

    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInputError(f"{path} cannot be read as TOML: {error}") from error


def composed(
    kind: type[T], parts: Mapping[str, type], values: Mapping[str, Any], *, place: str, given: Mapping[str, Any]
) -> T:
    """Make a record of `kind`, some fields of which are records too: `parts` has their classes by name.

    `values` are nested in the same way. `given` names settings of any of the records; it wins over `values`, and None
    leaves a setting as it is. Raises `InvalidInputError`, which names `place`, for settings that are unknown, missing,
    or of a wrong type.
    """
    merged: dict[str, dict[str, Any]] = {name: dict(values.get(name, {})) for name in parts}
    own = {name: value for name, value in values.items() if name not in parts}
    for name, value in given.items():
        if value is not None:
            part = next((part for part, known in parts.items() if name in _names(known)), None)
            (own if part is None or name in _names(kind) else merged[part])[name] = value
    return _made(kind, own | {name: _made(known, merged[name], place) for name, known in parts.items()}, place)


def _made(kind: type[T], values: Mapping[str, Any], place: str) -> T:
    names = _names(kind)
    if unknown := sorted(values.keys() - names):
        raise InvalidInputError(f"{place}: unknown settings {', '.join(unknown)}; there are {', '.join(sorted(names))}")
    missing = [
        field.name
        for field in dataclasses.fields(kind)  # type: ignore[arg-type]
        if field.default is field.default_factory is dataclasses.MISSING and field.name not in values
    ]
    if missing:
        raise InvalidInputError(f"{place}: {', '.join(missing)} must be named")
    lists = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    if isinstance(lists.get("questions"), str):
        lists["questions"] = (lists["questions"],)
    try:
        return kind(**lists)
    except TypeError as error:
        raise InvalidInputError(f"{place}: {error}") from error


def _names(kind: type) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def defaults_of(*kinds: type) -> dict[str, Any]:
    """Return the default of each setting that has one, by name; of two with one name the first one's."""
    found: dict[str, Any] = {}
    for kind in kinds:
        for field in dataclasses.fields(kind):
            if field.default is not dataclasses.MISSING:
                found.setdefault(field.name, field.default)
    return found


def check_types(settings: Any) -> None:  # noqa: ANN401
    """Raise `InvalidInputError` for the first setting that does not have its type."""
    for name, kind in get_type_hints(type(settings)).items():
        choices = get_args(kind)
        value = getattr(settings, name)
        if choices and all(isinstance(choice, str) for choice in choices) and value not in choices:
            raise InvalidInputError(f"{name}={value!r} is not one of {', '.join(choices)}")
    if problem := checked_fields(settings):
        raise InvalidInputError(problem)


def at_least(least: int, settings: object, *names: str) -> None:
    """Raise `InvalidInputError` for the first of these settings that is below `least`."""
    for name in names:
        if not (value := getattr(settings, name)) >= least:
            raise InvalidInputError(f"{name}={value!r}: at least {least} is needed")


def above_0(settings: object, *names: str) -> None:
    """Raise `InvalidInputError` for the first of these settings that is not a number above 0."""
    for name in names:
        if not 0 < (value := getattr(settings, name)) < math.inf:
            raise InvalidInputError(f"{name}={value!r}: a number above 0 is needed")


def share(settings: object, *names: str) -> None:
    """Raise `InvalidInputError` for the first of these settings that is not from 0 to 1."""
    for name in names:
        if not 0 <= (value := getattr(settings, name)) <= 1:
            raise InvalidInputError(f"{name}={value!r} is a share: from 0 to 1")
