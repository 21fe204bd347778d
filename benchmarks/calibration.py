"""Case `calibration`: what λ chosen on half of the questions does for the other half, against the encoder's own λ.

Vectors are those of the MiniLM weights in fp32 by sentence-transformers, kept from earlier runs: only the weights
differ. The table starts with the packaged encoder's λ, and with 1.1, which is out of scale for its vectors.
The large set has the table of the case `search` instead, with the packaged encoder's vectors and its λ.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import dpr_lance
from benchmarks import data, references, results
from benchmarks.summaries import SEED, gain, ranks_of
from dpr_lance.encoders.card import EncoderCard
from dpr_lance.encoders.loading import DEFAULT_ENCODER, load_encoder
from dpr_lance.retriever import Retriever

SETS = (("nq-gold", "dev"), ("squad", "dev"), ("reqa-bioasq", "dev"))
MORE_SETS = (("medquad", "dev"),)
LARGE_SETS = (("nq-gold+wiki-ottqa", "dev"),)
"""Over the table that the case `search` keeps."""
K = (1, 5, 20)
OUT_OF_SCALE = 1.1
HELD = 1 << 30


@dataclass(frozen=True, slots=True)
class KeptVectors:
    """An encoder of texts whose vectors are known."""

    card: EncoderCard
    vectors: dict[str, references.Floats]

    def encode_questions(self, questions: Sequence[str]) -> references.Floats:
        """float32[n, d]."""
        # Calibration without questions asks with passages' first words, which may be all that a passage has.
        unknown = [text for text in questions if text not in self.vectors]
        made = load_encoder(DEFAULT_ENCODER).encode_questions(unknown) if unknown else ()
        known = self.vectors | dict(zip(unknown, made, strict=True))
        return np.stack([known[text] for text in questions])

    def encode_passages(self, passages: Sequence[tuple[str, str]]) -> references.Floats:
        """float32[n, d]."""
        return np.stack([self.vectors[data.joined(*passage)] for passage in passages])


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this case."""
    names = [name for name, _ in SETS + MORE_SETS + LARGE_SETS]
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"of {', '.join(names)} (default: the first three)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the chosen sets, a part each. Returns the gain at each k of labelled calibration."""
    every = SETS + MORE_SETS + LARGE_SETS
    if unknown := set(options.sets) - {name for name, _ in every}:
        raise SystemExit(f"unknown set {min(unknown)!r}")
    chosen = [pair for pair in every if pair[0] in options.sets]
    gains = {}
    weight = load_encoder(DEFAULT_ENCODER).card.hybrid_weight
    for name, split in chosen or SETS:
        questions = data.read(name, split)
        print(f"calibration: {questions.label}", file=sys.stderr)
        if (name, split) in LARGE_SETS:
            rows = measured(questions, weight, _copies(questions))
        else:
            rows = [
                row
                for start in (weight, OUT_OF_SCALE)
                for row in measured(questions, start, _filled_with(questions, start))
            ]
        results.write("calibration", name, {"split": split, "passages": len(questions.passages), "rows": rows})
        gains[questions.label] = {f"top{k}": rows[0][f"top{k}"][0] for k in K}
    return gains


Opened = Callable[[], AbstractContextManager[Retriever]]


def _filled_with(questions: data.QuestionSet, start: float) -> Opened:
    """What opens a new table of the set's passages, of an encoder with this λ."""
    passages, asked = references.fp32_vectors(questions)
    vectors = {each.joined: vector for each, vector in zip(questions.passages, passages, strict=True)}
    vectors |= dict(zip(questions.texts, asked, strict=True))
    card = dataclasses.replace(load_encoder(DEFAULT_ENCODER).card, hybrid_weight=start)

    @contextmanager
    def opened() -> Iterator[Retriever]:
        with dpr_lance.connect("memory://", encoder=KeptVectors(card, vectors)) as retriever:
            retriever.add((passage.document for passage in questions.passages), splitter=None)
            retriever.optimize()
            yield retriever

    return opened


def _copies(questions: data.QuestionSet) -> Opened:
    """What opens a copy of the table of the case `search`, made here where it is missing: calibrating leaves that."""
    kept = references.CACHE / "search" / str(len(questions.passages))
    with dpr_lance.connect(kept) as retriever:
        retriever.add((passage.document for passage in questions.passages), splitter=None)
        retriever.optimize()

    @contextmanager
    def opened() -> Iterator[Retriever]:
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            # LanceDB never changes a file that it has written.
            copy = shutil.copytree(kept, Path(folder) / "copy", copy_function=os.link)
            with dpr_lance.connect(copy, resident_bytes=HELD) as retriever:
                yield retriever

    return opened


def measured(questions: data.QuestionSet, start: float, opened: Opened) -> list[dict[str, Any]]:
    """One row for each way to calibrate: λ, and gains in points on the half that λ was not chosen on."""
    order = np.random.default_rng(SEED).permutation(len(questions.questions))
    half, other = ([questions.questions[at] for at in part] for part in np.array_split(order, 2))
    labelled = [{"id": each.id, "question": each.text, "labels": sorted(each.gold)} for each in half]
    given = {"labelled": labelled, "texts": [each.text for each in half], "none": None}
    rows: list[dict[str, Any]] = []
    before: list[int] = []
    for way, asked in given.items():
        with opened() as retriever:
            before = before or _ranks(retriever, other)
            found = retriever.calibrate(asked)
            after = before if (found.hybrid_weight, found.mode) == (start, "hybrid") else _ranks(retriever, other)
        row = {"way": way, "start": start, "weight": found.hybrid_weight, "mode": found.mode, "questions": len(other)}
        rows.append(row | {f"top{k}": gain(after, before, k) for k in K})
    return rows


def _ranks(retriever: Retriever, questions: list[data.LabelledQuestion]) -> list[int]:
    """Rank of the first gold passage of each question by the table's default search."""
    return ranks_of(retriever.search([question.text for question in questions], max(K)), questions)
