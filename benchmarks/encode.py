"""Case `encode`: speed and parity of the encoder, next to sentence-transformers and plain onnxruntime.

Same MiniLM weights, real 100-word passages and real questions, each contender with its own defaults. The contenders
take turns within every round, and a ratio is formed within its round.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import data, dpr_pair, results
from benchmarks.contenders import (
    NAMES,
    OURS_FP32,
    OURS_INT8,
    PLAIN,
    SENTENCE_TRANSFORMERS,
    passages_encoder,
    question_encoder,
)
from benchmarks.references import Floats
from benchmarks.summaries import cosines, p50_p99, ratios, spread
from dpr_lance.encoders.vectors import nearest

PAUSE = 0.05
"""Seconds between turns: threads of the one before that still spin must not take the next one's time."""
PARTS = ("speed", "one-thread", "parity", "dpr-pair")
PER_ROUND = 64
QUESTIONS_PER_BLOCK = 25
COMPARED = {
    "int8 / sentence-transformers": (OURS_INT8, SENTENCE_TRANSFORMERS),
    "int8 / plain onnxruntime": (OURS_INT8, PLAIN),
    "fp32 / sentence-transformers": (OURS_FP32, SENTENCE_TRANSFORMERS),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this case."""
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: the first three)")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds of 64 passages (default 7)")
    parser.add_argument("--questions", type=int, default=200, help="single questions (default 200)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the chosen parts. Returns the ratios of speeds.

    A busy machine takes time from whoever uses more threads: what is measured on one thread each is free of that.
    """
    if unknown := set(options.parts) - set(PARTS):
        raise SystemExit(f"unknown part {min(unknown)!r}; known: {', '.join(PARTS)}")
    passages = data.hundred_word_passages(PER_ROUND * max(4, options.rounds))
    questions = data.read("nq-gold", "dev").texts[: options.questions]
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "speed": lambda: speed(passages, questions, options.rounds, threads=None),
        "one-thread": lambda: speed(passages, questions, options.rounds, threads=1),
        "parity": lambda: parity(passages[:256], questions),
        "dpr-pair": lambda: dpr_pair.measure(passages[:32], questions[:32]),
    }
    summary = {}
    for part in options.parts or PARTS[:3]:
        print(f"encode: {part}", file=sys.stderr)
        values = measures[part]()
        results.write("encode", part, values)
        summary[part] = values.get("ratios", {})
    return summary


def speed(passages: list[tuple[str, str]], questions: list[str], rounds: int, *, threads: int | None) -> dict[str, Any]:
    """Passages a second, by the clock and by CPU time, and milliseconds of single questions."""
    wall, cpu = passage_speed(passages, rounds, threads)
    taken = question_speed(questions, threads)
    blocks = [slice(start, start + QUESTIONS_PER_BLOCK) for start in range(0, len(questions), QUESTIONS_PER_BLOCK)]
    medians = {name: [float(np.median(values[block])) for block in blocks] for name, values in taken.items()}
    return {
        "rounds": rounds,
        "questions": len(questions),
        "passages_per_second": {name: spread(wall[name]) for name in NAMES},
        "passages_per_cpu_second": {name: spread(cpu[name]) for name in NAMES},
        "question_milliseconds": {name: p50_p99(taken[name]) for name in NAMES},
        "ratios": {
            name: {
                "passages/s": ratios(wall[ours], wall[theirs]),
                "passages/CPU-s": ratios(cpu[ours], cpu[theirs]),
                "question p50": ratios(medians[ours], medians[theirs]),
            }
            for name, (ours, theirs) in COMPARED.items()
        },
    }


def passage_speed(
    passages: list[tuple[str, str]], rounds: int, threads: int | None
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Passages a second and a CPU second of each contender in each round, after one round that does not count."""
    encoders = {name: passages_encoder(name, threads) for name in NAMES}
    wall: dict[str, list[float]] = {name: [] for name in NAMES}
    cpu: dict[str, list[float]] = {name: [] for name in NAMES}
    for number in range(-1, rounds):
        start = max(0, number) * PER_ROUND
        for name in turns(number):
            time.sleep(PAUSE)
            started, used = time.perf_counter(), time.process_time()
            encoders[name](passages[start : start + PER_ROUND])
            if number >= 0:
                wall[name].append(PER_ROUND / (time.perf_counter() - started))
                cpu[name].append(PER_ROUND / (time.process_time() - used))
    return wall, cpu


def question_speed(questions: list[str], threads: int | None) -> dict[str, list[float]]:
    """Milliseconds of each single question by each contender, which take turns at every question."""
    encoders = {name: question_encoder(name, threads) for name in NAMES}
    for encode in encoders.values():
        encode("which of them warms up")
    taken: dict[str, list[float]] = {name: [] for name in NAMES}
    for number, question in enumerate(questions):
        for name in turns(number):
            time.sleep(PAUSE / 10)
            start = time.perf_counter()
            encoders[name](question)
            taken[name].append(1000 * (time.perf_counter() - start))
    return taken


def turns(number: int) -> list[str]:
    """The contenders in an order that changes from round to round."""
    first = number % len(NAMES)
    return [*NAMES[first:], *NAMES[:first]]


def parity(passages: list[tuple[str, str]], questions: list[str]) -> dict[str, Any]:
    """Vectors of passages and questions against those of sentence-transformers."""
    expected, wanted = _vectors(SENTENCE_TRANSFORMERS, passages, questions)
    top = _top20(wanted, expected)
    reference = np.concatenate([expected, wanted])
    compared = {}
    for name in (OURS_FP32, OURS_INT8, PLAIN):
        found, asked = _vectors(name, passages, questions)
        vectors, mine = np.concatenate([found, asked]), _top20(asked, found)
        compared[name] = {
            "max_abs_difference": float(np.abs(vectors - reference).max()),
            "min_cosine": float(cosines(vectors, reference).min()),
            "top20_overlap": float(np.mean([len(a & b) / 20 for a, b in zip(top, mine, strict=True)])),
        }
    return {"passages": len(passages), "questions": len(questions), "encoders": compared}


def _vectors(name: str, passages: list[tuple[str, str]], questions: list[str]) -> tuple[Floats, Floats]:
    single = question_encoder(name)
    return passages_encoder(name)(passages), np.stack([single(question) for question in questions])


def _top20(questions: Floats, passages: Floats) -> list[set[int]]:
    found = nearest(questions, [(passages, np.arange(len(passages)))], 20)
    return [set(numbers.tolist()) for numbers, _ in found]
