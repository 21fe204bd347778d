"""Encoders: text in, vectors out. The protocol, the encoder of a bundle, how to get one.

`HashEncoder`, the encoder without weights, has its own room and is offered here too.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dpr_lance.checks import (
    checked_choice,
    checked_items,
    checked_pairs,
    checked_path,
    checked_text,
    checked_whole,
    refused,
)
from dpr_lance.encoders.bundle import MANIFEST, TOKENIZER, Bundle, Precision, Side, open_bundle
from dpr_lance.encoders.card import EncoderCard
from dpr_lance.encoders.hash_encoder import HashEncoder
from dpr_lance.encoders.onnx_graph import Graph
from dpr_lance.errors import EncoderError, InvalidInputError, MissingExtraError, is_panic

if TYPE_CHECKING:  # loaded at the first embedding: importing this room stays cheap
    from tokenizers import Tokenizer

__all__ = [
    "DEFAULT_ENCODER",
    "PACKAGED",
    "Encoder",
    "HashEncoder",
    "OnnxEncoder",
    "TokenCounter",
    "available_threads",
    "load_encoder",
    "packaged_names",
    "read_card",
]

Vectors: TypeAlias = NDArray[np.float32]
Source: TypeAlias = str | Path | tuple[str, str]
_Text: TypeAlias = str | tuple[str, str]

DEFAULT_ENCODER = "all-MiniLM-L6-v2"
PACKAGED = Path(__file__).parent / "packaged"
"""Where the packaged bundles are: one folder a name."""

NAMES = "give a packaged name, a bundle folder, a checkpoint, or a pair of checkpoints"
"""What names an encoder, for error messages."""

WINDOW = 1024
"""Texts that are tokenised and sorted by length together; what bounds the memory of a long input."""
RECENT_QUESTIONS = 1024
"""Question vectors that are kept: 1.5 MB at 384 dimensions."""


class Encoder(Protocol):
    """What makes vectors: a pair of a question encoder and a passage encoder with its card.

    Both methods keep the order, and a vector never depends on what is encoded beside it. Blank input (nothing left
    after tokenising) and lone surrogates raise `InvalidInputError`; any other Unicode is encoded.
    """

    @property
    def card(self) -> EncoderCard:
        """The encoder's identity."""

    def encode_questions(self, questions: Sequence[str]) -> Vectors:
        """Return float32[n, d], one row a question."""

    def encode_passages(self, passages: Sequence[tuple[str, str]]) -> Vectors:
        """Return float32[n, d], one row a (title, text) pair; a blank title is the same as none."""


@runtime_checkable
class TokenCounter(Protocol):
    """An encoder that can tell how much of a passage it does not see."""

    def excess_tokens(self, passages: Sequence[tuple[str, str]]) -> NDArray[np.int32]:
        """Return int32[n]: the tokens of each (title, text) pair beyond the encoder's limit, 0 when it sees all."""


