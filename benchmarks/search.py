"""Case `search`: one question over 171,348 real passages: hybrid search next to its parts, and bm25s.

The table holds nq-gold and wiki-ottqa, embedded by the default encoder; it is kept, and goes on where it was cut short.
Each question is embedded, searched by either raw leg through plain LanceDB, by bm25s and by every mode of ours, one
after the other, in an order that changes. Accuracy over the same passages is `quality nq-gold+wiki-ottqa`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import dpr_lance
from benchmarks import data, references, results
from benchmarks.scale import searched_how
from benchmarks.summaries import p50_p99
from dpr_lance.encoders.loading import DEFAULT_ENCODER, load_encoder
from dpr_lance.records.hits import Effort

SET = ("nq-gold+wiki-ottqa", "dev")
QUESTIONS = 200
WARMING = 20
K = 10
CANDIDATES = 100
"""Hits of a raw leg: what each leg hands to our fusion."""
REFINED = 4
"""Candidates that plain LanceDB scores again, as a multiple of the hits."""
HELD = 1 << 30
"""Bound of the vectors in memory: all of them."""

Timed = dict[str, Callable[[str], object]]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this case."""
    parser.add_argument("--passages", type=int, metavar="N", help="only the gold passages and as many others as make N")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure with the vectors held in memory, and without. Returns the ratios."""
    questions = data.read(*SET)
    if options.passages:
        questions = questions.smaller(options.passages)
    summary = {}
    for part, resident in (("held", HELD), ("not-held", 0)):
        print(f"search: {len(questions.passages):,} passages, vectors {part}", file=sys.stderr)
        values = measure(questions, resident)
        results.write("search", part, values)
        summary[part] = values["ratios"]
    return summary


def measure(questions: data.QuestionSet, resident: int) -> dict[str, Any]:
    """Milliseconds of every part; `resident` is the bound of vectors in memory."""
    asked = [questions.texts[at] for at in np.linspace(0, len(questions.texts) - 1, WARMING + QUESTIONS).astype(int)]
    place = references.CACHE / "search" / str(len(questions.passages))
    with dpr_lance.connect(place, resident_bytes=resident) as retriever:
        retriever.add((passage.document for passage in questions.passages), splitter=None)
        retriever.optimize()
        retriever.warm()
        info = retriever.info()
        kinds = [index.kind for index in info.indexes]
        effort = index_effort(place)
        timed = contenders(questions, retriever, asked, effort)
        milliseconds: dict[str, list[float]] = {name: [] for name in timed}
        cpu: dict[str, list[float]] = {name: [] for name in timed}
        for number, question in enumerate(asked):
            for name in np.random.default_rng(number).permutation(list(timed)).tolist():
                started, used = time.perf_counter(), time.process_time()
                timed[name](question)
                if number >= WARMING:
                    milliseconds[name].append(1000 * (time.perf_counter() - started))
                    cpu[name].append(1000 * (time.process_time() - used))
    return {
        "passages": len(questions.passages),
        "questions": QUESTIONS,
        "searched": searched_how(kinds, effort),
        "held_mib": info.bytes_resident / 2**20,
        "milliseconds": {name: p50_p99(taken) for name, taken in milliseconds.items()},
        "cpu_milliseconds": {name: float(np.mean(taken)) for name, taken in cpu.items()},
        "ratios": ratios({name: float(np.median(taken)) for name, taken in milliseconds.items()}),
    }


def index_effort(place: Path) -> Effort:
    """How a search through the index goes, which is what the raw leg is asked for too."""
    with dpr_lance.connect(place, resident_bytes=0) as retriever:
        explanation = retriever.search("how?", 1, mode="dense", explain=True).explanation
    if explanation is None or explanation.effort is None:
        raise RuntimeError("a dense search names its effort when it is asked to explain")
    return explanation.effort


def contenders(questions: data.QuestionSet, retriever: dpr_lance.Retriever, asked: list[str], effort: Effort) -> Timed:
    """What is done with each question, by name."""
    import lancedb
    from lancedb.query import MatchQuery

    table = lancedb.connect(references.CACHE / "search" / str(len(questions.passages))).open_table("passages")
    encoder = load_encoder(DEFAULT_ENCODER)
    vectors = {question: encoder.encode_questions([question])[0] for question in asked}
    bm25s = references.bm25_index(questions)

    def raw_dense(question: str) -> object:
        search = table.search(vectors[question], vector_column_name="vector").distance_type(effort.metric)
        if effort.probes:
            search = search.nprobes(effort.probes).refine_factor(REFINED)
        return search.select(["id", "_distance"]).limit(CANDIDATES).to_arrow()

    def raw_bm25(question: str) -> object:
        search = table.search(MatchQuery(question, "content"), query_type="fts")
        return search.select(["id", "_score"]).limit(CANDIDATES).to_arrow()

    return {
        # A blank at the end, so that no earlier encoding of the question is found again.
        "encode": lambda question: encoder.encode_questions([question + " "]),
        "raw dense": raw_dense,
        "raw bm25": raw_bm25,
        "dense": lambda question: retriever.search(question + "  ", K, mode="dense"),
        "bm25": lambda question: retriever.search(question, K, mode="bm25"),
        "hybrid": lambda question: retriever.search(question, K, mode="hybrid"),
        "bm25s": lambda question: bm25s([question], K),
    }


def ratios(p50: dict[str, float]) -> dict[str, float]:
    """Hybrid over its parts, our BM25 over that of bm25s."""
    return {
        "hybrid / (2 encode + raw legs)": p50["hybrid"] / (2 * p50["encode"] + p50["raw dense"] + p50["raw bm25"]),
        "bm25 / bm25s": p50["bm25"] / p50["bm25s"],
    }
