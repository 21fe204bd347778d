"""What is known of a checkpoint apart from its weights, and which source wins."""

from __future__ import annotations

import math
from typing import Any, TypedDict, cast, get_args

from dpr_lance.checks import checked_choice, refused
from dpr_lance.encoders.card import Pooling, TitleStyle
from dpr_lance.errors import InvalidInputError


class Overrides(TypedDict, total=False):
    """What one source says about a checkpoint: settings of its card; what is missing or None is left open."""

    pooling: Pooling | None
    normalise: bool | None
    question_prefix: str | None
    passage_prefix: str | None
    title_style: TitleStyle | None
    zero_token_types: bool | None
    straight_apostrophe: bool | None
    question_max_tokens: int | None
    passage_max_tokens: int | None
    hybrid_weight: float | None
    name: str | None
    licence: str | None


def merge(*sources: Overrides) -> Overrides:
    """Take each setting from the first source that names it; in what is returned nothing is None."""
    found: dict[str, Any] = {}
    for source in reversed(sources):
        found |= {name: value for name, value in source.items() if value is not None}
    return cast("Overrides", found)


def check_overrides(given: Overrides) -> None:
    """Raise `InvalidInputError` for an impossible or unknown setting of the user."""
    if unknown := sorted(given.keys() - Overrides.__annotations__.keys()):
        raise InvalidInputError(
            f"unknown settings {', '.join(unknown)}; known are {', '.join(Overrides.__annotations__)}"
        )
    for field, choices in (("pooling", get_args(Pooling)), ("title_style", get_args(TitleStyle))):
        if (value := given.get(field)) is not None:
            checked_choice(value, field, choices)
    for field in ("question_max_tokens", "passage_max_tokens"):
        if (tokens := given.get(field)) is not None and cast("int", tokens) < 8:
            raise refused(field, tokens, "at least 8 tokens are needed")
    weight = given.get("hybrid_weight")
    if weight is not None and not 0 <= weight < math.inf:
        raise refused("hybrid_weight", weight, "a number of at least 0 is needed")
