"""Passages by id: a document's id stands for all its passages, a passage's for itself."""

from __future__ import annotations

from collections.abc import Sequence

from dpr_lance.checks import checked_items, checked_text
from dpr_lance.filters import among
from dpr_lance.records import Passage
from dpr_lance.schema import DOCUMENT_ID, ID, passages_of
from dpr_lance.store import Store

Ids = str | Sequence[str] | None


def named(store: Store, ids: Ids) -> list[Passage]:
    """Return the stored passages that these document or passage ids stand for, in their order, in one read."""
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


def delete_named(store: Store, ids: Ids) -> int:
    """Delete the passages that these ids stand for; return how many passages went."""
    found = named(store, ids)
    if not found:
        return 0
    asked = set(_checked(ids))
    documents = {passage.document_id for passage in found} & asked
    # By document where one is meant: passages that it has got since it was looked up go too.
    single = {passage.id for passage in found if passage.document_id not in documents}
    return store.delete(among(DOCUMENT_ID, documents) | among(ID, single))


def _checked(ids: Ids) -> list[str]:
    wanted = "give an id, or a list of ids"
    names = [ids] if isinstance(ids, str) else checked_items(() if ids is None else ids, "ids", wanted)
    for number, name in enumerate(names):
        checked_text(name, name="id", place=f"ids[{number}]")
    return names
