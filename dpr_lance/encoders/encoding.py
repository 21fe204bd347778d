"""Checked vectors of an encoder; one text without a vector does not affect the others.

A tokenizer makes no token of some texts (a page of replacement characters), and an encoder may fail on a single text.
Halving the batch finds it; `PROBE` distinguishes it from an encoder that fails on every text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpr_lance.encoders.card import Side
from dpr_lance.encoders.encoder import Encoder
from dpr_lance.encoders.vectors import Vector, checked_vectors
from dpr_lance.errors import DprLanceError, EncoderError, InvalidInputError, is_panic

PROBE = "The Rhine is a river in Europe."
"""A text that every working encoder has a vector for."""

_PLACE = re.compile(r"^(questions|passages)\[\d+\] is ")


class UnencodableError(InvalidInputError):
    """Questions that a working encoder makes no vector of; `reasons` holds the reasons, by position."""

    def __init__(self, message: str, reasons: Mapping[int, str]) -> None:
        super().__init__(message)
        self.reasons = dict(reasons)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.reasons), vars(self)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A vector for each text, or None; `reasons` holds the reasons, by position."""

    vectors: list[Vector | None]
    reasons: dict[int, str]


def encoded_questions(encoder: Encoder, questions: Sequence[str]) -> Vector:
    """Return float32[n, d].

    Raises `UnencodableError` for questions that have no vector, `EncoderError` for an encoder that does not work.
    """
    try:
        return _answer(encoder, "question", questions)
    except (InvalidInputError, EncoderError) as error:
        found = _apart(encoder, "question", questions, error)
    if not found.reasons:
        return np.stack([vector for vector in found.vectors if vector is not None])
    first, why = next(iter(found.reasons.items()))
    more = f" (and {len(found.reasons) - 1:,} more questions)" if len(found.reasons) > 1 else ""
    raise UnencodableError(
        f"the encoder {encoder.card.name!r} makes no vector of the question {questions[first]!r:.80}: {why}{more}; "
        f"mode='bm25' needs none",
        found.reasons,
    )


def encoded_passages(encoder: Encoder, passages: Sequence[tuple[str, str]]) -> Encoded:
    """Return the vectors of (title, text) pairs; raise `EncoderError` for an encoder that does not work."""
    try:
        return Encoded(list(_answer(encoder, "passage", passages)), {})
    except (InvalidInputError, EncoderError) as error:
        return _apart(encoder, "passage", passages, error)


def _answer(encoder: Encoder, side: Side, texts: Sequence[Any]) -> Vector:
    """Return float32[n, d]; anything else that an encoder returns or raises becomes an `EncoderError`."""
    try:
        vectors = encoder.encode_questions(texts) if side == "question" else encoder.encode_passages(texts)
    except DprLanceError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        raise EncoderError(
            f"the encoder {encoder.card.name!r} failed on {len(texts)} {side}s ({type(error).__name__}: {error})"
        ) from error
    return checked_vectors(vectors, len(texts), encoder.card)


def _apart(encoder: Encoder, side: Side, texts: Sequence[Any], error: DprLanceError) -> Encoded:
    """Return the vector of each text after the encoder has failed on all of them together with `error`."""
    if isinstance(error, EncoderError) and not _works(encoder, side):
        raise error
    if len(texts) == 1:
        return Encoded([None], {0: _PLACE.sub("it is ", str(error))})
    middle = len(texts) // 2
    vectors: list[Vector | None] = []
    reasons: dict[int, str] = {}
    for start, part in ((0, texts[:middle]), (middle, texts[middle:])):
        try:
            vectors.extend(_answer(encoder, side, part))
        except (InvalidInputError, EncoderError) as problem:
            found = _apart(encoder, side, part, problem)
            vectors.extend(found.vectors)
            reasons.update((start + at, reason) for at, reason in found.reasons.items())
    return Encoded(vectors, reasons)


def _works(encoder: Encoder, side: Side) -> bool:
    try:
        _answer(encoder, side, [PROBE if side == "question" else ("", PROBE)])
    except (InvalidInputError, EncoderError):
        return False
    return True
