"""Checks of what re-rankers are given: questions, and passages as (title, text)."""

from __future__ import annotations

from dpr_lance.checks import checked_input, checked_items, checked_pairs, checked_text, refused
from dpr_lance.reader.reranker import PassageText

_PAIR = "give a pair (question, (title, text))"


def checked_passages(passages: object, name: str = "passages") -> list[PassageText]:
    """Return passages; raise `InvalidInputError` naming the first whose text is blank, or that is not (title, text)."""
    return [_passage(pair, f"{name}[{number}]") for number, pair in enumerate(checked_pairs(passages))]


def checked_question_pairs(pairs: object) -> list[tuple[str, PassageText]]:
    """Return pairs of a question and a passage; raise `InvalidInputError` naming the first that is none."""
    checked = []
    for number, pair in enumerate(checked_items(pairs, "pairs", "give a sequence of (question, (title, text))")):
        place = f"pairs[{number}]"
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise refused(place, pair, _PAIR)
        question, passage = pair
        if not isinstance(passage, (tuple, list)) or len(passage) != 2:
            raise refused(place, pair, _PAIR)
        checked.append((checked_input(question, f"the question of {place}"), _passage(passage, place)))
    return checked


def _passage(pair: tuple[object, object] | list[object], place: str) -> PassageText:
    title, text = pair
    return PassageText(checked_text(title, name="title", place=place), checked_input(text, place))
