"""The methods of a `Retriever` that read what is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from dpr_lance.checks import checked_id
from dpr_lance.records.context import Context, ContextLimits, estimated_tokens
from dpr_lance.records.hits import Hit, Hits
from dpr_lance.records.passage import Passage, StoredDocument
from dpr_lance.table.holder import TableHolder
from dpr_lance.table.passages import Ids, all_of, context_for, documents_of, is_stored, named, neighbours


class Readable(TableHolder):
    """A table whose passages and documents can be read."""

    def get(self, ids: Ids) -> list[Passage]:
        """Return the passages of these ids, in the order of the ids; a document's passages in their order.

        The id of a document means all its passages; unknown ids are ignored.
        """
        self._store.check_usable()
        return named(self._store, ids)

    def context(self, hit: Hit | Passage | str, before: int = 1, after: int = 1) -> list[Passage]:
        """Return a hit (or passage, or passage id) with its neighbours in the same document, in the document's order.

        The list is empty when the passage is no longer stored, or when its id now has another text. Raises
        `InvalidInputError` for a negative number.
        """
        self._store.check_usable()
        return neighbours(self._store, hit, before, after)

    def context_for(
        self,
        hits: Hits | Sequence[Hit],
        budget_tokens: int | None = None,
        *,
        count: Callable[[str], int] = estimated_tokens,
        neighbours: int = 1,
    ) -> Context:
        """Return the text of hits for a generator: see `Hits.context`. Some of the hits, or unpickled ones, will do."""
        self._store.check_usable()
        limits = ContextLimits(budget_tokens, count, neighbours).checked()
        return context_for(self._store, hits, limits)

    def __len__(self) -> int:
        """Return the number of passages."""
        return self._store.count()

    def __contains__(self, name: object) -> bool:
        """Tell whether a document or a passage with this id is stored, as in `"alps" in retriever`.

        Raises `InvalidInputError` for anything but a string or an integer.
        """
        self._store.check_usable()
        return is_stored(self._store, checked_id(name, name="the id", place="in"))

    def passages(self) -> Iterator[Passage]:
        """Yield every passage, in storage order, read in batches."""
        return all_of(self._store)

    def documents(self) -> Iterator[StoredDocument]:
        """Yield every document with its title and the number of its passages, in storage order, without their texts.

        It is read in batches; memory holds the ids of the documents.
        """
        self._store.check_usable()
        return documents_of(self._store)
