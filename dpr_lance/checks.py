"""Checks of arguments: each returns the value, or raises an error that names it and says what to pass."""

from __future__ import annotations

import inspect
import math
import operator
import os
import re
import reprlib
import types
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from dpr_lance.errors import InvalidInputError

_SURROGATE = re.compile("[\ud800-\udfff]")
_BRIEFLY = reprlib.Repr()
_BRIEFLY.maxstring = _BRIEFLY.maxother = _BRIEFLY.maxlong = 60

T = TypeVar("T", bound=str)


def shown(value: object) -> str:
    """Return a short form of any value for an error message."""
    try:
        return _BRIEFLY.repr(value)
    except Exception:  # noqa: BLE001 - a number of 5,000 digits, or any __repr__
        return f"<{type(value).__name__}>"


def refused(name: str, value: object, wanted: str) -> InvalidInputError:
    """Return the error about an argument: its value, and what to pass instead."""
    return InvalidInputError(f"{name}={shown(value)}: {wanted}")


def checked_text(value: object, *, name: str, place: str) -> str:
    """Return `value` if it is a string that can be stored as UTF-8; else raise `InvalidInputError`."""
    if not isinstance(value, str):
        raise InvalidInputError(f"{place}: {name} must be a string, it is {type(value).__name__} ({shown(value)})")
    if found := _SURROGATE.search(value):
        raise InvalidInputError(
            f"{place}: {name} has a lone surrogate ({found.group()!a}) at character {found.start()}, which is not "
            f"text; decode the source as UTF-8 with errors='replace', or drop it"
        )
    return value


def checked_id(value: object, *, name: str, place: str) -> str:
    """Return an id as a string, an integer in decimal; raise `InvalidInputError` if it is neither."""
    # NumPy's and pandas' integers have __index__ too; booleans and classes are not numbers here.
    if not isinstance(value, (str, bool, type)) and hasattr(value, "__index__"):
        return str(value.__index__())
    return checked_text(value, name=name, place=place)


def checked_whole(value: object, name: str, wanted: str, *, least: int, most: int | None = None) -> int:
    """Return a whole number from `least` to `most`, NumPy's too; True and False are not numbers here."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # the call finds out
    except TypeError:
        raise refused(name, value, wanted) from None
    if type(value).__name__ in ("bool", "bool_") or number < least:
        raise refused(name, value, wanted)
    if most is not None and number > most:
        raise refused(name, value, f"{wanted}, up to {most:,}")
    return number


def checked_seconds(value: object, name: str, wanted: str) -> float:
    """Return a number above 0 as a float, NumPy's too; True and False, NaN and infinity are refused."""
    try:
        number = 0.0 if isinstance(value, str | bytes) else float(value)  # type: ignore[arg-type]  # the call finds out
    except (TypeError, ValueError, OverflowError):
        raise refused(name, value, wanted) from None
    if type(value).__name__ in ("bool", "bool_") or not 0 < number < float("inf"):
        raise refused(name, value, wanted)
    return number


def checked_share(value: object, name: str, wanted: str) -> float:
    """Return a number from 0 to 1 as a float, NumPy's too; True, False and NaN are refused."""
    try:
        number = -1.0 if isinstance(value, str | bytes) else float(value)  # type: ignore[arg-type]  # the call finds out
    except (TypeError, ValueError, OverflowError):
        raise refused(name, value, wanted) from None
    if type(value).__name__ in ("bool", "bool_") or not 0 <= number <= 1:
        raise refused(name, value, wanted)
    return number


def checked_number(value: object, name: str, wanted: str) -> float:
    """Return a finite number as a float, NumPy's too; True and False are refused."""
    try:
        number = math.nan if isinstance(value, str | bytes) else float(value)  # type: ignore[arg-type]  # the call finds out
    except (TypeError, ValueError, OverflowError):
        raise refused(name, value, wanted) from None
    if type(value).__name__ in ("bool", "bool_") or not math.isfinite(number):
        raise refused(name, value, wanted)
    return number


def checked_flag(value: object, name: str) -> bool:
    """Return True or False, NumPy's too; nothing else is taken for one of them."""
    if type(value).__name__ in ("bool", "bool_") and type(value).__module__ in ("builtins", "numpy"):
        return bool(value)
    raise refused(name, value, "give True or False")


def checked_choice(value: object, name: str, choices: Sequence[T]) -> T:
    """Return `value` if it is one of `choices`."""
    if isinstance(value, str):
        for choice in choices:
            if value == choice:
                return choice
    raise InvalidInputError(f"{name}={shown(value)} is not one of {', '.join(choices)}")


