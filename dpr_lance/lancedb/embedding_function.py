"""The embedding function `dpr` of LanceDB: plain LanceDB tables with this library's encoders.

Importing this module registers it. LanceDB writes the function of a vector column into the schema metadata of a table,
as JSON, and makes it again from there in every process that writes to the table or searches it with a question.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from lancedb.embeddings import EmbeddingFunction, get_registry, register
from numpy.typing import NDArray

from dpr_lance.checks import checked_flag, checked_whole, refused
from dpr_lance.encoders.encoder import Encoder
from dpr_lance.encoders.encoding import encoded_passages, encoded_questions
from dpr_lance.encoders.loading import DEFAULT_ENCODER
from dpr_lance.errors import EncoderError, EncoderMismatchError, InvalidInputError
from dpr_lance.table.encoder import check_source, loaded, source_names

FUNCTION = "dpr"
"""Name of the embedding function in LanceDB's registry."""

_ENCODERS = 4
"""Encoders that are kept loaded: LanceDB makes the function again for every `add`."""
_SOURCE = "the source column has text, or structs with the fields title and text"

Embeddings = list[NDArray[np.float32] | None]


@register(FUNCTION)
class DprEmbeddings(EmbeddingFunction):  # type: ignore[misc]
    """E_P of the source column on `table.add`, E_Q of the question in `table.search`; made by `create`.

        dpr = lancedb.embeddings.get_registry().get("dpr").create()

    `encoder`: as `dpr_lance.connect` takes it; None is the packaged default. An `Encoder` object is kept in the
    variables of LanceDB's registry under its name, because the table cannot store it. `threads` as for `load_encoder`.
    The source column is a struct with `title` and `text`, or text: a passage without a title, or with
    `title_line=True` a title, a newline, and the text. `fingerprint` is the encoder's: LanceDB stores it with the
    table, and another encoder of the same name raises `EncoderMismatchError`.
    """

    max_retries: int = 0
    encoder: Any = None
    fingerprint: str | None = None
    variable: str | None = None
    """The variable of LanceDB's registry with the encoder, where it was given as an object."""
    threads: int | None = None
    title_line: bool = False

    @classmethod
    def create(cls, **settings: Any) -> DprEmbeddings:  # noqa: ANN401 - LanceDB's signature
        """Return the function; raise `InvalidInputError` for a setting that it does not have, or a wrong value."""
        if unknown := sorted(settings.keys() - cls.model_fields.keys()):
            raise InvalidInputError(f"the embedding function {FUNCTION!r} has no setting {unknown[0]!r}")
        source: Any = settings.get("encoder")
        if isinstance(source, list):  # a pair, in JSON
            source = settings["encoder"] = tuple(source)
        if source is not None:
            check_source(source)
        if settings.get("threads") is not None:
            wanted = "at least 1 is needed, as a whole number"
            settings["threads"] = checked_whole(settings["threads"], "threads", wanted, least=1)
        settings["title_line"] = checked_flag(settings.get("title_line", False), "title_line")
        if source is not None and not source_names(source):
            settings["variable"] = variable_of(source.card.name)
            get_registry().set_var(settings["variable"], source)
            del settings["encoder"]
        made: DprEmbeddings = super().create(**settings)
        return made

    def safe_model_dump(self) -> dict[str, Any]:
        """Return what a table stores to make the function again: with the encoder's fingerprint."""
        names = self.sources()
        return {
            "encoder": None if not names else names[0] if len(names) == 1 else list(names),
            "fingerprint": self.fingerprint or self.loaded().card.fingerprint,
            "variable": self.variable,
            "threads": self.threads,
            "title_line": self.title_line,
        }

    def sources(self) -> tuple[str, ...]:
        """Return what names the encoder in another process; nothing for an object."""
        return () if self.variable is not None else source_names(self._source())

    def loaded(self) -> Encoder:
        """Return the encoder; raise `EncoderError` without it, `EncoderMismatchError` when it is another one."""
        encoder = _named(self.variable) if self.variable is not None else _loaded(self._source(), self.threads)
        if self.fingerprint not in (None, encoder.card.fingerprint):
            raise EncoderMismatchError(
                f"the table's vectors are of the encoder with fingerprint {self.fingerprint:.12}, and "
                f"{encoder.card.name!r} here has {encoder.card.fingerprint:.12}: use the bundle that made them, or "
                f"embed the passages into a new table"
            )
        return encoder

    def ndims(self) -> int:
        """Return the dimension of the vectors."""
        return self.loaded().card.dimension

    def compute_query_embeddings(self, query: str | Sequence[str], *_: object, **__: object) -> Embeddings:
        """Return E_Q of a question, or of each in a list."""
        return list(encoded_questions(self.loaded(), [query] if isinstance(query, str) else query))

    def compute_source_embeddings(self, texts: object, *_: object, **__: object) -> Embeddings:
        """Return E_P of each row's passage; None where there is no text, or the encoder makes no vector of it."""
        rows = self.sanitize_input(texts)
        if not isinstance(rows, Sequence | np.ndarray):
            raise refused("texts", texts, _SOURCE)
        passages = [self._passage(row, number) for number, row in enumerate(rows)]
        there = [number for number, passage in enumerate(passages) if passage is not None]
        found = encoded_passages(self.loaded(), [passage for passage in passages if passage is not None])
        vectors: Embeddings = [None] * len(rows)
        for number, vector in zip(there, found.vectors, strict=True):
            vectors[number] = vector
        return vectors

    # LanceDB's own versions wrap every error in a bare `Exception`, for web services that are to be asked again.

    def compute_query_embeddings_with_retry(self, *arguments: Any, **named: Any) -> Embeddings:  # noqa: ANN401
        """Return what `compute_query_embeddings` does: an encoder that fails would fail again."""
        return self.compute_query_embeddings(*arguments, **named)

    def compute_source_embeddings_with_retry(self, *arguments: Any, **named: Any) -> Embeddings:  # noqa: ANN401
        """Return what `compute_source_embeddings` does: an encoder that fails would fail again."""
        return self.compute_source_embeddings(*arguments, **named)

    def sanitize_input(self, texts: object) -> Any:  # noqa: ANN401 - a list of anything
        """Return the values of an Arrow array as a list, and a single text as a list of one."""
        if isinstance(texts, str | Mapping):
            return [texts]
        return texts.to_pylist() if isinstance(texts, pa.Array | pa.ChunkedArray) else texts

    def _source(self) -> Any:  # noqa: ANN401 - a name, a path or a pair
        return DEFAULT_ENCODER if self.encoder is None else self.encoder

    def _passage(self, row: object, number: int) -> tuple[str, str] | None:
        """Return (title, text) of a row's source; None where there is no text."""
        if isinstance(row, Mapping) and "text" in row:
            title, text = row.get("title"), row["text"]
        elif self.title_line and isinstance(row, str) and "\n" in row:
            title, _, text = row.partition("\n")
        else:
            title, text = None, row
        for value in (title, text):
            if value is not None and not isinstance(value, str):
                raise refused(f"texts[{number}]", row, _SOURCE)
        return (title or "", text) if text and text.strip() else None


@functools.lru_cache(maxsize=_ENCODERS)
def _loaded(source: Any, threads: int | None) -> Encoder:  # noqa: ANN401 - a name, a path or a pair
    return loaded(source, threads)


def variable_of(encoder_name: str) -> str:
    """Return the name of LanceDB's variable that has an encoder object; a colon is a separator there."""
    return encoder_name.replace(":", "_")


def _named(variable: str) -> Encoder:
    try:
        encoder: Encoder = get_registry().get_var(variable)
    except KeyError:
        raise EncoderError(
            f"the table was made with the encoder object {variable!r}, which is unknown here: give it to LanceDB, "
            f"get_registry().set_var({variable!r}, encoder)"
        ) from None
    return encoder
