"""The encoder's identity: one frozen record that travels in the bundle, in the checkpoint and in the table's schema."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from dpr_lance.checks import checked_fields, shown
from dpr_lance.encoders.card_json import CardForm
from dpr_lance.errors import EncoderError

Side = Literal["question", "passage"]
Pooling = Literal["cls", "mean"]
TitleStyle = Literal["pair", "joined"]
Similarity = Literal["dot"]
Precision = Literal["fp32", "fp16", "int8"]
"""How the weights are stored: fp16 is widened when the model is loaded, int8 is computed with."""
DEFAULT_PRECISION: Precision = "int8"

_MOST = 2**31

CARD_FORMAT = 1
"""Version of the JSON form; a reader refuses a higher one."""
_FORM = CardForm("encoder card", CARD_FORMAT, EncoderError)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSettings:
    """How a text becomes a vector, apart from the weights and the tokenizer.

    A bundle's fingerprint is a hash of these values in this order.
    """

    pooling: Pooling = "cls"
    normalise: bool = False
    question_prefix: str = ""
    passage_prefix: str = ""
    title_style: TitleStyle = "pair"
    """`pair`: [CLS] title [SEP] text [SEP] as DPR does (paper, section 4.1); `joined`: "title text" as one segment."""
    zero_token_types: bool = True
    """DPR was trained with all token type ids zero, though its tokenizer says 1 for a pair's second half."""
    straight_apostrophe: bool = False
    """DPR was trained and searched with ' for every ’ of a question; its passages keep theirs."""
    question_max_tokens: int = 256
    passage_max_tokens: int = 256

    def text_settings(self) -> dict[str, Any]:
        """Return these settings alone, by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(TextSettings)}

    def max_tokens(self, side: Side) -> int:
        """Return the length at which a question or a passage is cut."""
        return self.question_max_tokens if side == "question" else self.passage_max_tokens

    def prefix(self, side: Side) -> str:
        """Return what is put before each question, or before each passage."""
        return self.question_prefix if side == "question" else self.passage_prefix

    def question_input(self, question: str) -> str:
        """Return the tokenizer's input for a question."""
        return self.question_prefix + (question.replace("’", "'") if self.straight_apostrophe else question)

    def passage_input(self, title: str, text: str) -> str | tuple[str, str]:
        """Return the tokenizer's input for a passage: one string, or a pair. A blank title is left out."""
        if not title.strip():
            return self.passage_prefix + text
        if self.title_style == "pair":
            return self.passage_prefix + title, text
        return f"{self.passage_prefix}{title} {text}"


@dataclass(frozen=True, slots=True)
class EncoderCard(TextSettings):
    """What must agree between the encoder that stores a passage and the one that encodes a question.

    `fingerprint` is a hash of weights and tokenizer: vectors of different fingerprints are never compared.
    """

    name: str
    dimension: int
    fingerprint: str
    similarity: Similarity = "dot"
    projection: int = 0
    """Width of the projection after pooling; 0 when there is none."""
    hybrid_weight: float = 1.1
    """Default λ of `bm25 + λ·dense`: 1.1 for the original DPR (paper, section 5.1); unit vectors need far more."""
    licence: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        problem = checked_fields(self)
        if not problem:
            for name in ("dimension", "question_max_tokens", "passage_max_tokens"):
                if not 1 <= getattr(self, name) < _MOST:
                    problem = f"{name} must be at least 1 and below 2**31, it is {shown(getattr(self, name))}"
            for name in ("projection", "hybrid_weight"):
                if not 0 <= getattr(self, name) < _MOST:  # nor NaN
                    problem = f"{name} must be at least 0 and below 2**31, it is {shown(getattr(self, name))}"
        if problem:
            raise EncoderError(f"encoder card {shown(self.name)}: {problem}")

    def to_json(self) -> str:
        """Return the card as one JSON object with sorted keys; `from_json` is the inverse."""
        return _FORM.written(self)

    @classmethod
    def from_json(cls, text: str, *, place: str) -> EncoderCard:
        """Read a card; errors name `place` (a file or a table).

        Raises `EncoderError` when the text is not a card, lacks a field, or is of a newer format.
        """
        return _FORM.read(cls, text, place=place)
