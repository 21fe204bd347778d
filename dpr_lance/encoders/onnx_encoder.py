"""The encoder of a bundle, run by onnxruntime."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dpr_lance.checks import checked_input, checked_items, checked_pairs, checked_text, checked_whole
from dpr_lance.encoders.batches import Rows, length_batches, run_batches
from dpr_lance.encoders.bundle import Bundle, open_bundle
from dpr_lance.encoders.card import EncoderCard, Side
from dpr_lance.encoders.encoder import Vectors
from dpr_lance.encoders.onnx_graph import Graph, GraphKind, Tokens
from dpr_lance.encoders.tokenization import bundle_tokenizer, tokenizing
from dpr_lance.errors import EncoderError, InvalidInputError

if TYPE_CHECKING:  # loaded at the first embedding: importing this module stays cheap
    from tokenizers import Tokenizer

_Input: TypeAlias = str | tuple[str, str]

WINDOW = 1024
"""Texts that are tokenised and sorted by length together; this bounds the memory of a long input."""
RECENT_QUESTIONS = 1024
"""Question vectors that are kept: 1.5 MB at 384 dimensions."""


def encoder_graph(card: EncoderCard) -> GraphKind:
    """Return what the graph of an encoder computes: one vector for each sequence."""
    return GraphKind(
        model="encoder",
        outputs={"vector": ("b", card.dimension)},
        wanted=f"the card says {card.dimension} dimensions",
        zero_token_types=card.zero_token_types,
        error=EncoderError,
    )


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
        """Return float32[n, d]; vectors of recent questions are kept. Raises as the protocol says."""
        asked = checked_items(questions, "questions", "give a sequence of strings")
        checked = [checked_input(question, f"questions[{index}]") for index, question in enumerate(asked)]
        vectors = self._recent.get(checked)
        fresh = [question for question, vector in vectors.items() if vector is None]
        if fresh:
            texts = [self.card.question_input(question) for question in fresh]
            rows = self._encode("question", texts, lambda at: f"questions[{checked.index(fresh[at])}]")
            vectors.update(zip(fresh, rows, strict=True))
            self._recent.put(fresh, rows)
        found = [vector for question in checked if (vector := vectors[question]) is not None]
        return np.stack(found) if found else np.empty((0, self.card.dimension), dtype=np.float32)

    def encode_passages(self, passages: Sequence[tuple[str, str]]) -> Vectors:
        """Return float32[n, d]; extra memory is bounded whatever their number. Raises as the protocol says."""
        passages = checked_pairs(passages)
        result = np.empty((len(passages), self.card.dimension), dtype=np.float32)
        for start in range(0, len(passages), WINDOW):
            texts = self._inputs(passages, start)
            rows = self._encode("passage", texts, lambda at, start=start: f"passages[{start + at}]")  # type: ignore[misc]
            result[start : start + len(texts)] = rows
        return result

    def excess_tokens(self, passages: Sequence[tuple[str, str]]) -> NDArray[np.int32]:
        """Return int32[n]: the tokens of each passage beyond `card.passage_max_tokens`."""
        passages = checked_pairs(passages)
        tokenizer, limit = self._tokenizer(None), self.card.passage_max_tokens
        excess = np.zeros(len(passages), dtype=np.int32)
        for start in range(0, len(passages), WINDOW):
            texts = self._inputs(passages, start)
            with tokenizing(self.bundle):
                lengths = [len(encoding) for encoding in tokenizer.encode_batch_fast(texts)]
            excess[start : start + len(texts)] = np.maximum(0, np.array(lengths, dtype=np.int32) - limit)
        return excess

    def _inputs(self, passages: Sequence[tuple[str, str]], start: int) -> list[_Input]:
        """Return the tokenizer's input for each passage of the window that begins at `start`."""
        inputs: list[_Input] = []
        for index, (title, text) in enumerate(passages[start : start + WINDOW], start):
            place = f"passages[{index}]"
            checked = checked_input(text, place)
            inputs.append(self.card.passage_input(checked_text(title, name="title", place=place), checked))
        return inputs

    def _encode(self, side: Side, texts: Sequence[_Input], place: Callable[[int], str]) -> Vectors:
        """Tokenise and run one window: float32[n, d] in the order of `texts`; `place` names one in an error."""
        graph = self._graph(side)
        tokenizer = self._tokenizer(self.card.max_tokens(side))
        with tokenizing(self.bundle):
            encodings = tokenizer.encode_batch_fast(texts)
            nothing = len(tokenizer.encode(self.card.prefix(side)))
        lengths = np.array([len(encoding) for encoding in encodings])
        if blank := np.flatnonzero(lengths <= nothing).tolist():
            raise InvalidInputError(f"{place(blank[0])} is blank to the encoder's tokenizer: {texts[blank[0]]!r:.80}")
        result = np.empty((len(texts), self.card.dimension), dtype=np.float32)
        no_types = self.card.zero_token_types

        def run(batch: Rows) -> None:
            parts = [encodings[index] for index in batch]
            (result[batch],) = graph.run([Tokens(part.ids, () if no_types else part.type_ids) for part in parts])

        run_batches(run, length_batches(lengths, graph.budget), self.threads if graph.on_cpu else 1)
        return result

    def _graph(self, side: Side) -> Graph:
        name = self.bundle.graph(side)
        with self._loading:
            if name not in self._graphs:
                self._graphs[name] = Graph(self.bundle, name, encoder_graph(self.card))
            return self._graphs[name]

    def _tokenizer(self, limit: int | None) -> Tokenizer:
        with self._loading:
            if limit not in self._tokenizers:
                self._tokenizers[limit] = bundle_tokenizer(self.bundle, limit=limit)
            return self._tokenizers[limit]


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


def available_threads() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
