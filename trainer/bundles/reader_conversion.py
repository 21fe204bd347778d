"""From a reader's checkpoint to the files of its bundle: a graph that was compared with torch, and the tokenizer."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from torch import nn

from dpr_lance.encoders.bundle_folder import TOKENIZER
from dpr_lance.encoders.card import Precision
from dpr_lance.encoders.onnx_graph import ROWS, Tokens
from dpr_lance.errors import EncoderError
from dpr_lance.reader.bundle import GRAPH
from dpr_lance.reader.card import ReaderCard
from dpr_lance.reader.inputs import ReaderInputs
from dpr_lance.reader.reranker import PassageText

from ..checkpoints.readers import READER_CONVERSION_VERSION, ReaderCheckpoint
from ..checkpoints.tokenizer import load_tower_tokenizer
from ..reader.leading_rows import LeadingRows, has_leading_rows
from ..reader.pretrained import load_reader_model
from .calibration_text import Sequences, pair_sequences
from .conversion import GraphSource
from .onnx_graph import SENTENCES, Feed, Floats

SELECTION: dict[str, dict[int, str]] = {"select": {0: "batch"}}
SPANS: dict[str, dict[int, str]] = {"start": {0: "batch", 1: "rows"}, "end": {0: "batch", 1: "rows"}}
PROBES = [
    (question, PassageText(title, text))
    for question in ("What is the capital of France?", "who wrote the passage")
    for title, text in (
        ("Paris", "Paris is the capital of France."),
        ("", SENTENCES[2]),
        *itertools.pairwise(SENTENCES),
    )
]
"""What the graph is compared with torch on: each alone, and some in one padded batch."""
SAME_ORDER = 0.9
"""Least correlation of the scores of an int8 or fp16 reader with the fp32 ones; usually it is above 0.99."""
_NOT_OF_THE_GRAPH = ("name", "fingerprint", "licence", "source", "retrieval_weight", "answer_threshold")


def convert_reader(checkpoint: ReaderCheckpoint, scratch: Path, *, precision: Precision) -> tuple[dict[str, Path], str]:
    """Write the graph of a reader in `precision` and its tokenizer into `scratch`; return files and fingerprint.

    Raises `EncoderError` when a file of the checkpoint is missing or does not fit, or when the graph differs from torch
    more than its precision allows.
    """
    card, tower = checkpoint.card, checkpoint.tower
    tokenizer = load_tower_tokenizer(tower)
    tokenizer.no_padding()
    tokenizer.save(str(scratch / TOKENIZER))
    settings = {name: value for name, value in dataclasses.asdict(card).items() if name not in _NOT_OF_THE_GRAPH}
    digest = hashlib.sha256(json.dumps([READER_CONVERSION_VERSION, precision, settings]).encode())
    digest.update(tokenizer.to_str().encode())
    inputs = ReaderInputs(tokenizer, card)
    sequences = [_sequence(inputs, card, question, passage) for question, passage in PROBES]
    singles = [_feed([sequence], token_types=tower.token_types) for sequence in sequences]
    feeds = [*singles, _feed(sequences[:3], token_types=tower.token_types)]
    reader = load_reader_model(checkpoint)
    model: nn.Module = reader
    if has_leading_rows(reader):
        model = LeadingRows(reader).eval()
        counts = [feed["input_ids"].shape[1] for feed in feeds]
        feeds = [feed | {ROWS: np.array(count)} for feed, count in zip([*feeds, feeds[-1]], [*counts, 1], strict=True)]
    graph = GraphSource(
        model,
        (SELECTION if card.selects else {}) | (SPANS if card.extracts else {}),
        token_types=tower.token_types,
        feeds=feeds,
        sequences=partial(_calibration, inputs, card, tokenizer),
        compare=partial(check_order, singles=len(singles), selects=card.selects),
        place=tower.folder,
    )
    files = {GRAPH: graph.convert(scratch / GRAPH, precision, digest), TOKENIZER: scratch / TOKENIZER}
    return files, digest.hexdigest()[:16]


def _sequence(inputs: ReaderInputs, card: ReaderCard, question: str, passage: PassageText) -> Tokens:
    """Return the first window of a passage with a question."""
    (built,) = inputs.build(inputs.question_ids([question]), [passage], offsets=False)
    ids, types = built.windows[0].tokens
    return Tokens(ids, [0] * len(ids) if card.zero_token_types else types)


def _calibration(inputs: ReaderInputs, card: ReaderCard, tokenizer: Tokenizer) -> Sequences:
    def encode(question: str, text: str) -> tuple[list[int], list[int]]:
        title, _, rest = text.partition(",")
        passage = PassageText(title, rest) if rest.strip() else PassageText("", text)
        tokens = _sequence(inputs, card, question, passage)
        return list(tokens.ids), list(tokens.types)

    return pair_sequences(encode, tokenizer, card.max_tokens)


def _feed(sequences: Sequence[Tokens], *, token_types: bool) -> Feed:
    """Return sequences as one batch, padded behind."""
    shape = len(sequences), max(len(tokens.ids) for tokens in sequences)
    feed = {name: np.zeros(shape, dtype=np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
    for row, (ids, types) in enumerate(sequences):
        feed["input_ids"][row, : len(ids)] = ids
        feed["attention_mask"][row, : len(ids)] = 1
        feed["token_type_ids"][row, : len(ids)] = types
    if not token_types:
        del feed["token_type_ids"]
    return feed


def check_order(
    expected: Sequence[tuple[Floats, ...]],
    found: Sequence[tuple[Floats, ...]],
    precision: str,
    *,
    singles: int,
    selects: bool,
) -> float:
    """Return the least correlation of an output of rounded weights with the exact one over the first `singles` runs.

    A selection score is compared over the passages, a token's score over the tokens of its passage. Raises
    `EncoderError` below `SAME_ORDER`.
    """
    least = 1.0
    for number in range(len(expected[0])):
        pairs = [(run[number], rounded[number]) for run, rounded in zip(expected, found, strict=True)][:singles]
        if selects and number == 0:
            pairs = [(np.concatenate([one for one, _ in pairs]), np.concatenate([other for _, other in pairs]))]
        exact, rounded = (np.concatenate([part[side] - part[side].mean() for part in pairs]) for side in (0, 1))
        lengths = float(np.linalg.norm(exact) * np.linalg.norm(rounded))
        least = min(least, float(exact @ rounded) / lengths if lengths else 1.0)
    if not least >= SAME_ORDER:
        raise EncoderError(
            f"the {precision} graph of this reader does not rank as its fp32 form does (correlation {least:.2f}, "
            f"wanted {SAME_ORDER}): nothing was written; choose precision fp32"
        )
    return least
