"""What the parts of a `Retriever` have in common: its table and its encoder."""

from __future__ import annotations

from dpr_lance.table.encoder import EncoderSource, TableEncoder
from dpr_lance.table.store import Store


class TableHolder:
    """One table with the encoder that `connect` was given; each part of a `Retriever` adds methods by theme."""

    def __init__(self, store: Store, encoder: EncoderSource | None) -> None:
        self._store = store
        self._encoder = TableEncoder(store, encoder)
