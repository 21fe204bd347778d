"""The encoder of a table: loaded at its first use, and checked to be the one that made the stored vectors."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

from dpr_lance.checks import refused
from dpr_lance.encoders.card import EncoderCard
from dpr_lance.encoders.encoder import Encoder
from dpr_lance.encoders.encoding import encoded_questions
from dpr_lance.encoders.loading import DEFAULT_ENCODER, NAMES, check_named, load_encoder, packaged_names
from dpr_lance.encoders.vectors import Vector
from dpr_lance.errors import EncoderError, EncoderMismatchError, MissingExtraError
from dpr_lance.records.hits import Mode
from dpr_lance.table.contention import SupersededError
from dpr_lance.table.schema import TableCard
from dpr_lance.table.store import Store
from dpr_lance.text.language import ENGLISH
from dpr_lance.text.splitter import Splitter, splitter_name

EncoderSource = str | Path | tuple[str, str] | Encoder


class TableEncoder:
    """The encoder that `connect` was given, shared by threads; None follows the table to its own."""

    def __init__(self, store: Store, source: EncoderSource | None) -> None:
        self._store = store
        self._source = source
        self._encoder: Encoder | None = None
        self._expected: tuple[EncoderSource, Encoder] | None = None
        self._loading = threading.Lock()

    def loaded(self, card: TableCard | None = None) -> Encoder:
        """Return the encoder of the table, or of one of its cards, loading it the first time.

        Raises `EncoderError` when it cannot be loaded, `EncoderMismatchError` when another encoder made the vectors.
        """
        stored = card or self._store.find_card()
        with self._loading:
            if self._expected is not None and stored is not None and not _differ(stored, self._expected[1]):
                (self._source, self._encoder), self._expected = self._expected, None
            if self._encoder is None or (self._source is None and _differ(stored, self._encoder)):
                self._encoder = loaded(self._source_or_default(stored))
        if stored is not None and _differ(stored, self._encoder):
            raise EncoderMismatchError(
                f"{self._store.place} holds vectors of encoder {stored.encoder.name!r} "
                f"(fingerprint {stored.encoder.fingerprint:.12}), not of {self._encoder.card.name!r} "
                f"({self._encoder.card.fingerprint:.12}): connect with encoder=None for its own, or add to a new table"
            )
        return self._encoder

    @property
    def is_named(self) -> bool:
        """Whether `connect` was given an encoder: there is no fallback where it cannot be loaded."""
        return self._source is not None

    @property
    def new_mode(self) -> Mode:
        """The mode of searches in a new table: BM25 where there is only the packaged encoder for another language.

        It reads English: on the questions of docs/languages.md its vectors made the results of BM25 worse.
        """
        return "hybrid" if self.is_named or self._store.language in (None, ENGLISH) else "bm25"

    def load_named(self) -> None:
        """Load the encoder that `connect` was given, if any; raise when it cannot be loaded."""
        with self._loading:
            if self._source is not None and self._encoder is None:
                self._encoder = loaded(self._source)

    def encode_questions(self, questions: Sequence[str], card: TableCard | None = None) -> Vector:
        """Return the questions' vectors, float32[n, d]; raise as `loaded` and `encoded_questions` do.

        With the card that the search has read, raises `SupersededError` when another encoder was put in force since.
        """
        encoder = self._encoder
        if card is None or encoder is None or _differ(card, encoder):
            encoder = self.loaded()
        if _differ(card, encoder):
            raise SupersededError(f"{self._store.place} was given vectors of another encoder meanwhile")
        return encoded_questions(encoder, questions)

    def new_card(self, splitter: Splitter | None) -> TableCard:
        """Return the card for a table that is about to be created."""
        source = self._source_or_default(None)
        encoder = self._encoder or loaded(source)
        language = self._store.language or ENGLISH
        return TableCard(
            encoder.card, source_names(source), splitter_name(splitter), language=language, mode=self.new_mode
        )

    def expect(self, source: EncoderSource, encoder: Encoder) -> None:
        """Use another encoder as soon as it made the table's vectors."""
        with self._loading:
            self._expected = source, encoder

    def _source_or_default(self, stored: TableCard | None) -> EncoderSource:
        if self._source is not None:
            return self._source
        if stored is None:
            return DEFAULT_ENCODER
        match stored.encoder_source:
            case (name,):
                return name
            case (question, passage):
                return question, passage
            case _:
                raise EncoderError(
                    f"{self._store.place} was made with the encoder object {stored.encoder.name!r}, which is unknown "
                    f"here: pass it again, connect(..., encoder=...)"
                )


def check_source(source: object, name: str = "encoder") -> None:
    """Raise `InvalidInputError` that names the argument unless it names an encoder or is one."""
    if isinstance(source, (str, os.PathLike, tuple)):
        check_named(source, name)
    elif isinstance(source, type) or not isinstance(getattr(source, "card", None), EncoderCard):
        raise refused(name, source, f"{NAMES}, or an Encoder (an object with `card` and two methods)")
    elif not all(callable(getattr(source, method, None)) for method in ("encode_questions", "encode_passages")):
        raise refused(name, source, "an Encoder has the methods `encode_questions` and `encode_passages`")


def loaded(source: EncoderSource, threads: int | None = None) -> Encoder:
    """Return the encoder that a source names, or is."""
    if not isinstance(source, (str, os.PathLike, tuple)):
        return source
    try:
        return load_encoder(source, threads=threads)
    except (EncoderError, MissingExtraError) as error:
        if not isinstance(source, str) or os.path.lexists(source):
            raise
        unknown = f"encoder {source!r} is neither packaged ({', '.join(packaged_names())}) nor a folder here"
        if isinstance(error, MissingExtraError):
            raise MissingExtraError(f"{unknown}; if it is a checkpoint, importing it", error.extra) from error
        raise EncoderError(f"{unknown}; as a checkpoint: {error}") from error


def source_names(source: EncoderSource) -> tuple[str, ...]:
    """Return what a table stores to load the encoder again; nothing for an encoder object."""
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        return (str(path.absolute()) if path.exists() else str(source),)
    return source if isinstance(source, tuple) else ()


def _differ(stored: TableCard | None, encoder: Encoder) -> bool:
    return stored is not None and stored.encoder.fingerprint != encoder.card.fingerprint
