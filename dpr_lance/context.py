"""A passage with its neighbours in the document: what was written just before a hit, and just after."""

from __future__ import annotations

import re

from dpr_lance.checks import checked_text, checked_whole, refused
from dpr_lance.errors import InvalidInputError
from dpr_lance.filters import among, within
from dpr_lance.records import Hit, Passage
from dpr_lance.rows import passages_of
from dpr_lance.schema import DOCUMENT_ID
from dpr_lance.store import Store

_PASSAGE_ID = re.compile(r"(.*)#([0-9]{1,10})", re.DOTALL)
_LAST_POSITION = 2**31 - 1


def neighbours(store: Store, hit: Hit | Passage | str, before: int, after: int) -> list[Passage]:
    """Return the stored passage of `hit` with up to `before` and `after` neighbours; see `Retriever.context`."""
    wanted = "ask for 0 or more neighbours, as a whole number"
    before = checked_whole(before, "before", wanted, least=0)
    after = checked_whole(after, "after", wanted, least=0)
    document_id, position = _place_of(hit)
    if store.find() is None:
        return []
    first, last = max(0, position - before), min(_LAST_POSITION, position + after)
    where = among(DOCUMENT_ID, [document_id]) & within("position", first, last)
    found = passages_of(store.passages(where))
    same = [passage for passage in found if passage.position == position]
    if not same or (not isinstance(hit, str) and (same[0].title, same[0].text) != (hit.title, hit.text)):
        return []
    return sorted(found, key=lambda passage: passage.position)


def _place_of(hit: object) -> tuple[str, int]:
    """Return the document id and the position that a passage's id is made of."""
    if not isinstance(hit, (Hit, Passage, str)):
        raise refused("hit", hit, "context() takes a Hit, a Passage or a passage's id")
    name = checked_text(hit if isinstance(hit, str) else hit.id, name="the id", place="hit")
    parts = _PASSAGE_ID.fullmatch(name)
    if parts is None:
        raise InvalidInputError(f"hit={name!r:.80}: a passage's id is its document's, '#' and a position, as in Hit.id")
    return parts[1], int(parts[2])
