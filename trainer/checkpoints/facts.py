"""What is known of a checkpoint beside its weights, and who says it."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from dpr_lance.encoders.card import Pooling, TitleStyle
from dpr_lance.errors import EncoderError, InvalidInputError


@dataclass(frozen=True, slots=True)
class Facts:
    """What one source says about a checkpoint; None where it is silent."""

    pooling: Pooling | None = None
    normalise: bool | None = None
    question_prefix: str | None = None
    passage_prefix: str | None = None
    title_style: TitleStyle | None = None
    zero_token_types: bool | None = None
    straight_apostrophe: bool | None = None
    question_max_tokens: int | None = None
    passage_max_tokens: int | None = None
    hybrid_weight: float | None = None
    name: str | None = None
    licence: str | None = None


def merge(*layers: Facts) -> Facts:
    """Take each fact from the first layer that names it."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(Facts):
        named = (getattr(layer, field.name) for layer in layers)
        values[field.name] = next((value for value in named if value is not None), None)
    return Facts(**values)


def check_said(said: Facts) -> None:
    """Raise `InvalidInputError` when what the user says cannot be."""
    _check_weight(said.hybrid_weight)
    for field, allowed in (("pooling", get_args(Pooling)), ("title_style", get_args(TitleStyle))):
        value = getattr(said, field)
        if value is not None and value not in allowed:
            raise InvalidInputError(f"{field} is {value!r}, not one of {', '.join(allowed)}")
    for side, tokens in (("question", said.question_max_tokens), ("passage", said.passage_max_tokens)):
        if tokens is not None and tokens < 8:
            raise InvalidInputError(f"{side} length {tokens} leaves no room for text: at least 8 tokens")


def _check_weight(weight: float | None) -> None:
    if weight is not None and not 0 <= weight < math.inf:
        raise InvalidInputError(f"hybrid_weight={weight!r}: a number from 0 on is needed")


def read_json(path: Path, missing: str | None) -> dict[str, Any]:
    """Return the JSON object in `path`; without the file an empty one, or `EncoderError(missing)` when given."""
    if not path.is_file():
        if missing is not None:
            raise EncoderError(missing)
        return {}
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise EncoderError(f"{path} is not JSON ({error})") from error
    if not isinstance(values, dict):
        raise EncoderError(f"{path} is not a JSON object")
    return values