def checked_callback(value: object, name: str, wanted: str = "give a function that takes one argument") -> None:
    """Raise unless `value` can be called with one argument."""
    if not callable(value):
        raise refused(name, value, wanted)
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return  # some functions written in C have no signature
    try:
        signature.bind(None)
    except TypeError as error:
        raise refused(name, value, f"{wanted} ({error})") from None


def checked_path(value: object, name: str, wanted: str = "give a path, as a string or a Path") -> Path:
    """Return a path that a file system accepts."""
    text = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    if not isinstance(text, str) or not text.strip():
        raise refused(name, value, wanted)
    checked_text(text, name=name, place="the path")
    if "\0" in text:
        raise refused(name, value, f"{wanted}; it has a NUL character")
    return Path(text)


def checked_items(value: object, name: str, wanted: str) -> list[Any]:
    """Return the items of an iterable that is not a string, bytes or a mapping."""
    if isinstance(value, (str, bytes, bytearray, Mapping)) or not isinstance(value, Iterable):
        raise refused(name, value, wanted)
    return list(value)


def checked_strings(value: object, name: str, wanted: str) -> list[str]:
    """Return the strings of an iterable; a string alone counts as a list of one."""
    items = [value] if isinstance(value, str) else checked_items(value, name, wanted)
    return [checked_text(item, name="each item", place=f"{name}[{number}]") for number, item in enumerate(items)]


def checked_storage_options(value: object) -> dict[str, str] | None:
    """Return the settings of an object store, strings by name; None where there are none."""
    if value is not None and not isinstance(value, Mapping):
        raise refused("storage_options", value, "give a mapping of names to strings")
    for name, option in (value or {}).items():
        checked_text(name, name="each name", place="storage_options")
        checked_text(option, name=name, place="storage_options")
    return dict(value) if value else None


def is_visible(text: str) -> bool:
    """Return whether a text has a character that is neither blank nor a control character."""
    return any(character.isprintable() and not character.isspace() for character in text)


def checked_input(text: object, place: str) -> str:
    """Return a text for an encoder; raise `InvalidInputError` that names the place of one that is blank or no str."""
    checked = checked_text(text, name="text", place=place)
    if not checked.strip():
        raise InvalidInputError(f"{place} is blank ({text!r:.60})")
    return checked


def checked_pairs(passages: object) -> list[tuple[str, str]]:
    """Return the (title, text) pairs for an encoder, without checking their contents."""
    pairs = checked_items(passages, "passages", "give a sequence of (title, text) pairs")
    for number, pair in enumerate(pairs):
        if not isinstance(pair, Sequence) or isinstance(pair, (str, bytes)) or len(pair) != 2:
            raise refused(f"passages[{number}]", pair, "give a pair (title, text)")
    return pairs


def checked_fields(record: object) -> str | None:
    """Return what is wrong with the first field of a dataclass without its annotated type; None if all have theirs.

    It knows str, int, float (whole numbers too), bool, None, `Literal`, tuples, mappings, classes, and unions of them.
    """
    for name, kind in _hints(type(record)).items():  # type: ignore[arg-type]  # a class can be hashed
        value = getattr(record, name)
        if not _fits(value, kind):
            return f"{name} is {shown(value)} ({type(value).__name__}), not {_named(kind)}"
    return None


@cache
def _hints(record: type[Any]) -> dict[str, Any]:
    return {name: kind for name, kind in get_type_hints(record).items() if name in record.__dataclass_fields__}


def _fits(value: object, kind: Any) -> bool:  # noqa: ANN401, PLR0911 - a case for each kind of annotation
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in arguments)
    if origin in (Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if origin is tuple and isinstance(value, tuple):
        kinds = arguments[:1] * len(value) if arguments[-1:] == (Ellipsis,) else arguments
        return len(kinds) == len(value) and all(map(_fits, value, kinds))
    if origin is not None and isinstance(value, origin) and issubclass(origin, Mapping):
        return all(_fits(key, arguments[0]) and _fits(item, arguments[1]) for key, item in value.items())
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return isinstance(value, origin or kind)


def _named(kind: Any) -> str:  # noqa: ANN401
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(repr, get_args(kind)))}"
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(map(_named, get_args(kind)))
    return kind.__name__ if isinstance(kind, type) and get_origin(kind) is None else str(kind)
