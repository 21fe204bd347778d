"""Questions to the tables of `dpr_lance.connect` in plain LanceDB: their encoder, as LanceDB's registry gives it.

These tables have no entry of LanceDB's for an embedding function. It could not change when a table is re-embedded, and
with it no program could add rows without this import, nor rows given as dicts to a table with a primary key. The
registry reads this library's own entry instead. It is asked for searches only: LanceDB adds rows as it always does,
and `embed` gives them vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lancedb.embeddings import EmbeddingFunctionConfig, get_registry

from dpr_lance.lancedb.embedding_function import DprEmbeddings, variable_of
from dpr_lance.table.schema import METADATA_KEY, VECTOR, TableCard, column_key

_Metadata = Mapping[bytes, bytes] | None


class SearchFunctions(dict[str, Any]):
    """The embedding functions of a table's vector columns for searches; empty where LanceDB adds rows."""

    def __init__(self, metadata: Mapping[bytes, bytes]) -> None:
        super().__init__()
        self._metadata = metadata

    def get(self, column: str | None, default: Any = None) -> Any:  # noqa: ANN401 - as a dict
        """Return the configuration of a vector column, `default` where no card of it is known."""
        raw = self._metadata.get(METADATA_KEY if column in (None, VECTOR) else column_key(column))
        if raw is None:
            return default
        card = TableCard.from_json(raw, place=f"the table's schema, column {column!r}")
        source = card.encoder_source
        settings = {"encoder": source[0] if len(source) == 1 else source} if source else {}
        function = DprEmbeddings.create(fingerprint=card.encoder.fingerprint, **settings)
        if not source:
            function.variable = variable_of(card.encoder.name)
        return EmbeddingFunctionConfig(vector_column=card.column, source_column="text", function=function)


def read_own_tables() -> None:
    """Let LanceDB's registry find the encoders of this library's tables; a second call changes nothing."""
    registry = get_registry()
    if not isinstance(registry.parse_functions, _Parser):
        registry.parse_functions = _Parser(registry.parse_functions)


class _Parser:
    """LanceDB's `parse_functions`, which also reads the schema metadata of this library's tables."""

    def __init__(self, parse: Callable[[_Metadata], dict[str, Any]]) -> None:
        self._parse = parse

    def __call__(self, metadata: _Metadata) -> dict[str, Any]:
        found = self._parse(metadata)
        if metadata is None or METADATA_KEY not in metadata:
            return found
        # LanceDB's own entry of an adopted table names a column that a re-embedding has replaced.
        reembedded = any(key.startswith(column_key(f"{VECTOR}_")) for key in metadata)
        return SearchFunctions(metadata) if reembedded or not found else found
