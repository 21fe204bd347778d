"""Context for a generator: the text of hits and their neighbours, merged, numbered and cut to a budget of tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from dpr_lance.checks import checked_callback, checked_whole, refused, shown
from dpr_lance.records.passage import Passage
from dpr_lance.text.boundaries import sentences

BYTES_PER_TOKEN = 4
"""What the default count assumes: English text has 4 to 5 bytes of UTF-8 for each token of common tokenizers."""
MOST = 1_000
"""Neighbours on each side; more would be whole books."""
_WIDEST_GAP = 16
"""Passages next to each other in a document have white space between them, of up to about this many characters."""


@dataclass(frozen=True, slots=True)
class ContextPassage:
    """A numbered block of a context: neighbouring passages of one document as one text.

    `start` and `end` are character offsets in the document's text; `passage_ids` are the passages, in its order. What a
    splitter left out between two of them is white space, which is written as line feeds and blanks of that length.
    """

    number: int
    document_id: str
    title: str
    text: str
    start: int
    end: int
    passage_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Context:
    """The text of a search's hits for a generator.

    `text` has the blocks, each under a line with its number in brackets and its title; `passages` are the blocks in
    the order of their numbers, 1, 2, ...; `tokens` is the count of `text`. `left_out` are the ids of hits that the
    budget has no place for.
    """

    question: str
    text: str
    passages: tuple[ContextPassage, ...]
    tokens: int
    left_out: tuple[str, ...] = ()

    @property
    def by_number(self) -> Mapping[int, ContextPassage]:
        """The block that each number in the text stands for."""
        return {passage.number: passage for passage in self.passages}


def estimated_tokens(text: str) -> int:
    """Return a quarter of the text's bytes in UTF-8, rounded up: the default count."""
    return math.ceil(len(text.encode()) / BYTES_PER_TOKEN)


@dataclass(frozen=True, slots=True)
class ContextLimits:
    """What a context may hold: see `Hits.context`."""

    budget_tokens: int | None = None
    count: Callable[[str], int] = estimated_tokens
    neighbours: int = 1

    def checked(self) -> ContextLimits:
        """Return the limits with plain values; raise `InvalidInputError` that names an argument to change."""
        wanted = "give a number of tokens, 1 or more, or None"
        budget = self.budget_tokens
        checked_callback(self.count, "count", "give a function from a text to its number of tokens")
        return ContextLimits(
            None if budget is None else checked_whole(budget, "budget_tokens", wanted, least=1),
            self.count,
            checked_whole(
                self.neighbours, "neighbours", "ask for 0 or more neighbours, as a whole number", least=0, most=MOST
            ),
        )

    def fit(self, text: str) -> bool:
        """Tell whether a text is within the budget."""
        return self.budget_tokens is None or self.tokens(text) <= self.budget_tokens

    def tokens(self, text: str) -> int:
        """Return the number of a text's tokens; raise `InvalidInputError` where `count` returns something else."""
        counted = self.count(text)
        if isinstance(counted, bool) or not hasattr(counted, "__index__") or counted.__index__() < 0:
            raise refused("count", self.count, f"it must return a number of tokens, it returned {shown(counted)}")
        return int(counted.__index__())


def assembled(question: str, hits: Sequence[Passage], neighbours: Iterable[Passage], limits: ContextLimits) -> Context:
    """Return the context of passages that were found, best first, and of their neighbours, most wanted first.

    The budget takes whole passages in this order, the neighbours after all hits, up to the first that does not fit; a
    text that is there already is left out. Only a first hit that is too long alone is cut, after a sentence.
    """
    wanted = _distinct([*hits, *neighbours])
    found = {passage.id for passage in hits}
    fitting, over = 0, len(wanted) + 1
    # The largest number of passages that fits, by bisection.
    while over - fitting > 1:
        middle = (fitting + over) // 2
        if limits.fit(_text_of(_blocks(wanted[:middle]))):
            fitting = middle
        else:
            over = middle
    taken = wanted[:fitting]
    if not taken and wanted:
        taken = _shortened(wanted[0], limits)
    blocks = _blocks(taken)
    text = _text_of(blocks)
    left_out = tuple(passage.id for passage in wanted[len(taken) :] if passage.id in found)
    return Context(question, text, blocks, limits.tokens(text) if text else 0, left_out)


def _distinct(passages: Iterable[Passage]) -> list[Passage]:
    """Return the passages without those whose id or text an earlier one has."""
    ids: set[str] = set()
    texts: set[str] = set()
    distinct = []
    for passage in passages:
        text = " ".join(passage.text.split())
        if passage.id not in ids and text not in texts:
            distinct.append(passage)
            ids.add(passage.id)
            texts.add(text)
    return distinct


def _blocks(passages: Sequence[Passage]) -> tuple[ContextPassage, ...]:
    """Return passages, most wanted first, as blocks; a block has the place of its best passage."""
    places = {passage.id: place for place, passage in enumerate(passages)}
    blocks: list[tuple[int, ContextPassage]] = []
    last: Passage | None = None
    for passage in sorted(passages, key=lambda passage: (passage.document_id, passage.start, passage.position)):
        place = places[passage.id]
        if last is not None and _continues(blocks[-1][1], last, passage):
            blocks[-1] = min(place, blocks[-1][0]), _joined(blocks[-1][1], passage)
        else:
            blocks.append((place, _block(passage)))
        last = passage
    blocks.sort(key=lambda placed: placed[0])
    return tuple(replace(block, number=number) for number, (_, block) in enumerate(blocks, start=1))


def _block(passage: Passage) -> ContextPassage:
    end = passage.start + len(passage.text)
    return ContextPassage(0, passage.document_id, passage.title, passage.text, passage.start, end, (passage.id,))


def _continues(block: ContextPassage, last: Passage, passage: Passage) -> bool:
    if (block.document_id, block.title) != (passage.document_id, passage.title):
        return False
    gap = passage.start - block.end
    return gap <= 0 or (passage.position == last.position + 1 and gap <= _WIDEST_GAP)


def _joined(block: ContextPassage, passage: Passage) -> ContextPassage:
    gap = passage.start - block.end
    # As many characters as in the document, so that offsets stay true.
    blank = " " if gap == 1 else "\n" * min(2, gap) + " " * (gap - 2)
    text = block.text + (blank + passage.text if gap > 0 else passage.text[-gap:] if gap else passage.text)
    return replace(block, text=text, end=block.start + len(text), passage_ids=(*block.passage_ids, passage.id))


def _text_of(blocks: Sequence[ContextPassage]) -> str:
    return "\n\n".join(f"[{block.number}] {block.title}".rstrip() + f"\n{block.text}" for block in blocks)


def _shortened(passage: Passage, limits: ContextLimits) -> list[Passage]:
    """Return a passage with as many of its first sentences as fit; nothing where the first one does not."""
    fitting: list[Passage] = []
    for _, end in sentences(passage.text):
        cut = replace(passage, text=passage.text[:end].rstrip())
        if not limits.fit(_text_of(_blocks([cut]))):
            break
        fitting = [cut]
    return fitting