class OnnxEncoder:
    """The encoder of a bundle. Graphs and tokenizer are loaded at the first use of their side; threads may share it.

    int8 graphs run one sequence at a time, because dynamic int8 scales would depend on the neighbours in a batch; fp32
    graphs run in length-sorted batches. `threads` runs are in flight at once (default: the cores this process may use).
    """

    def __init__(self, bundle: Bundle | str | Path, *, threads: int | None = None) -> None:
        if threads is not None:
            threads = checked_whole(threads, "threads", "at least 1 is needed, as a whole number", least=1)
        self.bundle = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
        self.threads = threads or available_threads()
        self._loading = threading.Lock()
        self._graphs: dict[str, Graph] = {}
        self._tokenizers: dict[int | None, Tokenizer] = {}
        self._recent = _RecentVectors(RECENT_QUESTIONS)

    @property
    def card(self) -> EncoderCard:
        """The bundle's card."""
        return self.bundle.card

    def encode_questions(self, questions: Sequence[str]) -> Vectors:
        """Return float32[n, d]; the vectors of recent questions are remembered. Raises as the protocol says."""
        asked = checked_items(questions, "questions", "give a sequence of strings")
        checked = [_checked(question, f"questions[{index}]") for index, question in enumerate(asked)]
        vectors = self._recent.get(checked)
        fresh = [question for question, vector in vectors.items() if vector is None]
        if fresh:
            places = [f"questions[{checked.index(question)}]" for question in fresh]
            texts = [self.card.question_text(question) for question in fresh]
            rows = self._encode("question", texts, places)
            vectors.update(zip(fresh, rows, strict=True))
            self._recent.put(fresh, rows)
        found = [vector for question in checked if (vector := vectors[question]) is not None]
        return np.stack(found) if found else self._none()

    def encode_passages(self, passages: Sequence[tuple[str, str]]) -> Vectors:
        """Return float32[n, d]; extra memory is bounded whatever their number. Raises as the protocol says."""
        passages = checked_pairs(passages)
        result = np.empty((len(passages), self.card.dimension), dtype=np.float32)
        for start in range(0, len(passages), WINDOW):
            window = passages[start : start + WINDOW]
            places = [f"passages[{index}]" for index in range(start, start + len(window))]
            texts = [self._passage_text(passage, place) for passage, place in zip(window, places, strict=True)]
            result[start : start + len(window)] = self._encode("passage", texts, places)
        return result

    def excess_tokens(self, passages: Sequence[tuple[str, str]]) -> NDArray[np.int32]:
        """Return int32[n]: the tokens of each passage beyond `card.passage_max_tokens`."""
        passages = checked_pairs(passages)
        tokenizer, limit = self._tokenizer(None), self.card.passage_max_tokens
        excess = np.zeros(len(passages), dtype=np.int32)
        for start in range(0, len(passages), WINDOW):
            window = passages[start : start + WINDOW]
            texts = [self._passage_text(passage, f"passages[{start + at}]") for at, passage in enumerate(window)]
            with self._tokenizing():
                lengths = [len(encoding.ids) for encoding in tokenizer.encode_batch_fast(texts)]
            excess[start : start + len(window)] = np.maximum(0, np.array(lengths, dtype=np.int32) - limit)
        return excess

    def _passage_text(self, passage: tuple[str, str], place: str) -> _Text:
        """Return what the tokenizer takes: one string, or a pair as DPR's reference code makes it."""
        title, text = passage
        text = _checked(text, place)
        prefix = self.card.passage_prefix
        if not checked_text(title, name="title", place=place).strip():
            return prefix + text
        if self.card.title_style == "pair":
            return prefix + title, text
        return f"{prefix}{title} {text}"

    def _encode(self, side: Side, texts: Sequence[_Text], places: Sequence[str]) -> Vectors:
        """Tokenise and run one window: float32[n, d] in the order of `texts`."""
        graph = self._graph(side)
        card = self.card
        limit, prefix = (
            (card.question_max_tokens, card.question_prefix)
            if side == "question"
            else (card.passage_max_tokens, card.passage_prefix)
        )
        tokenizer = self._tokenizer(limit)
        with self._tokenizing():
            encodings = tokenizer.encode_batch_fast(texts)
            nothing = len(tokenizer.encode(prefix).ids)
        lengths = np.array([len(encoding.ids) for encoding in encodings])
        if blank := np.flatnonzero(lengths <= nothing).tolist():
            raise InvalidInputError(f"{places[blank[0]]} is blank to the encoder's tokenizer: {texts[blank[0]]!r:.80}")
        batches = list(_batches(lengths, graph.budget))
        result = np.empty((len(texts), card.dimension), dtype=np.float32)

        def run(batch: NDArray[np.intp]) -> None:
            result[batch] = graph.run([encodings[index] for index in batch])

        _in_threads(run, batches, self.threads if graph.on_cpu else 1)
        return result

    def _graph(self, side: Side) -> Graph:
        name = self.bundle.graph(side)
        with self._loading:
            if name not in self._graphs:
                self._graphs[name] = Graph(self.bundle, name)
            return self._graphs[name]

    def _tokenizer(self, limit: int | None) -> Tokenizer:
        """Return the tokenizer that cuts at `limit` tokens; the padding and truncation in its file are never used."""
        from tokenizers import Tokenizer  # noqa: PLC0415

        with self._loading:
            if limit not in self._tokenizers:
                path = self.bundle.verified(TOKENIZER)
                with self._tokenizing():
                    tokenizer = Tokenizer.from_file(str(path))
                    tokenizer.no_padding()
                    tokenizer.no_truncation()
                    if limit is not None:
                        tokenizer.enable_truncation(limit)
                self._tokenizers[limit] = tokenizer
            return self._tokenizers[limit]

    @contextmanager
    def _tokenizing(self) -> Iterator[None]:
        """Make an `EncoderError` of whatever the tokenizer raises, panics too."""
        try:
            yield
        except BaseException as error:
            if not isinstance(error, Exception) and not is_panic(error):
                raise
            raise EncoderError(
                f"{self.bundle.folder / TOKENIZER} cannot be used by the `tokenizers` package: {error}"
            ) from error

    def _none(self) -> Vectors:
        return np.empty((0, self.card.dimension), dtype=np.float32)


