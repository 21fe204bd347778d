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

from benchmarks import data, dpr_pair, machine, peaks, results
from benchmarks.accuracy import Spread
from benchmarks.contenders import (
    NAMES,
    OURS_FP32,
    OURS_INT8,
    PLAIN,
    SENTENCE_TRANSFORMERS,
    Passages,
    passages_encoder,
    question_encoder,
)
from benchmarks.references import Floats

Timed = Callable[[Passages], tuple[float, float]]
"""Does some work and returns its wall seconds and CPU seconds (of all threads)."""
Rates = dict[str, dict[str, list[float]]]
"""`wall` and `cpu`: passages a second of each way in each round."""

PAUSE = 0.05
"""Seconds between turns: threads of the one before that still spin must not take the next one's time."""
FASTER_THAN_PEER = "int8 / sentence-transformers, passages/s"
FASTER_THAN_PLAIN = "int8 / onnxruntime fp32 unfused, passages/s"
QUESTION = "int8 / sentence-transformers, question p50"
PARTS = ("hardware", "speed", "one-thread", "parity", "memory", "dpr-pair")
AIMS = {FASTER_THAN_PEER: "≥ 2.5", FASTER_THAN_PLAIN: "≥ 1.5", QUESTION: "≤ 0.35"}
MEMORY_AIM = 0.5
SPEEDS = {"speed": "Each contender with its default threads", "one-thread": "Each contender on one thread"}
PARITY = {"max_abs_difference": ".1e", "cosine_mean": ".5f", "cosine_min": ".4f", "top20_overlap": ".4f"}
CHECKED = (OURS_FP32, OURS_INT8, PLAIN)
ONE_THREAD = "1 thread"
PEAK_SCRIPT = """
import json, re, sys
from pathlib import Path
from benchmarks.contenders import passages_encoder
from benchmarks.data import hundred_word_passages
def peak():  # getrusage would count what the process was before exec
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text()).group(1)) / 1024
name, count = sys.argv[1], int(sys.argv[2])
passages = hundred_word_passages(count)
before = peak()
vectors = passages_encoder(name)(passages)
assert len(vectors) == count
print(json.dumps([before, peak()]))
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this case."""
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: the first four)")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds of 64 passages (default 7)")
    parser.add_argument("--questions", type=int, default=200, help="single questions (default 200)")
    parser.add_argument("--memory", type=int, default=20_000, metavar="N", help="passages of the part memory")
    parser.add_argument(
        "--memory-peer", type=int, nargs="+", metavar="N", help="other numbers for the peer, to show how its peak grows"
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the chosen parts; one raw file each. Returns the ratios of speeds that there are.

    A busy machine takes time from whoever uses more threads: what is measured on one thread each is free of that.
    """
    if unknown := set(options.parts) - set(PARTS):
        raise SystemExit(f"unknown part {min(unknown)!r}; known: {', '.join(PARTS)}")
    passages = data.hundred_word_passages(64 * max(4, options.rounds))
    questions = [question.text for question in data.read("nq-gold", "dev").questions[: options.questions]]
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "hardware": lambda: threading(passages[:64], options.rounds) | peaks.measure(passages[:64]),
        "speed": lambda: speed(passages, questions, options.rounds, threads=None),
        "one-thread": lambda: speed(passages, questions, options.rounds, threads=1),
        "parity": lambda: compare_vectors(passages[:256], questions),
        "memory": lambda: peak_memory(options.memory, options.memory_peer or [options.memory]),
        "dpr-pair": lambda: dpr_pair.measure(passages[:32], questions[:32]),
    }
    for part in options.parts or PARTS[:4]:
        print(f"encode: {part}", file=sys.stderr)
        results.write("encode", part, measures[part]())
    records = {record["part"]: record for record in results.read("encode")}
    found = {part: ratios(records[part]) for part in SPEEDS if part in records}
    return {part: {name: str(spread) for name, spread in spreads.items()} for part, spreads in found.items()}


def speed(passages: list[tuple[str, str]], questions: list[str], rounds: int, *, threads: int | None) -> dict[str, Any]:
    """Passages a second in rounds of 64, and milliseconds of single questions, of every contender."""
    encoders = {name: passages_encoder(name, threads) for name in NAMES}
    rates = _interleaved({name: _timed(encode) for name, encode in encoders.items()}, passages, rounds)
    return {"passages_per_second": rates, "question_milliseconds": question_speed(questions, threads)}


def question_speed(questions: list[str], threads: int | None) -> dict[str, list[float]]:
    """Milliseconds of each single question by each contender, which take turns at every question."""
    encoders = {name: question_encoder(name, threads) for name in NAMES}
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

    from dpr_lance.encoders.loading import DEFAULT_ENCODER, PACKAGED

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
        ONE_THREAD: _timed(lambda _: [one.run(None, feed) for feed in feeds]),
        "1 run on 2 threads": _timed(lambda _: [two.run(None, feed) for feed in feeds]),
        "2 runs on 1 thread each": _timed(both),
    }
    measured = _interleaved(ways, passages, rounds, per_round=len(passages))
    pool.shutdown()
    return {"threads": measured}


def compare_vectors(passages: list[tuple[str, str]], questions: list[str]) -> dict[str, Any]:
    """Largest difference of one element and smallest cosine to sentence-transformers, on passages and questions."""
    encoders = {name: passages_encoder(name) for name in (SENTENCE_TRANSFORMERS, *CHECKED)}
    expected = encoders[SENTENCE_TRANSFORMERS](passages)
    asked = question_encoder(SENTENCE_TRANSFORMERS)
    wanted = np.stack([asked(question) for question in questions])
    parity: dict[str, Any] = {"passages": len(passages), "questions": len(questions)}
    top = _top20(wanted, expected)
    for name in CHECKED:
        single = question_encoder(name)
        found, vectors = encoders[name](passages), np.stack([single(question) for question in questions])
        both, reference = np.concatenate([found, vectors]), np.concatenate([expected, wanted])
        mine = _top20(vectors, found)
        cosines = (both * reference).sum(1) / np.linalg.norm(both, axis=1) / np.linalg.norm(reference, axis=1)
        parity[name] = {
            "max_abs_difference": float(np.abs(both - reference).max()),
            "cosine_mean": float(cosines.mean()),
            "cosine_min": float(cosines.min()),
            "top20_overlap": float(np.mean([len({*a} & {*b}) / 20 for a, b in zip(top, mine, strict=True)])),
        }
    return parity


def peak_memory(count: int, peers_counts: list[int]) -> dict[str, list[dict[str, Any]]]:
    """Of a process that encodes `passages`: its peak memory in MiB, and its peak before the encoder was loaded."""
    measured: list[dict[str, Any]] = []
    for name, passages in ((OURS_INT8, count), *((SENTENCE_TRANSFORMERS, some) for some in peers_counts)):
        command = [sys.executable, "-c", PEAK_SCRIPT, name, str(passages)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=data.REPOSITORY)
        before, peak = json.loads(done.stdout.splitlines()[-1])
        measured.append({"name": name, "passages": passages, "peak_mib": peak, "before_mib": before})
    return {"processes": measured}


def ratios(measured: dict[str, Any]) -> dict[str, Spread]:
    """The ratios that the aims are about: by round for passages, by block of 25 questions for the median question."""
    rates, taken = (measured[key] for key in ("passages_per_second", "question_milliseconds"))
    blocks = [slice(start, start + 25) for start in range(0, len(taken[OURS_INT8]), 25)]
    medians = {name: [float(np.median(values[block])) for block in blocks] for name, values in taken.items()}
    rate, cpu = rates["wall"], rates["cpu"]
    return {
        FASTER_THAN_PEER: _ratio(rate[OURS_INT8], rate[SENTENCE_TRANSFORMERS]),
        FASTER_THAN_PLAIN: _ratio(rate[OURS_INT8], rate[PLAIN]),
        "fp32 / sentence-transformers, passages/s": _ratio(rate[OURS_FP32], rate[SENTENCE_TRANSFORMERS]),
        f"{FASTER_THAN_PEER} of CPU time": _ratio(cpu[OURS_INT8], cpu[SENTENCE_TRANSFORMERS]),
        f"{FASTER_THAN_PLAIN} of CPU time": _ratio(cpu[OURS_INT8], cpu[PLAIN]),
        QUESTION: _ratio(medians[OURS_INT8], medians[SENTENCE_TRANSFORMERS]),
        "fp32 / sentence-transformers, question p50": _ratio(medians[OURS_FP32], medians[SENTENCE_TRANSFORMERS]),
    }


def tables(records: list[dict[str, Any]]) -> str:
    """The section of the README: a block for each part that there is."""
    blocks: dict[str, Callable[[dict[str, Any]], list[str]]] = {
        "speed": lambda record: _speed_tables(record, SPEEDS["speed"]),
        "one-thread": lambda record: _speed_tables(record, SPEEDS["one-thread"]),
        "parity": _parity_table,
        "dpr-pair": dpr_pair.sentences,
        "hardware": _hardware_sentences,
        "memory": _memory_table,
    }
    by_part = {record["part"]: record for record in records}
    return "\n\n".join(text for part, block in blocks.items() if part in by_part for text in block(by_part[part]))


def _parity_table(parity: dict[str, Any]) -> list[str]:
    cells = [[name, *(f"{parity[name][key]:{form}}" for key, form in PARITY.items())] for name in CHECKED]
    header = ["against sentence-transformers fp32", *(key.replace("_", " ") for key in PARITY)]
    counts = f"{parity['passages']} passages, {parity['questions']} questions"
    return [results.table(header, cells), f"({counts}; int8 accuracy: dense rows of Quality.)"]


def _hardware_sentences(hardware: dict[str, Any]) -> list[str]:
    rates = hardware["threads"]["wall"]
    ways = [f"{way} {_ratio(rates[way], rates[ONE_THREAD])}" for way in rates if way != ONE_THREAD]
    return [peaks.sentence(hardware), f"int8 passages/s against one run on one thread: {'; '.join(ways)}."]


def _memory_table(memory: dict[str, Any]) -> list[str]:
    header = ["a process that encodes 100-word passages", "passages", "peak MiB", "MiB before loading the encoder"]
    cells = [
        [row["name"], *(f"{row[key]:,.0f}" for key in ("passages", "peak_mib", "before_mib"))]
        for row in memory["processes"]
    ]
    ours, *peers = memory["processes"]
    most = max(peers, key=lambda row: int(row["passages"]))
    share = f"int8 / sentence-transformers: {ours['peak_mib'] / most['peak_mib']:.2f} (aim ≤ {MEMORY_AIM})"
    bound = "" if ours["passages"] <= most["passages"] else "; an upper bound, the peer had fewer passages"
    return [results.table(header, cells), f"{share}{bound}."]


def _speed_tables(measured: dict[str, Any], said: str) -> list[str]:
    rates, taken = (measured[key] for key in ("passages_per_second", "question_milliseconds"))
    rows = [
        [name, *(str(Spread.of(rates[clock][name])) for clock in ("wall", "cpu"))]
        + [f"{np.percentile(taken[name], percent):.2f}" for percent in (50, 99)]
        for name in NAMES
    ]
    counts = f"{len(rates['wall'][OURS_INT8])} rounds of 64 passages of 100 words, {len(taken[OURS_INT8])} questions"
    load = f"load average {measured['machine']['load_average'][0]}"
    return [
        f"{said}. {machine.sentence(measured['machine'])}; {counts}; {load}.",
        results.table(["", "passages/s", "passages/CPU-s", "question p50, ms", "p99, ms"], rows),
        results.table(
            ["ratio", "min / **median** / max", "aim"],
            [[name, str(spread), AIMS.get(name, "")] for name, spread in ratios(measured).items()],
        ),
    ]


def _interleaved(ways: dict[str, Timed], passages: list[tuple[str, str]], rounds: int, *, per_round: int = 64) -> Rates:
    """Rates of each way in each round, after one round that does not count; the order turns from round to round."""
    rates: Rates = {"wall": {name: [] for name in ways}, "cpu": {name: [] for name in ways}}
    for number in range(-1, rounds):
        start = max(0, number) * per_round % max(per_round, len(passages) - per_round + 1)
        for name in _turns(list(ways), number):
            time.sleep(PAUSE)
            wall, cpu = ways[name](passages[start : start + per_round])
            if number >= 0:
                rates["wall"][name].append(per_round / wall)
                rates["cpu"][name].append(per_round / cpu)
    return rates


def _turns(names: list[str], number: int) -> list[str]:
    first = number % len(names)
    return names[first:] + names[:first]


def _timed(work: Callable[[Passages], object]) -> Timed:
    def seconds(argument: Passages) -> tuple[float, float]:
        wall, cpu = time.perf_counter(), time.process_time()
        work(argument)
        return time.perf_counter() - wall, time.process_time() - cpu

    return seconds


def _ratio(ours: list[float], theirs: list[float]) -> Spread:
    return Spread.of([mine / other for mine, other in zip(ours, theirs, strict=True)])


def _top20(questions: Floats, passages: Floats) -> list[list[int]]:
    found: list[list[int]] = np.argsort(-(questions @ passages.T), axis=1, kind="stable")[:, :20].tolist()
    return found
