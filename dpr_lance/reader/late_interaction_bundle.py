"""The card and the bundle of a late-interaction model: a folder that needs neither torch nor transformers.

late-interaction.json      the card
late-interaction.onnx      the graph: token ids in, `vectors` [b, s, d] of unit length out
tokenizer.json             for the `tokenizers` package
manifest.json              format, precision, size and sha256 of every other file; written last
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from dpr_lance.checks import checked_fields, shown
from dpr_lance.encoders.bundle_folder import BundleFolder, BundleKind, open_folder, write_folder
from dpr_lance.encoders.card import Precision
from dpr_lance.encoders.card_json import CardForm
from dpr_lance.errors import ReaderError
from dpr_lance.reader.reranker import PassageText

CARD = "late-interaction.json"
GRAPH = "late-interaction.onnx"
CARD_FORMAT = 1
"""Version of the JSON form; an older dpr-lance refuses a higher one."""
_FORM = CardForm("late-interaction card", CARD_FORMAT, ReaderError)
_MOST = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class LateInteractionCard:
    """What a late-interaction model is, and how questions and passages become its input.

    Lengths are in tokens, with special tokens and prefix.
    """

    name: str
    fingerprint: str
    """A hash of weights and tokenizer."""
    dimension: int
    """Of one token's vector."""
    question_prefix: str = ""
    """Put before each question: the marker [Q] of Khattab & Zaharia 2020, section 3.2, in the model's own form."""
    passage_prefix: str = ""
    """Put before each passage: the marker [D]."""
    question_max_tokens: int = 32
    """Length at which a question is cut."""
    augmented_tokens: int = 32
    """Length to which a shorter question is filled with `augmentation`, whose vectors count as those of words (paper,
    section 3.2); 0 for none."""
    augmentation: str = "[MASK]"
    attends_to_augmentation: bool = False
    """Whether the words of a question attend to what fills it. It is part of the graph."""
    passage_max_tokens: int = 300
    """Length at which a passage is cut."""
    skipped_tokens: tuple[str, ...] = ()
    """Tokens of passages whose vectors are left out: punctuation (paper, section 3.2)."""
    retrieval_weight: float = 0.0
    """Default weight of the retrieval score when passages are re-ranked: in units of this model's score for each
    standard deviation of the retrieval score among the candidates."""
    licence: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        given: Any = self.skipped_tokens
        if isinstance(given, list):  # as JSON has it
            object.__setattr__(self, "skipped_tokens", tuple(given))
        if problem := checked_fields(self) or self._problem():
            raise ReaderError(f"late-interaction card {shown(self.name)}: {problem}")

    def _problem(self) -> str:
        for name, least in (("dimension", 1), ("question_max_tokens", 4), ("passage_max_tokens", 4)):
            if not least <= getattr(self, name) < _MOST:
                return f"{name} must be at least {least} and below 2**31, it is {shown(getattr(self, name))}"
        if not 0 <= self.augmented_tokens <= self.question_max_tokens:
            return (
                f"augmented_tokens must be from 0 to question_max_tokens ({self.question_max_tokens}), it is "
                f"{shown(self.augmented_tokens)}"
            )
        if not 0 <= self.retrieval_weight < _MOST:  # nor NaN
            return f"retrieval_weight must be at least 0 and below 2**31, it is {shown(self.retrieval_weight)}"
        return ""

    def question_input(self, question: str) -> str:
        """Return the tokenizer's input for a question."""
        return self.question_prefix + question

    def passage_input(self, passage: PassageText) -> str:
        """Return the tokenizer's input for a passage: title and text, joined. A blank title is left out."""
        joined = f"{passage.title} {passage.text}" if passage.title.strip() else passage.text
        return self.passage_prefix + joined

    def to_json(self) -> str:
        """Return the card as one JSON object with sorted keys; `from_json` is the inverse."""
        return _FORM.written(self)

    @classmethod
    def from_json(cls, text: str, *, place: str) -> LateInteractionCard:
        """Read a card; errors name `place`, a file.

        Raises `ReaderError` when the text is not a card, lacks a field, or is of a newer format.
        """
        return _FORM.read(cls, text, place=place)


LateInteractionBundle: TypeAlias = BundleFolder[LateInteractionCard]
LATE_INTERACTION_BUNDLE = BundleKind(
    card=CARD, read_card=LateInteractionCard.from_json, graphs=(frozenset({GRAPH}),), error=ReaderError
)


def write_late_interaction_bundle(
    folder: str | Path,
    card: LateInteractionCard,
    files: Mapping[str, Path],
    *,
    precision: Precision,
    replace: bool = False,
) -> LateInteractionBundle:
    """Write a bundle of `card` and copies of `files` (name in the bundle → where it is now), and open it.

    `files` has `tokenizer.json` and `late-interaction.onnx`, and may have others. `replace` allows to replace an
    existing bundle, but nothing else.
    Raises `InvalidInputError` for a wrong set of files, and when `folder` exists and may not be replaced.
    """
    return write_folder(LATE_INTERACTION_BUNDLE, Path(folder), card, files, precision=precision, replace=replace)


def open_late_interaction_bundle(folder: str | Path) -> LateInteractionBundle:
    """Open the bundle at `folder`: read its manifest and card, and check that each file is there and has its size.

    Raises `ReaderError` naming the file that is missing, damaged or of a newer format, and what to do.
    """
    return open_folder(LATE_INTERACTION_BUNDLE, Path(folder))
