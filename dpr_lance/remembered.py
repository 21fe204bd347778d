"""What is kept beside the passages, in a small table of its own: what changes after creation, as JSON by key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pyarrow as pa
from lancedb.db import DBConnection
from lancedb.table import Table

from dpr_lance.contention import steadily
from dpr_lance.schema import PRIMARY_KEY, TableCard

STATE_SUFFIX = "_dpr_lance"
"""The small table beside `passages` is `passages_dpr_lance`."""

CARD = "card"
"""Key of the `TableCard` that a re-embedding has put in force."""
NEXT_CARD = "next_card"
"""Key of the `TableCard` that a re-embedding under way is preparing."""

_SCHEMA = pa.schema(
    [pa.field("key", pa.string(), nullable=False, metadata=PRIMARY_KEY), pa.field("value", pa.string())]
)


class Remembered:
    """JSON objects by key, in the small table beside a table of passages; shared by threads."""

    def __init__(self, database: DBConnection, table: str, place: str) -> None:
        self._database = database
        self.name = f"{table}{STATE_SUFFIX}"
        self.place = place
        """How error messages name the table of passages."""
        self._table: Table | None = None
        self._values: tuple[int, dict[str, Any]] = (-1, {})

    def create(self) -> None:
        """Create the small table, unless it is there."""
        self._database.create_table(self.name, schema=_SCHEMA, exist_ok=True)

    def open(self) -> None:
        """Open the small table, which exists."""
        self._table = self._database.open_table(self.name)

    def values(self) -> dict[str, Any]:
        """Return what is remembered, by key; read again only when it has changed. Nothing while it is not open."""
        if self._table is None:
            return {}
        version = self._table.version
        if self._values[0] != version:
            rows = steadily(lambda table: table.to_arrow(), self._table).to_pylist()
            self._values = (version, {row["key"]: json.loads(row["value"]) for row in rows})
        return self._values[1]

    def keep(self, **values: Mapping[str, Any] | None) -> None:
        """Keep JSON objects by key, in place of earlier ones, in one commit; None forgets."""
        rows = [{"key": key, "value": json.dumps(value)} for key, value in values.items()]
        values_by_key = pa.Table.from_pylist(rows, schema=_SCHEMA)

        def merge(table: Table) -> None:
            upsert = table.merge_insert("key").when_matched_update_all().when_not_matched_insert_all()
            upsert.execute(values_by_key)

        steadily(merge, self._database.open_table(self.name))

    def card(self, key: str) -> TableCard | None:
        """Return the card kept under `key`; None when there is none."""
        return self.card_in(self.values(), key)

    def card_in(self, values: Mapping[str, Any], key: str) -> TableCard | None:
        """Return the card that stands under `key` in what was read before; None when there is none."""
        value = values.get(key)
        return None if value is None else TableCard.from_json(json.dumps(value), place=self.place)

    def compact(self, keep_versions: timedelta) -> None:
        """Free old versions of the small table."""
        self._database.open_table(self.name).optimize(cleanup_older_than=keep_versions)
