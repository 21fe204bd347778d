"""Texts without a token have no vector: such questions and positives are reported, such negatives left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dpr_lance.encoders.card import Side
from dpr_lance.records.reports import OnError, Skipped

from .examples import Examples, KnownPassage, refused

Blank: TypeAlias = Callable[[Side, Sequence[Any]], NDArray[np.bool_]]
"""Returns for questions, or for (title, text) pairs, whether the tokenizer makes no token of them."""


def readable(examples: Examples, blank: Blank, *, titles: bool = True, on_error: OnError = "raise") -> Examples:
    """Return the examples without the texts that have no token.

    A question that has none, or whose positives all have none, is a bad row: `skipped` names it, or with
    `on_error="raise"` an `InvalidInputError` names all of them. Where training drops titles (`titles=False`), the text
    of a passage alone must have a token.
    """
    passages = readable_passages(list(examples.passages.values()), blank, titles=titles)
    known = {passage.id for passage in passages}
    lost = examples.passages.keys() - known
    mute = blank("question", [row.question for row in examples.rows])
    rows, skipped = [], []
    for row, unread in zip(examples.rows, mute, strict=True):
        pools = [
            tuple(name for name in pool if name not in lost)
            for pool in (row.positives, row.hard_negatives, row.negatives)
        ]
        if unread:
            skipped.append(
                Skipped(row.place, f"the question is blank to the encoder's tokenizer: {row.question!r:.80}")
            )
        elif row.positives and not pools[0]:
            why = f"its positive passage {row.positives[0]!r} is blank to the encoder's tokenizer"
            skipped.append(Skipped(row.place, why))
        else:
            rows.append(replace(row, positives=pools[0], hard_negatives=pools[1], negatives=pools[2]))
    if skipped and on_error == "raise":
        raise refused(examples.name, skipped)
    oddities = Counter(examples.oddities)
    if lost:
        oddities["a passage that the encoder's tokenizer makes no token of: left out"] += len(lost)
    return replace(
        examples,
        rows=tuple(rows),
        passages={passage.id: passage for passage in passages},
        skipped=(*examples.skipped, *skipped),
        oddities=oddities,
    )


def readable_passages(passages: Sequence[KnownPassage], blank: Blank, *, titles: bool = True) -> list[KnownPassage]:
    """Return the passages that have a token, without their titles where training drops these."""
    found = blank("passage", [(passage.title if titles else "", passage.text) for passage in passages])
    return [passage for passage, unread in zip(passages, found, strict=True) if not unread]
