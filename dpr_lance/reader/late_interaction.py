"""Late interaction (Khattab & Zaharia 2020): question and passage meet in the vectors of their tokens."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dpr_lance.checks import checked_input, checked_whole
from dpr_lance.encoders.batches import Rows, length_batches, run_batches
from dpr_lance.encoders.bundle_folder import BundleFolder
from dpr_lance.encoders.encoder import Vectors
from dpr_lance.encoders.onnx_encoder import available_threads
from dpr_lance.encoders.onnx_graph import Graph, GraphKind, Tokens
from dpr_lance.encoders.tokenization import bundle_tokenizer, tokenizing
from dpr_lance.errors import InvalidInputError, ReaderError
from dpr_lance.reader.arguments import checked_passages, checked_question_pairs
from dpr_lance.reader.late_interaction_bundle import (
    GRAPH,
    LateInteractionBundle,
    LateInteractionCard,
    open_late_interaction_bundle,
)
from dpr_lance.reader.reranker import PassageText

if TYPE_CHECKING:  # loaded at the first text: importing this module stays cheap
    from tokenizers import Tokenizer

PAIRS = 256
"""Pairs whose vectors are in memory together: about 10 MB of 100 words at 96 dimensions."""


class LateInteraction:
    """A re-ranker of token vectors; graph and tokenizer are loaded at the first use, and threads may share it.

    The score of a passage is Σ over the question's tokens of the largest inner product with a token of the passage
    (paper, section 3.3, equation 3). A passage longer than `card.passage_max_tokens` is cut. int8 graphs run one text
    at a time, so a score never depends on other passages. `threads` runs are in flight at once (default: the cores this
    process may use).
    """

    def __init__(self, bundle: LateInteractionBundle | str | Path, *, threads: int | None = None) -> None:
        if threads is not None:
            threads = checked_whole(threads, "threads", "at least 1 is needed, as a whole number", least=1)
        self.bundle: LateInteractionBundle = (
            bundle if isinstance(bundle, BundleFolder) else open_late_interaction_bundle(bundle)
        )
        self.threads = threads or available_threads()
        self._loading = threading.Lock()
        self._graph: Graph | None = None
        self._tokenizer: Tokenizer | None = None

    @property
    def card(self) -> LateInteractionCard:
        """The bundle's card."""
        return self.bundle.card

    def score(self, question: str, passages: Sequence[PassageText]) -> NDArray[np.float32]:
        """Return the MaxSim score of each passage for the question, float32[n]; higher is better.

        Raises `InvalidInputError` for a blank question or text, `ReaderError` when the bundle is damaged.
        """
        question = checked_input(question, "question")
        checked = checked_passages(passages)
        return self._scores([(question, passage) for passage in checked], ["question"] * len(checked))

    def score_pairs(self, pairs: Sequence[tuple[str, PassageText]]) -> NDArray[np.float32]:
        """Return the MaxSim score of each (question, passage), float32[n]; equal texts are encoded once.

        Raises as `score` does.
        """
        checked = checked_question_pairs(pairs)
        return self._scores(checked, [f"the question of pairs[{number}]" for number in range(len(checked))])

    def question_vectors(self, question: str) -> Vectors:
        """Return the unit vectors of a question's tokens, augmented as the card says, float32[t, d]."""
        tokens = self._question(checked_input(question, "question"), "question")
        return self._vectors([tokens])[0]

    def passage_vectors(self, passages: Sequence[PassageText]) -> list[Vectors]:
        """Return for each passage the unit vectors of its tokens, without skipped ones, float32[t, d]."""
        checked = checked_passages(passages)
        found = []
        for start in range(0, len(checked), PAIRS):
            found += self._kept_vectors(checked[start : start + PAIRS])
        return found

    def _scores(self, pairs: Sequence[tuple[str, PassageText]], places: Sequence[str]) -> NDArray[np.float32]:
        place_of = {question: place for (question, _), place in zip(pairs[::-1], places[::-1], strict=True)}
        asked = [self._question(question, place) for question, place in place_of.items()]
        questions = dict(zip(place_of, self._vectors(asked), strict=True))
        scores = np.empty(len(pairs), dtype=np.float32)
        for start in range(0, len(pairs), PAIRS):
            part = pairs[start : start + PAIRS]
            different = list(dict.fromkeys(passage for _, passage in part))
            passages = dict(zip(different, self._kept_vectors(different), strict=True))
            for number, (question, passage) in enumerate(part, start):
                scores[number] = max_sim(questions[question], passages[passage])
        return scores

    def _question(self, question: str, place: str) -> Tokens:
        card = self.card
        tokenizer = self._loaded_tokenizer()
        with tokenizing(self.bundle):
            ids = tokenizer.encode(card.question_input(question)).ids
            words = tokenizer.encode(question, add_special_tokens=False).ids
            mask = tokenizer.token_to_id(card.augmentation)
        if not words:
            raise InvalidInputError(f"{place} is blank to the model's tokenizer: {question!r:.80}")
        ids = _cut(ids, card.question_max_tokens)
        missing = card.augmented_tokens - len(ids)
        if missing > 0:
            if mask is None:
                raise ReaderError(
                    f"{self.bundle.folder}: the tokenizer has no token {card.augmentation!r}, which fills questions: "
                    "export the checkpoint again"
                )
            ids = [*ids, *[mask] * missing]
        return Tokens(ids)

    def _kept_vectors(self, passages: Sequence[PassageText]) -> list[Vectors]:
        card = self.card
        tokenizer = self._loaded_tokenizer()
        with tokenizing(self.bundle):
            encodings = tokenizer.encode_batch_fast([card.passage_input(passage) for passage in passages])
            skipped = {tokenizer.token_to_id(token) for token in card.skipped_tokens} - {None}
        sequences = [Tokens(_cut(encoding.ids, card.passage_max_tokens)) for encoding in encodings]
        vectors = self._vectors(sequences)
        kept = [np.array([number not in skipped for number in tokens.ids]) for tokens in sequences]
        return [rows[keep] for rows, keep in zip(vectors, kept, strict=True)]

    def _vectors(self, sequences: Sequence[Tokens]) -> list[Vectors]:
        """Return the vectors of each sequence's tokens."""
        graph = self._loaded_graph()
        lengths = np.array([len(tokens.ids) for tokens in sequences], dtype=np.intp)
        vectors: list[Vectors] = [np.empty((0, self.card.dimension), dtype=np.float32)] * len(sequences)

        def run(batch: Rows) -> None:
            (rows,) = graph.run([sequences[index] for index in batch], ["vectors"])
            for row, index in enumerate(batch.tolist()):
                vectors[index] = rows[row, : lengths[index]]

        run_batches(run, length_batches(lengths, graph.budget), self.threads if graph.on_cpu else 1)
        return vectors

    def _loaded_graph(self) -> Graph:
        with self._loading:
            if self._graph is None:
                dimension = self.card.dimension
                kind = GraphKind(
                    model="late-interaction model",
                    outputs={"vectors": ("b", "s", dimension)},
                    wanted=f"the card says {dimension} dimensions for each token",
                    zero_token_types=True,
                    error=ReaderError,
                )
                self._graph = Graph(self.bundle, GRAPH, kind)
            return self._graph

    def _loaded_tokenizer(self) -> Tokenizer:
        with self._loading:
            if self._tokenizer is None:
                self._tokenizer = bundle_tokenizer(self.bundle)
            return self._tokenizer


def max_sim(question: Vectors, passage: Vectors) -> float:
    """Return Σ over rows of `question` [m, d] of the largest inner product with a row of `passage` [n, d]."""
    return float((question @ passage.T).max(axis=1).sum())


def _cut(ids: list[int], limit: int) -> list[int]:
    """Return at most `limit` ids; what is cut is before the last, a special token."""
    return ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]]
