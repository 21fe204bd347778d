"""The JSON form of the cards of models: one object with the fields of a dataclass and the version of the form."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from dpr_lance.errors import DprLanceError


class Card(Protocol):
    """The identity of a model: a frozen dataclass."""

    @property
    def fingerprint(self) -> str:
        """A hash of weights and tokenizer."""

    def to_json(self) -> str:
        """Return the card as one JSON object."""


C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class CardForm:
    """A kind of card: its noun for messages, the version of its JSON form, and the error about it."""

    noun: str
    version: int
    error: type[DprLanceError]

    def written(self, card: Any) -> str:  # noqa: ANN401 - any dataclass
        """Return a card as one JSON object with sorted keys; `read` is the inverse."""
        return json.dumps({"format": self.version} | dataclasses.asdict(card), ensure_ascii=False, sort_keys=True)

    def read(self, kind: type[C], text: str, *, place: str) -> C:
        """Return the card of the class `kind` that `text` holds; errors name `place` (a file or a table).

        Raises `error` when the text is not a card, lacks a field, has an unknown one, or is of a newer format.
        """
        try:
            values: Any = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self.error(f"{place}: the {self.noun} is not JSON ({error})") from error
        if not isinstance(values, dict):
            raise self.error(f"{place}: the {self.noun} is not a JSON object")
        version = values.pop("format", None)
        if type(version) is not int or version > self.version:
            raise self.error(
                f"{place}: {self.noun} format {version!r} is not known here (up to {self.version}): upgrade dpr-lance"
            )
        fields = dataclasses.fields(kind)  # type: ignore[arg-type]  # cards are dataclasses
        required = {field.name for field in fields if field.default is dataclasses.MISSING}
        if missing := sorted(required - values.keys()):
            raise self.error(f"{place}: the {self.noun} lacks {', '.join(missing)}")
        if unknown := sorted(values.keys() - {field.name for field in fields}):
            raise self.error(f"{place}: the {self.noun} has unknown fields {', '.join(unknown)}")
        try:
            return kind(**values)
        except self.error as error:
            raise self.error(f"{place}: {error}") from error
