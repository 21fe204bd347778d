"""Which re-ranker a search uses: the packaged reader, a bundle, late interaction, or an object of the caller's."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TypeAlias

from dpr_lance.checks import checked_path, refused
from dpr_lance.errors import ReaderError
from dpr_lance.reader.late_interaction_loading import LATE_INTERACTION, load_reranker
from dpr_lance.reader.loading import DEFAULT_READER, load_reader
from dpr_lance.reader.reranker import Reranker

RerankSource: TypeAlias = bool | str | Path | Reranker | None
"""The table's default (None), the packaged reader (True), none (False), a name, a bundle folder, or a re-ranker."""

_WANTED = (
    f"give True for the packaged reader, False for none, {LATE_INTERACTION!r}, a bundle folder, or an object with a "
    f"method score(question, passages)"
)


def checked_reranker(value: object, name: str = "rerank") -> RerankSource:
    """Return what names a re-ranker or is one; raise `InvalidInputError` that names the argument otherwise."""
    if value is None or isinstance(value, bool):
        return value
    if type(value).__name__ == "bool_":  # NumPy's
        return bool(value)
    if isinstance(value, str | os.PathLike):
        path = checked_path(value, name, _WANTED)
        return value if isinstance(value, str) else path
    if isinstance(value, type) or not callable(getattr(value, "score", None)):
        raise refused(name, value, _WANTED)
    return value  # type: ignore[return-value]  # it has the protocol's method


def name_of(reranker: Reranker) -> str:
    """Return the name on a re-ranker's card, or of its class where it has no card."""
    name = getattr(getattr(reranker, "card", None), "name", None)
    return name if isinstance(name, str) else type(reranker).__name__


def default_weight(reranker: Reranker) -> float:
    """Return the weight of retrieval on a re-ranker's card; 0 without one."""
    weight = getattr(getattr(reranker, "card", None), "retrieval_weight", None)
    return float(weight) if isinstance(weight, int | float) else 0.0


def fingerprint_of(reranker: Reranker) -> str | None:
    """Return the fingerprint on a re-ranker's card, None without one."""
    fingerprint = getattr(getattr(reranker, "card", None), "fingerprint", None)
    return fingerprint if isinstance(fingerprint, str) and fingerprint else None


def stored_source(source: RerankSource) -> bool | str | None:
    """Return what a table stores to load a re-ranker again; None for an object."""
    if isinstance(source, str | Path):
        path = Path(source)
        return str(path.absolute()) if path.exists() else str(source)
    return True if source is True else None


class Rerankers:
    """The re-rankers that a retriever has loaded, each once; shared by threads."""

    def __init__(self) -> None:
        self._loaded: dict[bool | str | Path, Reranker] = {}
        self._loading = threading.Lock()

    def loaded(self, source: RerankSource) -> Reranker:
        """Return the re-ranker that a source names, or is; raise `ReaderError` when it cannot be loaded."""
        if source is None or source is False:
            raise ReaderError(f"rerank={source}: this names no re-ranker; {_WANTED}")
        if not isinstance(source, bool | str | Path):
            return source
        with self._loading:
            if source not in self._loaded:
                self._loaded[source] = _load(source)
            return self._loaded[source]


def _load(source: bool | str | Path) -> Reranker:
    if isinstance(source, bool):
        return load_reader(DEFAULT_READER)
    path = Path(source)
    return load_reranker(path if path.is_absolute() else source)  # which is never the name of a checkpoint elsewhere
