"""What the metadata of documents holds: counts, fields, least and greatest and different values."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any


class MetadataStatistics(ABC):
    """The methods of a document store about metadata. All but the first read the metadata of every matching document.

    A field may be named with or without "meta." before it.
    """

    @abstractmethod
    def _metas(self, filters: dict[str, Any] | None) -> Iterable[dict[str, Any]]: ...

    @abstractmethod
    def _matching(self, filters: dict[str, Any] | None) -> int: ...

    def count_documents_by_filter(self, filters: dict[str, Any]) -> int:
        """Return the number of documents that match. Raises `FilterError`, as all of these."""
        return self._matching(filters)

    def count_unique_metadata_by_filter(self, filters: dict[str, Any], metadata_fields: list[str]) -> dict[str, int]:
        """Return the number of different values of each field among the documents that match."""
        found: dict[str, set[str]] = {_key(field): set() for field in metadata_fields}
        for meta in self._metas(filters):
            for key, values in found.items():
                if meta.get(key) is not None:
                    values.add(_identity(meta[key]))
        return {key: len(values) for key, values in found.items()}

    def get_metadata_fields_info(self) -> dict[str, dict[str, str]]:
        """Return the type of each field, as {"year": {"type": "int"}}: keyword, int, float or boolean."""
        names = {bool: "boolean", int: "int", float: "float"}
        found: dict[str, dict[str, str]] = {}
        for meta in self._metas(None):
            for key, value in meta.items():
                if value is not None:
                    found[key] = {"type": names.get(type(value), "keyword")}
        return found

    def get_metadata_field_min_max(self, metadata_field: str) -> dict[str, Any]:
        """Return the least and the greatest value of a field; None where it has none, or values of several kinds."""
        key = _key(metadata_field)
        values = [value for meta in self._metas(None) if isinstance(value := meta.get(key), (int, float, str))]
        if not values or len({isinstance(value, str) for value in values}) > 1:
            return {"min": None, "max": None}
        return {"min": min(values), "max": max(values)}

    def get_metadata_field_unique_values(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: dict[str, Any] | None = None,
    ) -> tuple[list[Any], int]:
        """Return a page of the different values of a field, ordered as text, and how many there are.

        `search_term`: a text that the value has in it, ignoring case.
        """
        key = _key(metadata_field)
        found = {_identity(value): value for meta in self._metas(filters) if (value := meta.get(key)) is not None}
        wanted = (search_term or "").lower()
        values = sorted(
            (value for value in found.values() if wanted in str(value).lower()),
            key=lambda value: (str(value), type(value).__name__),
        )
        return values[from_ : from_ + size], len(values)

    async def count_documents_by_filter_async(self, filters: dict[str, Any]) -> int:
        """Do what `count_documents_by_filter` does in a thread."""
        return await asyncio.to_thread(self.count_documents_by_filter, filters)

    async def count_unique_metadata_by_filter_async(
        self, filters: dict[str, Any], metadata_fields: list[str]
    ) -> dict[str, int]:
        """Do what `count_unique_metadata_by_filter` does in a thread."""
        return await asyncio.to_thread(self.count_unique_metadata_by_filter, filters, metadata_fields)

    async def get_metadata_fields_info_async(self) -> dict[str, dict[str, str]]:
        """Do what `get_metadata_fields_info` does in a thread."""
        return await asyncio.to_thread(self.get_metadata_fields_info)

    async def get_metadata_field_min_max_async(self, metadata_field: str) -> dict[str, Any]:
        """Do what `get_metadata_field_min_max` does in a thread."""
        return await asyncio.to_thread(self.get_metadata_field_min_max, metadata_field)

    async def get_metadata_field_unique_values_async(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: dict[str, Any] | None = None,
    ) -> tuple[list[Any], int]:
        """Do what `get_metadata_field_unique_values` does in a thread."""
        return await asyncio.to_thread(
            self.get_metadata_field_unique_values, metadata_field, search_term, from_, size, filters
        )


def _key(field: str) -> str:
    return field.removeprefix("meta.")


def _identity(value: object) -> str:
    """Return what tells values apart: 1, 1.0, "1" and True are four."""
    return f"{type(value).__name__} {json.dumps(value, sort_keys=True)}"
