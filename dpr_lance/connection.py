"""`connect`: opens a table of passages, which may not exist yet."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta

from dpr_lance.checks import checked_flag, checked_storage_options, checked_whole, refused
from dpr_lance.retriever import Retriever
from dpr_lance.search.resident import RESIDENT_BYTES
from dpr_lance.table.address import DEFAULT_TABLE, checked_table
from dpr_lance.table.encoder import EncoderSource, check_source
from dpr_lance.table.opening import CACHE_BYTES
from dpr_lance.table.retention import KEEP_VERSIONS
from dpr_lance.table.store import Store
from dpr_lance.text.language import Language, checked_language

MOST_BYTES = 2**62
"""Far more than there is; LanceDB takes no larger number."""


def connect(  # noqa: PLR0913 - keywords, each with its default
    uri: str | os.PathLike[str],
    *,
    encoder: EncoderSource | None = None,
    table: str = DEFAULT_TABLE,
    storage_options: Mapping[str, str] | None = None,
    cache_bytes: int = CACHE_BYTES,
    resident_bytes: int = RESIDENT_BYTES,
    keep_versions: timedelta = KEEP_VERSIONS,
    language: Language | None = None,
    learn: bool = True,
) -> Retriever:
    """Open the passages in a folder (created when missing), in memory (`memory://`) or in an object store.

    `encoder`: None (an existing table's own, else the packaged default), a packaged name, a bundle folder, a Hub name
    or a pair of them, or an `Encoder`. It is loaded at the first embedding. `cache_bytes` bounds LanceDB's caches of
    indexes and files. Where a table's vectors fit in `resident_bytes`, a retriever with many searches holds them in
    memory: dense search is then exact, and faster. 0 holds none. `keep_versions`: how long maintenance by this
    retriever keeps replaced versions of the table; plain LanceDB readers stay on theirs until `checkout_latest()`.

    `language`: how BM25 reads the texts of a new table, "english" unless you say otherwise: one with a stemmer, such as
    "german", or "multilingual" for every other one and for mixtures. The table keeps it.

    `learn`: while nobody has called `calibrate`, hybrid searches of 100 candidates or more without a filter adjust the
    weight λ: after 10 questions, and whenever their number has doubled, up to 160. A few sums are stored next to the
    table, no question, and `info().learned` shows them. False neither learns nor uses what was learnt.

        retriever = dpr_lance.connect("wiki.lance")
        retriever.add([{"id": "1", "title": "Alps", "text": "The Alps are a mountain range in Europe."}])
        retriever.search("where are the alps?")[0].text

    Raises `InvalidInputError` for a path that is a file or a folder with other things and for another language than the
    table's, `TableError` for a table that was not made by dpr_lance.
    """
    checked_table(table)
    if encoder is not None:
        check_source(encoder)
    checked_storage_options(storage_options)
    wanted = "give a number of bytes, 0 or more"
    cache_bytes = checked_whole(cache_bytes, "cache_bytes", wanted, least=0, most=MOST_BYTES)
    resident_bytes = checked_whole(resident_bytes, "resident_bytes", wanted, least=0)
    if not isinstance(keep_versions, timedelta) or keep_versions < timedelta(0):
        raise refused("keep_versions", keep_versions, "give a datetime.timedelta of 0 or more")
    learn = checked_flag(learn, "learn")
    language = None if language is None else checked_language(language)
    store = Store(uri, table, storage_options, cache_bytes, keep_versions, language=language)
    if store.find() is not None and language is not None:
        store.check_language(store.card)
    return Retriever(store, encoder, resident_bytes, learn=learn)