class _RecentVectors:
    """The vectors of the questions used last, at most `size` of them."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._vectors: OrderedDict[str, Vectors] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, questions: Iterable[str]) -> dict[str, Vectors | None]:
        with self._lock:
            found = {question: self._vectors.get(question) for question in questions}
            for question, vector in found.items():
                if vector is not None:
                    self._vectors.move_to_end(question)
            return found

    def put(self, questions: Sequence[str], vectors: Vectors) -> None:
        with self._lock:
            for question, vector in zip(questions[-self._size :], vectors[-self._size :], strict=True):
                self._vectors[question] = vector.copy()
            while len(self._vectors) > self._size:
                self._vectors.popitem(last=False)


def load_encoder(source: Source, *, precision: str | None = None, threads: int | None = None) -> Encoder:
    """Return the encoder that `source` names.

    `source`: a packaged name (`DEFAULT_ENCODER`), a bundle folder, or a checkpoint: a folder, a Hub name, or a pair of
    either for question and passage. A checkpoint becomes a bundle once, in the user's cache, which needs the `train`
    extra. `precision` (`int8`, `fp16`, `fp32`) chooses for a checkpoint (default int8); a bundle has the one it has.
    Raises `EncoderError` when nothing usable is there, `MissingExtraError` when a checkpoint needs the extra.
    """
    check_named(source, "source")
    if precision is not None:
        checked_choice(precision, "precision", get_args(Precision))
    folder = _bundle_folder(source)
    if folder is None:
        folder = _from_checkpoint(source, precision or "int8")
    bundle = open_bundle(folder)
    if precision not in (None, bundle.precision):
        raise EncoderError(
            f"{bundle.folder} holds {bundle.precision} weights, not {precision!r}: leave `precision` out, or export "
            f"the checkpoint it was made from ({bundle.card.source or 'unknown'}) with that precision"
        )
    return OnnxEncoder(bundle, threads=threads)


def check_named(source: object, name: str) -> None:
    """Raise `InvalidInputError` for what cannot name an encoder, or a pair of them; `name` is the argument's."""
    parts = source if isinstance(source, tuple) else (source,)
    if isinstance(source, tuple) and len(source) != 2:
        raise refused(name, source, f"a pair has two parts, (question encoder, passage encoder), not {len(source)}")
    for part in parts:
        checked_path(part, name, NAMES)


def read_card(source: str | Path) -> EncoderCard:
    """Return the card of a packaged encoder or of a bundle folder without loading a model.

    Raises `EncoderError` when `source` is neither.
    """
    folder = _bundle_folder(source)
    if folder is None:
        raise EncoderError(
            f"{str(source)!r} is neither a packaged encoder ({', '.join(packaged_names())}) nor a bundle folder"
        )
    return open_bundle(folder).card


def packaged_names() -> list[str]:
    """Names of the encoders inside the package."""
    return sorted(manifest.parent.name for manifest in PACKAGED.glob(f"*/{MANIFEST}"))


def available_threads() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _bundle_folder(source: Source) -> Path | None:
    """Return the folder of a packaged name or of a (perhaps damaged) bundle; None for a checkpoint."""
    if isinstance(source, tuple):
        return None
    if isinstance(source, str) and source in packaged_names():
        return PACKAGED / source
    folder = Path(source)
    if folder.is_file() and folder.suffix == ".onnx":
        raise EncoderError(f"{folder} is a single ONNX file; name the bundle folder it belongs to")
    if (folder / MANIFEST).exists() or any(folder.glob("*.onnx")):
        return folder
    if isinstance(source, Path) and not folder.exists():
        raise EncoderError(f"{folder} does not exist; name a bundle folder, a checkpoint, or one of {packaged_names()}")
    return None


def _from_checkpoint(source: Source, precision: str) -> Path:
    """Return the cached bundle of a checkpoint, made by the trainer's room when it is not there yet."""
    try:
        export = importlib.import_module("dpr_lance.trainer.bundles.export")
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"the encoder {source!r} is a checkpoint, and importing one", "train") from error
    return Path(export.cached_bundle(source, precision=precision))


def _checked(text: Any, place: str) -> str:  # noqa: ANN401
    if not checked_text(text, name="text", place=place).strip():
        raise InvalidInputError(f"{place} is blank ({text!r:.60})")
    return str(text)


def _batches(lengths: NDArray[np.intp], budget: int) -> Iterator[NDArray[np.intp]]:
    """Yield indices, longest sequences first, so that count · longest stays within `budget`, with at least one each."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        count = max(1, budget // int(lengths[order[start]]))
        yield order[start : start + count]
        start += count


def _in_threads(run: Callable[[NDArray[np.intp]], None], batches: list[NDArray[np.intp]], threads: int) -> None:
    """Run every batch, `threads` at a time; the first failure is raised."""
    threads = min(threads, len(batches))
    if threads <= 1:
        for batch in batches:
            run(batch)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(run, batches):
            pass
