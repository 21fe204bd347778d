"""The reader of a bundle, run by onnxruntime: selection scores and answer spans (paper, section 6.1)."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dpr_lance.checks import checked_flag, checked_input, checked_whole
from dpr_lance.encoders.batches import Rows, length_batches, run_batches
from dpr_lance.encoders.bundle_folder import BundleFolder
from dpr_lance.encoders.onnx_encoder import available_threads
from dpr_lance.encoders.onnx_graph import Graph, GraphKind
from dpr_lance.encoders.tokenization import bundle_tokenizer, tokenizing
from dpr_lance.errors import InvalidInputError, ReaderError
from dpr_lance.reader.arguments import checked_passages, checked_question_pairs
from dpr_lance.reader.bundle import GRAPH, ReaderBundle, open_reader_bundle
from dpr_lance.reader.card import ReaderCard
from dpr_lance.reader.inputs import ReaderInput, ReaderInputs
from dpr_lance.reader.reading import AnswerSpan, Reading
from dpr_lance.reader.reranker import PassageText
from dpr_lance.reader.spans import WindowLogits, best_spans, characters, span_logits, span_tokens

PAIRS = 1024
"""Pairs that are tokenised and sorted by length together; this bounds the memory of a long input."""
_LOWEST = float(np.finfo(np.float32).min)


def reader_graph(card: ReaderCard) -> GraphKind:
    """Return what the graph of a reader computes."""
    selection: dict[str, tuple[str | int, ...]] = {"select": ("b",)} if card.selects else {}
    spans: dict[str, tuple[str | int, ...]] = {"start": ("b", "r"), "end": ("b", "r")} if card.extracts else {}
    return GraphKind(
        model="reader",
        outputs=selection | spans,
        wanted="a reader gives one number for each passage, or for each token",
        zero_token_types=card.zero_token_types,
        error=ReaderError,
        may_have_rows=True,
    )


class Reader:
    """The reader of a bundle. Graph and tokenizer are loaded at the first use; threads may share it.

    A passage longer than `card.max_tokens` is read in windows: its score is that of its best window. int8 graphs run
    one sequence at a time, so a score never depends on other passages; fp32 graphs run in length-sorted batches.
    `threads` runs are in flight at once (default: the cores this process may use).
    """

    def __init__(self, bundle: ReaderBundle | str | Path, *, threads: int | None = None) -> None:
        if threads is not None:
            threads = checked_whole(threads, "threads", "at least 1 is needed, as a whole number", least=1)
        self.bundle: ReaderBundle = bundle if isinstance(bundle, BundleFolder) else open_reader_bundle(bundle)
        self.threads = threads or available_threads()
        self._loading = threading.Lock()
        self._graph: Graph | None = None
        self._inputs: ReaderInputs | None = None

    @property
    def card(self) -> ReaderCard:
        """The bundle's card."""
        return self.bundle.card

    def score(self, question: str, passages: Sequence[PassageText]) -> NDArray[np.float32]:
        """Return the selection score of each passage for the question, float32[n]; higher is better.

        Scores are logits: their softmax over the passages is P_selected (paper, equation 5).
        Raises `InvalidInputError` for a blank question or text, `ReaderError` when this reader does not select, or when
        its bundle is damaged.
        """
        self._check_selects()
        question = checked_input(question, "question")
        checked = checked_passages(passages)
        return self._scores([question] * len(checked), checked, ["question"] * len(checked))

    def score_pairs(self, pairs: Sequence[tuple[str, PassageText]]) -> NDArray[np.float32]:
        """Return the selection score of each (question, passage), float32[n]; the questions share batches.

        Raises as `score` does.
        """
        self._check_selects()
        checked = checked_question_pairs(pairs)
        places = [f"the question of pairs[{number}]" for number in range(len(checked))]
        return self._scores([question for question, _ in checked], [passage for _, passage in checked], places)

    def read(
        self, question: str, passages: Sequence[PassageText], *, spans: int = 10, overlapping: bool = False
    ) -> list[Reading]:
        """Return for each passage its score and its `spans` best answer spans, most probable first.

        A span's probability is P_start · P_end (paper, equations 3 and 4), where the softmax is over the tokens of the
        passage's text alone. Spans begin and end at the borders of words, have `card.span_max_tokens` at most, and do
        not overlap unless `overlapping`. A reader that does not select scores a passage by the logits of its best span
        over those of [CLS]. Scores of int8 graphs differ from those of `score` by rounding.
        Raises `InvalidInputError` for a blank question or text, `ReaderError` when this reader does not extract, or
        when its bundle is damaged.
        """
        if not self.card.extracts:
            raise ReaderError(
                f"{self.card.name} finds no answer spans: it only scores passages; choose a reader that extracts"
            )
        count = checked_whole(spans, "spans", "at least 1 is needed, as a whole number", least=1)
        overlapping = checked_flag(overlapping, "overlapping")
        question = checked_input(question, "question")
        checked = checked_passages(passages)
        readings = []
        for start in range(0, len(checked), PAIRS):
            part = checked[start : start + PAIRS]
            inputs = self._built([question] * len(part), part, ["question"] * len(part), offsets=True)
            outputs = iter(self._run(inputs, [*reader_graph(self.card).outputs]))
            for passage, each in zip(part, inputs, strict=True):
                found = [next(outputs) for _ in each.windows]
                readings.append(self._reading(passage.text, each, found, count, overlapping=overlapping))
        return readings

    def _check_selects(self) -> None:
        if not self.card.selects:
            raise ReaderError(f"{self.card.name} does not score passages: it only finds answer spans in them")

    def _scores(
        self, questions: Sequence[str], passages: Sequence[PassageText], places: Sequence[str]
    ) -> NDArray[np.float32]:
        scores = np.empty(len(passages), dtype=np.float32)
        for start in range(0, len(passages), PAIRS):
            part = slice(start, start + PAIRS)
            inputs = self._built(questions[part], passages[part], places[part], offsets=False)
            outputs = iter(self._run(inputs, ["select"], rows=1))  # that of [CLS]
            for number, each in enumerate(inputs, start):
                scores[number] = max(next(outputs)["select"] for _ in each.windows)
        return scores

    def _built(
        self, questions: Sequence[str], passages: Sequence[PassageText], places: Sequence[str], *, offsets: bool
    ) -> list[ReaderInput]:
        different = list(dict.fromkeys(questions))
        with tokenizing(self.bundle):
            inputs = self._loaded_inputs()
            ids = dict(zip(different, inputs.question_ids(different), strict=True))
            built = inputs.build([ids[question] for question in questions], passages, offsets=offsets)
        for question, place in zip(questions, places, strict=True):
            if not ids[question]:
                raise InvalidInputError(f"{place} is blank to the reader's tokenizer: {question!r:.80}")
        return built

    def _run(
        self, inputs: Sequence[ReaderInput], names: Sequence[str], *, rows: int | None = None
    ) -> list[dict[str, NDArray[np.float32]]]:
        """Return the outputs of each window, one after the other; `rows`: as for `Graph.run`."""
        graph = self._loaded_graph()
        sequences = [window.tokens for each in inputs for window in each.windows]
        lengths = np.array([len(tokens.ids) for tokens in sequences], dtype=np.intp)
        outputs: list[dict[str, NDArray[np.float32]]] = [{} for _ in sequences]

        def run(batch: Rows) -> None:
            found = graph.run([sequences[index] for index in batch], names, rows=rows)
            for row, index in enumerate(batch.tolist()):
                outputs[index] = {name: values[row] for name, values in zip(names, found, strict=True)}

        run_batches(run, length_batches(lengths, graph.budget), self.threads if graph.on_cpu else 1)
        return outputs

    def _reading(
        self,
        text: str,
        passage: ReaderInput,
        outputs: Sequence[dict[str, NDArray[np.float32]]],
        count: int,
        *,
        overlapping: bool,
    ) -> Reading:
        windows = []
        for (_, first, length, at), found in zip(passage.windows, outputs, strict=True):
            within = slice(first, first + length)
            windows.append(WindowLogits(at, found["start"][within], found["end"][within]))
        tokens = span_tokens(text, passage.offsets)
        longest = self.card.span_max_tokens
        best = best_spans(windows, tokens, longest=longest, count=count, overlapping=overlapping)
        spans = [AnswerSpan(*characters(text, passage.offsets, first, last), chance) for first, last, chance in best]
        if self.card.selects:
            score = max(float(found["select"]) for found in outputs)
        else:
            nothing = [float(found["start"][0] + found["end"][0]) for found in outputs]
            over = [
                span_logits([window], tokens, longest=longest).max(initial=-np.inf) - none
                for window, none in zip(windows, nothing, strict=True)
            ]
            score = max(_LOWEST, *over)
        return Reading(score, tuple(spans))

    def _loaded_graph(self) -> Graph:
        with self._loading:
            if self._graph is None:
                self._graph = Graph(self.bundle, GRAPH, reader_graph(self.card))
            return self._graph

    def _loaded_inputs(self) -> ReaderInputs:
        with self._loading:
            if self._inputs is None:
                self._inputs = ReaderInputs(bundle_tokenizer(self.bundle), self.card)
            return self._inputs
