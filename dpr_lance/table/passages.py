"""Passages by id, and with their neighbours. The id of a document means all its passages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from lancedb.expr import col

from dpr_lance.checks import checked_id, checked_items, checked_text, checked_whole, refused
from dpr_lance.errors import InvalidInputError
from dpr_lance.records.hits import Hit, Passage
from dpr_lance.table.filters import Filter, among, checked_filter
from dpr_lance.table.rows import passages_of
from dpr_lance.table.schema import DOCUMENT_ID, ID
from dpr_lance.table.store import Store

Ids = str | int | Iterable[str | int] | None

_PASSAGE_ID = re.compile(r"(.*)#([0-9]{1,10})", re.DOTALL)
_LAST_POSITION = 2**31 - 1


def named(store: Store, ids: Ids) -> list[Passage]:
    """Return the stored passages of these document or passage ids, in their order, in one read."""
    names = _checked(ids)
    if store.find() is None or not names:
        return []
    stored = passages_of(store.passages(among(DOCUMENT_ID, names) | among(ID, names)))
    by_id = {passage.id: passage for passage in stored}
    by_document: dict[str, list[Passage]] = {}
    for passage in sorted(stored, key=lambda passage: passage.position):
        by_document.setdefault(passage.document_id, []).append(passage)
    found: dict[str, Passage] = {}
    for name in names:
        meant = by_document.get(name) or ([by_id[name]] if name in by_id else [])
        found.update((passage.id, passage) for passage in meant)
    return list(found.values())


def all_of(store: Store) -> Iterator[Passage]:
    """Return all stored passages, in storage order, read in batches."""
    if store.find() is None:
        return iter(())
    return (passage for batch in store.scan() for passage in passages_of(batch))


def meant_by(store: Store, verb: str, ids: Ids, where: Filter) -> Filter:
    """Return the filter for the passages of `ids`, or `where` itself; None when there is no such passage.

    Raises `InvalidInputError` naming the method `verb` unless exactly one of them is given.
    """
    if (ids is None) == (where is None):
        raise InvalidInputError(f"{verb}() takes either ids or where=..., exactly one of them")
    names, where = _checked(ids), None if where is None else checked_filter(where)
    if store.find() is None:
        return None
    if where is not None:
        store.check_filter(where)
        return where
    found = named(store, names)
    if not found:
        return None
    documents = {passage.document_id for passage in found}.intersection(names)
    # By document where possible: passages that it gets after this look-up are included.
    single = {passage.id for passage in found if passage.document_id not in documents}
    return among(DOCUMENT_ID, documents) | among(ID, single)


def _checked(ids: Ids) -> list[str]:
    # A NumPy array has an __index__, too.
    single = isinstance(ids, str) or (hasattr(ids, "__index__") and not isinstance(ids, Iterable))
    names = [ids] if single else checked_items(() if ids is None else ids, "ids", "give an id, or a list of ids")
    return [checked_id(name, name="id", place=f"ids[{number}]") for number, name in enumerate(names)]


def neighbours(store: Store, hit: Hit | Passage | str, before: int, after: int) -> list[Passage]:
    """Return the stored passage of `hit` with up to `before` and `after` neighbours; see `Retriever.context`."""
    wanted = "ask for 0 or more neighbours, as a whole number"
    before = checked_whole(before, "before", wanted, least=0)
    after = checked_whole(after, "after", wanted, least=0)
    document_id, position = _place_of(hit)
    if store.find() is None:
        return []
    first, last = max(0, position - before), min(_LAST_POSITION, position + after)
    where = among(DOCUMENT_ID, [document_id]) & (col("position") >= first) & (col("position") <= last)
    found = passages_of(store.passages(where))
    same = [passage for passage in found if passage.position == position]
    if not same or (not isinstance(hit, str) and (same[0].title, same[0].text) != (hit.title, hit.text)):
        return []
    return sorted(found, key=lambda passage: passage.position)


def _place_of(hit: object) -> tuple[str, int]:
    if not isinstance(hit, (Hit, Passage, str)):
        raise refused("hit", hit, "context() takes a Hit, a Passage or a passage's id")
    name = checked_text(hit if isinstance(hit, str) else hit.id, name="the id", place="hit")
    parts = _PASSAGE_ID.fullmatch(name)
    if parts is None:
        raise InvalidInputError(f"hit={name!r:.80}: a passage's id is its document's, '#' and a position, as in Hit.id")
    return parts[1], int(parts[2])
