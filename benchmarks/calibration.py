"""Case `calibration`: what λ chosen on half of the questions does for the other half, beside the encoder's own λ.

Vectors are those of the MiniLM weights in fp32 by sentence-transformers, kept from earlier runs: what is compared is
the weight alone. The table starts with the packaged encoder's λ, and with 1.1, which is out of scale for its vectors.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import dpr_lance
from benchmarks import data, machine, references, results
from benchmarks.accuracy import SEED, bootstrap, first_rank, hits_within
from dpr_lance.card import EncoderCard
from dpr_lance.encoder import DEFAULT_ENCODER, load_encoder
from dpr_lance.retriever import Retriever

SETS = (("nq-gold", "dev"), ("squad", "dev"), ("reqa-bioasq", "dev"))
MORE_SETS = (("medquad", "dev"),)
K = (1, 5, 20)
OUT_OF_SCALE = 1.1
WAYS = {"labelled": "half of the questions, labelled", "texts": "the same, without labels", "none": "no question"}


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
        return np.stack([self.vectors[references.joined(*passage)] for passage in passages])


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this case."""
    names = [name for name, _ in SETS + MORE_SETS]
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"of {', '.join(names)} (default: all but the last)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the chosen sets; one raw file a set. Returns the gain at each k of labelled calibration."""
    if unknown := set(options.sets) - {name for name, _ in SETS + MORE_SETS}:
        raise SystemExit(f"unknown set {min(unknown)!r}")
    chosen = [pair for pair in SETS + MORE_SETS if pair[0] in options.sets]
    gains = {}
    for name, split in chosen or SETS:
        questions = data.read(name, split)
        print(f"calibration: {questions.label}", file=sys.stderr)
        passages, asked = references.fp32_vectors(questions)
        texts = [references.joined(passage.title, passage.text) for passage in questions.passages]
        vectors = dict(zip(texts, passages, strict=True))
        vectors |= {question.text: vector for question, vector in zip(questions.questions, asked, strict=True)}
        rows = []
        for start in (load_encoder(DEFAULT_ENCODER).card.hybrid_weight, OUT_OF_SCALE):
            card = dataclasses.replace(load_encoder(DEFAULT_ENCODER).card, hybrid_weight=start)
            rows += measured(questions, KeptVectors(card, vectors), start)
        values = {"set": name, "split": split, "seed": SEED, "passages": len(texts), "rows": rows}
        results.write("calibration", name, values)
        gains[questions.label] = {f"top{k}": rows[0][f"top{k}"]["mean"] for k in K}
    return gains


def measured(questions: data.QuestionSet, encoder: KeptVectors, start: float) -> list[dict[str, Any]]:
    """One row for each way to calibrate: the weight, and gains in points on the half that was not chosen on."""
    order = np.random.default_rng(SEED).permutation(len(questions.questions))
    half, other = ([questions.questions[at] for at in part] for part in np.array_split(order, 2))
    labelled = [{"id": each.id, "question": each.text, "labels": sorted(each.gold)} for each in half]
    given = {"labelled": labelled, "texts": [each.text for each in half], "none": None}
    rows, before = [], None
    for way, asked in given.items():
        with dpr_lance.connect("memory://", encoder=encoder) as retriever:
            retriever.add(
                ({"id": each.id, "title": each.title, "text": each.text} for each in questions.passages), splitter=None
            )
            retriever.optimize()
            before = before or _ranks(retriever, other)
            found = retriever.calibrate(asked)
            after = before if (found.hybrid_weight, found.mode) == (start, "hybrid") else _ranks(retriever, other)
        gains = {k: bootstrap(hits_within(after, k) - hits_within(before, k)) for k in K}
        row = {"way": way, "start": start, "weight": found.hybrid_weight, "mode": found.mode, "chosen_on": len(half)}
        row |= {"judged_on": len(other), "seconds": found.seconds, "before": float(hits_within(before, 20).mean())}
        rows.append(row | {f"top{k}": dataclasses.asdict(gain) for k, gain in gains.items()})
    return rows


def tables(records: list[dict[str, Any]]) -> str:
    """The section of the README."""
    order = [name for name, _ in SETS + MORE_SETS]
    rows = [
        [
            f"{record['set']} {record['split']}, {row['judged_on']:,} questions",
            WAYS[row["way"]],
            f"{row['start']:g} → {row['weight']:.3g}",
            row["mode"],
            *("{mean:+.2f} ({low:+.2f} to {high:+.2f})".format(**row[f"top{k}"]) for k in K),
        ]
        for record in sorted(records, key=lambda record: order.index(record["set"]))
        for row in record["rows"]
    ]
    header = ["judged on", "calibrated on", "λ", "mode", *(f"top-{k}, points" for k in K)]
    said = "Gain of calibration on the other half of the questions, 95 % bootstrap interval of the paired difference."
    return f"{said} Measured on {machine.sentence(records[-1]['machine'])}.\n\n{results.table(header, rows)}"


def _ranks(retriever: Retriever, questions: list[data.LabelledQuestion]) -> list[int]:
    """Rank of the first gold passage of each question by the table's default search."""
    found = retriever.search([question.text for question in questions], max(K))
    return [
        first_rank([hit.document_id for hit in hits], question.gold)
        for hits, question in zip(found, questions, strict=True)
    ]
