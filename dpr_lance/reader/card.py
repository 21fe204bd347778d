"""The reader's identity and how it reads: one frozen record that travels in its bundle and in its checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dpr_lance.checks import checked_fields, shown
from dpr_lance.encoders.card_json import CardForm
from dpr_lance.errors import ReaderError

InputStyle = Literal["dpr", "pair"]

_MOST = 2**31
_SPECIALS = 8
"""More than the special tokens of any input."""

CARD_FORMAT = 1
"""Version of the JSON form; an older dpr-lance refuses a higher one."""
_FORM = CardForm("reader card", CARD_FORMAT, ReaderError)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderCard:
    """What a reader is, what it can do, and how a question and a passage become its input.

    Lengths are in tokens, without [CLS] and [SEP] where nothing else is said.
    """

    name: str
    fingerprint: str
    """A hash of weights and tokenizer."""
    selects: bool = True
    """It scores passages (paper, section 6.1, equation 5): it can re-rank."""
    extracts: bool = True
    """It finds spans (equations 3 and 4): it can answer."""
    input_style: InputStyle = "dpr"
    """`dpr`: [CLS] question [SEP] title [SEP] text [SEP] (paper, section 6.1); `pair`: [CLS] question [SEP] title text
    [SEP], as cross-encoders and question-answering models are trained."""
    final_separator: bool = True
    """Whether a [SEP] follows the text; the readers published with DPR have none."""
    zero_token_types: bool = False
    """Every token has type 0; else the question has 0, and title and text have 1."""
    max_tokens: int = 256
    """Length of a whole input, with special tokens; a longer passage is read in windows."""
    question_max_tokens: int = 64
    """Length at which a question is cut."""
    title_max_tokens: int = 64
    """Length at which a title is cut."""
    stride: int = 128
    """Tokens of text from the beginning of one window to the next; less where a window holds less."""
    span_max_tokens: int = 10
    """Length of the longest answer, 10 as in DPR: 94 % of the answers of SQuAD are no longer."""
    retrieval_weight: float = 0.0
    """Default weight of the retrieval score when passages are re-ranked: in units of this reader's score for each
    standard deviation of the retrieval score among the candidates."""
    answer_threshold: float = 0.0
    """Default probability below which an answer is withheld."""
    licence: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if problem := checked_fields(self) or self._problem():
            raise ReaderError(f"reader card {shown(self.name)}: {problem}")

    def _problem(self) -> str:
        for name in ("max_tokens", "question_max_tokens", "title_max_tokens", "stride", "span_max_tokens"):
            if not 1 <= getattr(self, name) < _MOST:
                return f"{name} must be at least 1 and below 2**31, it is {shown(getattr(self, name))}"
        if not 0 <= self.retrieval_weight < _MOST:  # nor NaN
            return f"retrieval_weight must be at least 0 and below 2**31, it is {shown(self.retrieval_weight)}"
        if not 0 <= self.answer_threshold <= 1:
            return f"answer_threshold is a probability from 0 to 1, it is {shown(self.answer_threshold)}"
        if not (self.selects or self.extracts):
            return "it neither selects nor extracts"
        least = self.question_max_tokens + self.title_max_tokens + _SPECIALS
        if self.max_tokens <= least:
            return (
                f"max_tokens must be above {least} to hold some text after question, title and special tokens, it is "
                f"{self.max_tokens}"
            )
        return ""

    def to_json(self) -> str:
        """Return the card as one JSON object with sorted keys; `from_json` is the inverse."""
        return _FORM.written(self)

    @classmethod
    def from_json(cls, text: str, *, place: str) -> ReaderCard:
        """Read a card; errors name `place`, a file.

        Raises `ReaderError` when the text is not a card, lacks a field, or is of a newer format.
        """
        return _FORM.read(cls, text, place=place)
