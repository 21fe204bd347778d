"""Passages by id, and with their neighbours. The id of a document means all its passages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from lancedb.expr import col

from dpr_lance.checks import checked_id, checked_items, checked_text, checked_whole, refused
from dpr_lance.errors import InvalidInputError
from dpr_lance.records.context import Context, ContextLimits, assembled
from dpr_lance.records.hits import Hit, Hits, passage_of, place_in_document
from dpr_lance.records.passage import Passage, StoredDocument
from dpr_lance.table.filters import Filter, among, checked_filter
from dpr_lance.table.rows import completed, passages_of
from dpr_lance.table.schema import DOCUMENT_ID, ID
from dpr_lance.table.store import Store

Ids = str | int | Iterable[str | int] | None

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


def is_stored(store: Store, name: str) -> bool:
    """Tell whether a document or a passage has this id."""
    where = among(DOCUMENT_ID, [name]) | among(ID, [name])
    return store.find() is not None and len(store.row_ids(where, limit=1)) > 0


def documents_of(store: Store) -> Iterator[StoredDocument]:
    """Yield all documents, in storage order, read in batches."""
    if store.find() is None:
        return
    for batch in store.by_document([ID, DOCUMENT_ID, "position", "title"]):
        first: dict[str, tuple[int, str]] = {}
        counts: Counter[str] = Counter()
        for row in map(completed, batch.to_pylist()):
            name, place = row[DOCUMENT_ID], (row["position"], row["title"])
            first[name] = min(first.get(name, place), place)
            counts[name] += 1
        yield from (StoredDocument(name, title, counts[name]) for name, (_, title) in first.items())


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
    place = place_in_document(name)
    if isinstance(hit, Hit | Passage) and (place is None or place[0] != hit.document_id):
        return hit.document_id, 0  # added by plain LanceDB under an id of another form
    if place is None:
        raise InvalidInputError(f"hit={name!r:.80}: a passage's id is its document's, '#' and a position, as in Hit.id")
    return place


def around(store: Store, hits: Sequence[Hit], neighbours: int) -> tuple[list[Passage], list[Passage]]:
    """Return the passages of these hits, and up to this many stored neighbours on each side of each, in one read.

    Neighbours come in the order of the hits, the nearest first. A hit whose passage is no longer stored, or has another
    text now, has none.
    """
    store.check_usable()
    found = [passage_of(hit) for hit in hits]
    if not neighbours or not found or store.find() is None:
        return found, []
    reach = [0, *(sign * distance for distance in range(1, neighbours + 1) for sign in (-1, 1))]
    names = [[f"{hit.document_id}#{hit.position + step}" for step in reach] for hit in found]
    wanted = sorted({name for each in names for name in each})
    stored = {passage.id: passage for passage in passages_of(store.passages(among(ID, wanted)))}
    nearby: dict[str, Passage] = {}
    for hit, ids in zip(found, names, strict=True):
        same = stored.get(hit.id)
        if same is not None and (same.title, same.text) == (hit.title, hit.text):
            nearby |= {name: stored[name] for name in ids[1:] if name in stored}
    return found, list(nearby.values())


def context_for(store: Store, hits: Sequence[Hit], limits: ContextLimits) -> Context:
    """Return the context of hits; see `Retriever.context_for`."""
    wanted = "give the Hits of a search, or some of its hits"
    chosen = checked_items(hits, "hits", wanted)
    for number, hit in enumerate(chosen):
        if not isinstance(hit, Hit):
            raise refused(f"hits[{number}]", hit, wanted)
    question = hits.question if isinstance(hits, Hits) else chosen[0].question if chosen else ""
    return assembled(question, *around(store, chosen, limits.neighbours), limits)
