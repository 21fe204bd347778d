"""Case `encode`: speed, parity and memory of the encoder, beside sentence-transformers and plain onnxruntime.

Same MiniLM weights, real 100-word passages and real questions, each contender with its own defaults. The contenders
take turns within every round, and a ratio is formed within its round.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks import data, machine, peaks, results
from benchmarks.accuracy import Spread
from benchmarks.contenders import (
    NAMES,
    OURS_FP32,
    OURS_INT8,
    PLAIN,
    SENTENCE_TRANSFORMERS,
    Encode,
    Passages,
    passages_encoder,
    question_encoder,
)
from benchmarks.references import Floats

Timed = Callable[[Passages], float]

PAUSE = 0.05
"""Seconds between turns: threads of the one before that still spin must not take the next one's time."""
BARS = {
    "int8 / sentence-transformers, passages/s": 2.5,
    "int8 / onnxruntime fp32 unfused, passages/s": 1.5,
    "int8 / sentence-transformers, question p50": 0.35,
    "int8 / sentence-transformers, peak memory": 0.5,
}
PEAK_SCRIPT = """
import json, resource, sys
from benchmarks.contenders import passages_encoder
from benchmarks.data import hundred_word_passages
name, count = sys.argv[1], int(sys.argv[2])
passages = hundred_word_passages(count)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
vectors = passages_encoder(name)(passages)
assert len(vectors) == count
print(json.dumps([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, before / 1024]))
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this case."""
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds of 64 passages (default 7)")
    parser.add_argument(
        "--memory", type=int, default=0, metavar="N", help="also the peak memory for N passages (20000: 30 min)"
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything; raw files `encode-speed`, `encode-parity` and, when asked for, `encode-memory`."""
    passages = data.hundred_word_passages(64 * max(2, options.rounds))
    questions = [question.text for question in data.read("nq-gold", "dev").questions[:200]]
    encoders = {name: passages_encoder(name) for name in NAMES}
    print("encode: parity", file=sys.stderr)
    parity = compare_vectors(encoders, passages[:256], questions)
    results.write("encode", "parity", parity)
    print("encode: speed", file=sys.stderr)
    speed = {"passages_per_second": passage_speed(encoders, passages, options.rounds)}
    speed["question_milliseconds"] = question_speed(questions)
    speed |= threading(passages[:64], options.rounds) | peaks.measure(passages[:64])
    results.write("encode", "speed", speed)
    if options.memory:
        print(f"encode: peak memory of {options.memory:,} passages", file=sys.stderr)
        results.write("encode", "memory", {"passages": options.memory, "peak_mib": peak_memory(options.memory)})
    records = {record["part"]: record for record in results.read("encode")}
    return {name: str(spread) for name, spread in ratios(records).items()}


def passage_speed(encoders: dict[str, Encode], passages: list[tuple[str, str]], rounds: int) -> dict[str, list[float]]:
    """Passages a second of each contender in each round of 64 passages, by wall time."""
    return _interleaved({name: _timed(encode) for name, encode in encoders.items()}, passages, rounds)


def question_speed(questions: list[str]) -> dict[str, list[float]]:
    """Milliseconds of each single question by each contender, which take turns at every question."""
    encoders = {name: question_encoder(name) for name in NAMES}
    for encode in encoders.values():
        encode("which of them warms up")
    taken: dict[str, list[float]] = {name: [] for name in NAMES}
    for number, question in enumerate(questions):
        for name in _turns(list(NAMES), number):
            time.sleep(PAUSE / 10)
            start = time.perf_counter()
            encoders[name](question)
            taken[name].append(1000 * (time.perf_counter() - start))
    return taken


def threading(passages: list[tuple[str, str]], rounds: int) -> dict[str, Any]:
    """Passages a second of int8: one run at a time on 1 and on 2 intra-op threads, and two runs at once on 1 each."""
    import onnxruntime

    from dpr_lance.encoder import DEFAULT_ENCODER, PACKAGED

    folder = PACKAGED / DEFAULT_ENCODER
    feeds = peaks.feeds(passages, folder)

    def session(threads: int) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return onnxruntime.InferenceSession(str(folder / "encoder.onnx"), options, providers=["CPUExecutionProvider"])

    one, two = session(1), session(2)
    pool = ThreadPoolExecutor(2)

    def both(_: Passages) -> None:
        for _done in pool.map(lambda feed: one.run(None, feed), feeds):
            pass

    ways: dict[str, Timed] = {
        "1 thread": _timed(lambda _: [one.run(None, feed) for feed in feeds]),
        "1 run on 2 threads": _timed(lambda _: [two.run(None, feed) for feed in feeds]),
        "2 runs on 1 thread each": _timed(both),
    }
    measured = _interleaved(ways, passages, rounds, per_round=len(passages))
    pool.shutdown()
    return {"threads": measured}


def compare_vectors(
    encoders: dict[str, Encode], passages: list[tuple[str, str]], questions: list[str]
) -> dict[str, Any]:
    """Largest difference of one element and smallest cosine to sentence-transformers, on passages and questions."""
    expected = encoders[SENTENCE_TRANSFORMERS](passages)
    asked = question_encoder(SENTENCE_TRANSFORMERS)
    wanted = np.stack([asked(question) for question in questions])
    parity: dict[str, Any] = {"passages": len(passages), "questions": len(questions)}
    top = _top20(wanted, expected)
    for name in (OURS_FP32, OURS_INT8, PLAIN):
        single = question_encoder(name)
        found, vectors = encoders[name](passages), np.stack([single(question) for question in questions])
        both, reference = np.concatenate([found, vectors]), np.concatenate([expected, wanted])
        cosines = (both * reference).sum(1) / np.linalg.norm(both, axis=1) / np.linalg.norm(reference, axis=1)
        parity[name] = {
            "max_abs_difference": float(np.abs(both - reference).max()),
            "cosine_mean": float(cosines.mean()),
            "cosine_min": float(cosines.min()),
            "same_top20": float(np.mean([set(a) == set(b) for a, b in zip(top, _top20(vectors, found), strict=True)])),
        }
    return parity


def peak_memory(count: int) -> dict[str, dict[str, float]]:
    """Peak memory in MiB of a process that encodes `count` passages, and its peak before the encoder was loaded."""
    measured = {}
    for name in (OURS_INT8, OURS_FP32, SENTENCE_TRANSFORMERS):
        command = [sys.executable, "-c", PEAK_SCRIPT, name, str(count)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=data.REPOSITORY)
        peak, before = json.loads(done.stdout.splitlines()[-1])
        measured[name] = {"peak": peak, "before": before}
    return measured


def ratios(records: dict[str, dict[str, Any]]) -> dict[str, Spread]:
    """The ratios that the bars are about, from the raw results that there are."""
    speed = records["speed"]
    rates, taken = speed["passages_per_second"], speed["question_milliseconds"]
    int8 = rates[OURS_INT8]
    blocks = [slice(start, start + 25) for start in range(0, len(taken[OURS_INT8]), 25)]
    medians = {name: [float(np.median(values[block])) for block in blocks] for name, values in taken.items()}
    found = {
        "int8 / sentence-transformers, passages/s": _ratio(int8, rates[SENTENCE_TRANSFORMERS]),
        "int8 / onnxruntime fp32 unfused, passages/s": _ratio(int8, rates[PLAIN]),
        "fp32 / sentence-transformers, passages/s": _ratio(rates[OURS_FP32], rates[SENTENCE_TRANSFORMERS]),
        "int8 / sentence-transformers, question p50": _ratio(medians[OURS_INT8], medians[SENTENCE_TRANSFORMERS]),
        "1 run on 2 threads / 1 thread": _ratio(speed["threads"]["1 run on 2 threads"], speed["threads"]["1 thread"]),
        "2 runs on 1 thread each / 1 thread": _ratio(
            speed["threads"]["2 runs on 1 thread each"], speed["threads"]["1 thread"]
        ),
    }
    if "memory" in records:
        peak = records["memory"]["peak_mib"]
        found["int8 / sentence-transformers, peak memory"] = Spread.of(
            [peak[OURS_INT8]["peak"] / peak[SENTENCE_TRANSFORMERS]["peak"]]
        )
    return found


def tables(records: list[dict[str, Any]]) -> str:
    """The section of the README."""
    by_part = {record["part"]: record for record in records}
    speed, parity = by_part["speed"], by_part["parity"]
    rows = [
        [
            name,
            str(Spread.of(speed["passages_per_second"][name])),
            f"{np.median(speed['question_milliseconds'][name]):.2f}",
            f"{np.percentile(speed['question_milliseconds'][name], 99):.2f}",
        ]
        for name in NAMES
    ]
    parts = [
        f"Measured on {machine.sentence(speed['machine'])}; {len(speed['passages_per_second'][OURS_INT8])} rounds "
        f"of 64 passages of 100 words, {len(speed['question_milliseconds'][OURS_INT8])} questions.",
        results.table(["", "passages/s", "question p50, ms", "p99, ms"], rows),
        results.table(
            ["ratio", "min / **median** / max", "aim"],
            [[name, str(spread), _aim(name)] for name, spread in ratios(by_part).items()],
        ),
        results.table(
            ["against sentence-transformers fp32", "max abs difference", "cosine mean", "cosine min", "same top-20, %"],
            [
                [
                    name,
                    f"{parity[name]['max_abs_difference']:.1e}",
                    f"{parity[name]['cosine_mean']:.5f}",
                    f"{parity[name]['cosine_min']:.4f}",
                    f"{100 * parity[name]['same_top20']:.1f}",
                ]
                for name in (OURS_FP32, OURS_INT8, PLAIN)
            ],
        ),
        f"({parity['passages']} passages, {parity['questions']} questions; int8 accuracy: dense rows of Quality.)",
        peaks.sentence(speed),
    ]
    if "memory" in by_part:
        memory = by_part["memory"]
        cells = [[name, f"{peak['peak']:.0f}", f"{peak['before']:.0f}"] for name, peak in memory["peak_mib"].items()]
        parts.append(
            results.table([f"process encoding {memory['passages']:,} passages", "peak MiB", "with texts only"], cells)
        )
    return "\n\n".join(parts)


def _aim(name: str) -> str:
    if name not in BARS:
        return ""
    return f"≥ {BARS[name]}" if BARS[name] > 1 else f"≤ {BARS[name]}"


def _interleaved(
    ways: dict[str, Timed], passages: list[tuple[str, str]], rounds: int, *, per_round: int = 64
) -> dict[str, list[float]]:
    """Rates of each way in each round, after one round that does not count; the order turns from round to round."""
    measured: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(-1, rounds):
        start = max(0, number) * per_round % max(per_round, len(passages) - per_round + 1)
        for name in _turns(list(ways), number):
            time.sleep(PAUSE)
            seconds = ways[name](passages[start : start + per_round])
            if number >= 0:
                measured[name].append(per_round / seconds)
    return measured


def _turns(names: list[str], number: int) -> list[str]:
    first = number % len(names)
    return names[first:] + names[:first]


def _timed(work: Callable[[Passages], object]) -> Timed:
    def seconds(argument: Passages) -> float:
        start = time.perf_counter()
        work(argument)
        return time.perf_counter() - start

    return seconds


def _ratio(ours: list[float], theirs: list[float]) -> Spread:
    return Spread.of([mine / other for mine, other in zip(ours, theirs, strict=True)])


def _top20(questions: Floats, passages: Floats) -> list[list[int]]:
    found: list[list[int]] = np.argsort(-(questions @ passages.T), axis=1, kind="stable")[:, :20].tolist()
    return found
