"""What the doctor tries models on, and what it says of those that fail."""

from __future__ import annotations

from dataclasses import dataclass

TOLERANCE = 1e-4
"""Largest difference of a number that a model gives for a text alone and in a batch (int8: none)."""

PAIRS: tuple[tuple[str, str, str], ...] = (
    (
        "why is the sky blue?",
        "Sky",
        "Air scatters short waves of sunlight more than long ones, so we see blue above us.",
    ),
    ("who wrote Hamlet?", "Hamlet", "A tragedy by William Shakespeare about a prince of Denmark and his dead father."),
    ("what do bees make?", "Bees", "From the nectar of flowers these insects produce honey and wax in their hives."),
    ("how hot does water boil?", "Boiling", "At sea level water turns to steam at one hundred degrees Celsius."),
)
"""Question, title and text: each question must be nearest to its own passage."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is broken, and the remedy."""

    what: str
    remedy: str
