"""Case `quality`: top-k accuracy of bm25, dense and hybrid on labelled questions, with bm25s and fp32 weights.

A gold passage is a hit. Passages are added whole (`splitter=None`). The references rank the same passages: bm25s with
Lucene's formula, and exact search over vectors of the same MiniLM weights in fp32 by sentence-transformers.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

import dpr_lance
from benchmarks import data, machine, references, results
from benchmarks.summaries import accuracies, first_rank, gain, hits_within, ranks_of
from dpr_lance.encoders.vectors import nearest
from dpr_lance.records.hits import MODES

SETS = (("nq-gold", "dev"), ("squad", "dev"), ("xquad-en", "test"))
MORE_SETS = (("cranfield", "test"), ("reqa-bioasq", "dev"), ("medquad", "dev"))
LARGE_SETS = (("nq-gold+wiki-ottqa", "dev"),)
"""Questions of the first set over the passages of both. Not in `--all`, and without the fp32 reference, which 171,348
passages take hours; the table is that of the case `search`."""
K = (1, 5, 20, 100)
TOLERANCE = 0.5
"""Points of top-k accuracy by which our legs may differ from their references."""

RanksByRow = dict[str, list[int]]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this case."""
    names = [name for name, _ in SETS + MORE_SETS + LARGE_SETS]
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"of {', '.join(names)} (default: the first three)")
    parser.add_argument("--passages", type=int, metavar="N", help="only the gold passages and as many others as make N")
    parser.add_argument("--all", action="store_true", help="the first six sets, most of the time for the reference")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the chosen sets, a part each. Returns the gain of hybrid search over the better leg at top-20."""
    every = SETS + MORE_SETS + LARGE_SETS
    chosen = [pair for pair in every if pair[0] in options.sets]
    if unknown := set(options.sets) - {name for name, _ in every}:
        raise SystemExit(f"unknown set {min(unknown)!r}; known: {', '.join(name for name, _ in every)}")
    gains = {}
    for name, split in chosen or (SETS + MORE_SETS if options.all else SETS):
        questions = data.read(name, split)
        if options.passages:
            questions = questions.smaller(options.passages)
        print(f"quality: {questions.label}, {len(questions.passages)} passages", file=sys.stderr)
        # The table outlives a run that is cut short, and is removed when the set is measured; a large one is kept.
        large = (name, split) in LARGE_SETS
        table = references.CACHE / f"quality-{name}-{len(questions.passages)}-{machine.commit_state()[0]}"
        table = references.CACHE / "search" / str(len(questions.passages)) if large else table
        ours, weight = our_ranks(questions, table)
        values = summary(questions, ours | reference_ranks(questions, fp32=not large), weight)
        results.write("quality", name, values)
        gains[questions.label] = values["gain"]
        if not large:
            shutil.rmtree(table)
    return gains


def summary(questions: data.QuestionSet, ranks: RanksByRow, weight: float | None) -> dict[str, Any]:
    """What is kept of a set: accuracies at each k, and what hybrid search gains over the better leg at top-20."""
    better = max(("bm25", "dense"), key=lambda row: float(hits_within(ranks[row], 20).mean()))
    return {
        "split": questions.split,
        "passages": len(questions.passages),
        "questions": len(questions.questions),
        "hybrid_weight": weight,
        "accuracy": {row: accuracies(found, K) for row, found in ranks.items()},
        "gain": gain(ranks["hybrid"], ranks[better], 20),
    }


def our_ranks(
    questions: data.QuestionSet, folder: Path, *, k: int = max(K), hybrid_step: int = 1
) -> tuple[RanksByRow, float | None]:
    """Rank of the first gold passage of every question in the three modes, through a real table; and λ.

    The table is made in `folder`, or goes on from what is there. Hybrid search, the slowest, is asked only every
    `hybrid_step`-th question.
    """
    ranks: RanksByRow = {}
    weight = None
    with dpr_lance.connect(folder) as retriever:
        retriever.add((passage.document for passage in questions.passages), splitter=None)
        if len(retriever) != len(questions.passages):
            raise RuntimeError(f"{questions.label}: {len(questions.passages)} passages added, {len(retriever)} stored")
        for mode in MODES:
            asked = questions.questions[:: hybrid_step if mode == "hybrid" else 1]
            found = retriever.search([question.text for question in asked], k, mode=mode)
            if wrong := [hits for hits in found if hits.mode != mode]:
                raise RuntimeError(f"{questions.label}: {wrong[0].question!r} answered by {wrong[0].mode}, not {mode}")
            ranks[mode] = ranks_of(found, asked)
            if mode == "hybrid":
                weight = found[0].hybrid_weight
    return ranks, weight


def bm25s_ranks(questions: data.QuestionSet, k: int, *, tokens_of_lancedb: bool = False) -> list[int]:
    """The same ranks from bm25s, where a passage without a word of the question is no hit."""
    retrieve = references.bm25_index(questions, tokens_of_lancedb=tokens_of_lancedb)
    return [
        first_rank(rows[scores > 0].tolist(), gold)
        for rows, scores, gold in zip(*retrieve(questions.texts, k), questions.gold_rows, strict=True)
    ]


def reference_ranks(questions: data.QuestionSet, *, fp32: bool) -> RanksByRow:
    """The same ranks from bm25s and, with `fp32`, from exact search over fp32 vectors."""
    ranks = {"bm25s": bm25s_ranks(questions, max(K))}
    if fp32:
        passages, asked = references.fp32_vectors(questions)
        found = nearest(asked, [(passages, np.arange(len(passages)))], max(K))
        ranks["fp32"] = [
            first_rank(rows.tolist(), gold) for (rows, _), gold in zip(found, questions.gold_rows, strict=True)
        ]
    return ranks
