"""Case `scale`: what a table costs as it grows, with made vectors of 768 dimensions, beside FAISS HNSW in memory.

A size is filled through `add` in a process of its own: time, size and memory of building, latency and recall of
searching, the cost of adding 1,000 more. Then the paper's headline (section 5.4): questions a second in batches
returning 100, of our index, of FAISS HNSW on the same vectors, and of BM25 per thread.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data, machine, made_vectors, results
from benchmarks.accuracy import Spread
from benchmarks.environments import environment
from benchmarks.ingest import in_new_process, peak_mebibytes
from benchmarks.made_vectors import DIMENSION, MadeEncoder

SIZES = (10_000, 100_000)
LARGEST = 1_000_000
QUESTIONS = 256
K = 20
RETURNED = 100
ADDED = 1_000
ROUNDS = 3
RECALL = 0.98
PAPER = {"FAISS": 995.0, "Lucene": 23.7}
"""Questions a second that the paper reports at 21 million passages on its machine."""
PLOT = "scale.png"
_CHUNK = 10_000


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this case."""
    sizes = ", ".join(f"{size:,}" for size in SIZES)
    parser.add_argument(
        "sizes", nargs="*", type=int, metavar="N", help=f"passages (default {sizes}; long: {LARGEST:,})"
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the sizes; one raw file each. Returns questions a second."""
    summary = {}
    for size in options.sizes or SIZES:
        print(f"scale: {size:,} passages", file=sys.stderr)
        values = in_new_process(measure, size)
        print(f"scale: {size:,} vectors in FAISS", file=sys.stderr)
        values["faiss"] = faiss_hnsw(size)
        results.write("scale", str(size), values)
        summary[f"{size}"] = {name: round(rate, 1) for name, rate in rates(values).items()}
    return summary


def measure(size: int) -> dict[str, Any]:
    """Fill a table with so many passages, search it, and add to it."""
    from dpr_lance.connection import connect

    encoder = MadeEncoder()
    asked = made_vectors.questions(QUESTIONS, size)
    before = peak_mebibytes()
    with tempfile.TemporaryDirectory(prefix="dpr-lance-scale-") as folder:
        retriever = connect(folder, encoder=encoder)
        started = time.perf_counter()
        retriever.add(made_vectors.documents(0, size), splitter=None)
        filled = time.perf_counter()
        retriever.optimize()
        built = time.perf_counter()
        info = retriever.info()
        values: dict[str, Any] = {
            "passages": info.passages,
            "add_seconds": filled - started,
            "optimize_seconds": built - filled,
            "peak_mib": peak_mebibytes(),
            "before_mib": before,
            "bytes": info.bytes_on_disk,
            "indexes": [index.kind for index in info.indexes],
        }
        truth = exact(encoder, encoder.encode_questions(asked), size)
        found = retriever.search(asked, K, mode="dense")
        overlaps = [
            len({int(hit.document_id) for hit in hits} & set(row[:K].tolist()))
            for hits, row in zip(found, truth, strict=True)
        ]
        values["recall@20"] = sum(overlaps) / (K * len(asked))
        told = retriever.search(asked[0], K, mode="dense", explain=True).explanation
        values["effort"] = dataclasses.asdict(told.effort) if told and told.effort else None
        values["milliseconds"] = {mode: [] for mode in ("dense", "bm25", "hybrid")}
        for question in asked[:100]:
            for mode, taken in values["milliseconds"].items():
                started = time.perf_counter()
                retriever.search(question, K, mode=mode)
                taken.append(1000 * (time.perf_counter() - started))
        values["batch"] = {mode: [] for mode in ("dense", "bm25")}
        for _ in range(ROUNDS):
            for mode, taken in values["batch"].items():
                started = time.perf_counter()
                retriever.search(asked, RETURNED, mode=mode)
                taken.append(len(asked) / (time.perf_counter() - started))
        started, used = time.perf_counter(), time.process_time()
        retriever.add(made_vectors.documents(size, size + ADDED), splitter=None)
        values["adding"] = {"wall": time.perf_counter() - started, "cpu": time.process_time() - used}
        if retriever.search(made_vectors.text_of(size + 1), 1)[0].document_id != str(size + 1):
            raise RuntimeError("a passage was added, and is not found")
    return values


def exact(encoder: MadeEncoder, asked: made_vectors.Floats, size: int, *, out: Path | None = None) -> Any:  # noqa: ANN401
    """int64[questions, 100]: the true nearest passages, by chunks; with `out` the vectors are written there."""
    scores = np.zeros((len(asked), 0), dtype=np.float32)
    names = np.zeros((len(asked), 0), dtype=np.int64)
    kept = None
    if out is not None:
        kept = np.lib.format.open_memmap(out, mode="w+", dtype=np.float32, shape=(size, DIMENSION))
    for start in range(0, size, _CHUNK):
        numbers = range(start, min(size, start + _CHUNK))
        vectors = encoder.vectors(numbers)
        if kept is not None:
            kept[start : start + len(vectors)] = vectors
        scores = np.hstack([scores, asked @ vectors.T])
        names = np.hstack([names, np.broadcast_to(np.asarray(numbers), (len(asked), len(numbers)))])
        best = np.argsort(-scores, axis=1, kind="stable")[:, :RETURNED]
        scores, names = np.take_along_axis(scores, best, axis=1), np.take_along_axis(names, best, axis=1)
    if kept is not None:
        kept.flush()
    return names


def faiss_hnsw(size: int) -> dict[str, Any]:
    """The same vectors and questions in FAISS HNSW, in its own environment."""
    encoder = MadeEncoder()
    asked = encoder.encode_questions(made_vectors.questions(QUESTIONS, size))
    with tempfile.TemporaryDirectory(prefix="dpr-lance-scale-") as folder:
        np.save(Path(folder) / "exact.npy", exact(encoder, asked, size, out=Path(folder) / "vectors.npy"))
        np.save(Path(folder) / "questions.npy", asked)
        command = [str(environment("faiss_hnsw")), "-m", "benchmarks.peers.faiss_hnsw", folder]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=data.REPOSITORY)
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def at_recall(efforts: list[dict[str, Any]]) -> dict[str, Any]:
    """The least effort of FAISS that reaches the recall, else the greatest."""
    reached = [each for each in efforts if each["recall@20"] >= RECALL]
    chosen: dict[str, Any] = (reached or efforts[-1:])[0]
    return chosen


def rates(values: dict[str, Any]) -> dict[str, float]:
    """Questions a second in batches returning 100, medians."""
    threads = values["faiss"]["threads"]
    return {
        "dense": Spread.of(values["batch"]["dense"]).median,
        "FAISS HNSW": Spread.of(at_recall(values["faiss"]["searched"])["questions_per_second"]).median,
        "BM25 per thread": Spread.of(values["batch"]["bm25"]).median / threads,
    }


def searched_how(record: dict[str, Any]) -> str:
    """The kind of the vector index and how much of it is probed, or that there is none."""
    kinds = [kind for kind in record["indexes"] if kind.startswith("Ivf")]
    if not kinds or not record["effort"] or record["effort"]["partitions"] is None:
        return "exact"
    return (
        f"IVF-{kinds[0].removeprefix('Ivf').upper()}, {record['effort']['probes']} of {record['effort']['partitions']}"
    )


def _latency(milliseconds: list[float]) -> str:
    return " / ".join(
        f"{value:.2g}" if value < 1 else f"{value:.1f}" for value in np.percentile(milliseconds, (50, 99))
    )


def tables(records: list[dict[str, Any]]) -> str:
    """The section of the README."""
    records = sorted(records, key=lambda record: record["passages"])
    header = ["passages", "add + optimize, s", "on disk", "peak memory", "recall@20", "dense / bm25 / hybrid, p50 ms"]
    rows, alone, batches = [], [], []
    for record in records:
        p50 = " / ".join(f"{np.median(taken):.1f}" for taken in record["milliseconds"].values())
        p99 = " / ".join(f"{np.percentile(taken, 99):.1f}" for taken in record["milliseconds"].values())
        adding = record["adding"]
        size = f"{record['passages']:,}"
        rows.append(
            [
                size,
                f"{record['add_seconds']:.0f} + {record['optimize_seconds']:.0f}",
                f"{record['bytes'] / 1e6:,.0f} MB",
                f"{record['peak_mib']:,.0f} MiB",
                f"{record['recall@20']:.3f} ({searched_how(record)})",
                p50,
                p99,
                f"{adding['wall']:.1f} s, {adding['cpu']:.1f} CPU-s",
            ]
        )
        found, faiss = rates(record), at_recall(record["faiss"]["searched"])
        ours, theirs = record["milliseconds"]["dense"], at_recall(record["faiss"]["alone"])
        alone.append(
            [
                size,
                f"{_latency(ours)} at {record['recall@20']:.3f}",
                f"{_latency(theirs['milliseconds'])} at {theirs['recall@20']:.3f}, efSearch {theirs['effort']}",
                f"{np.median(ours) / np.median(theirs['milliseconds']):.0f}",
            ]
        )
        batches.append(
            [
                size,
                f"{found['dense']:.0f} at recall@20 {record['recall@20']:.3f}",
                f"{found['FAISS HNSW']:.0f} at {faiss['recall@20']:.3f}, built in "
                f"{record['faiss']['build_seconds']:.0f} s, {record['faiss']['peak_mib']:,.0f} MiB",
                f"{found['dense'] / found['FAISS HNSW']:.2f}",
                f"{found['BM25 per thread']:.0f}",
                f"{found['dense'] / found['BM25 per thread']:.1f}",
            ]
        )
    batches.append(
        ["21,015,324 (the paper's, on its machine)", "", f"{PAPER['FAISS']:.0f}", "", f"{PAPER['Lucene']}", ""]
    )
    intro = (
        f"Made vectors of {DIMENSION} dimensions, {made_vectors.CLUSTERS:,} clusters, texts of {made_vectors.WORDS} "
        f"words; filled through `add`, one process a size. Measured on {machine.sentence(records[-1]['machine'])}; "
        f"load average {', '.join(str(record['machine']['load_average'][0]) for record in records)}."
    )
    said = (
        f"Questions a second in batches of {QUESTIONS}, returning {RETURNED} passages, medians of {ROUNDS}. FAISS HNSW "
        "(32 neighbours) holds its vectors in memory and returns ids, with the least effort that reaches recall@20 of "
        f"{RECALL}; ours searches vectors in memory exactly while they fit its bound, else its index, and returns "
        "whole passages, which it reads from disk. BM25 is ours, divided by its threads."
    )
    said_alone = (
        f"Latency at a recall@20 of {RECALL} or more, one question at a time, returning {K}: p50 / p99 in ms of 100 "
        "questions. Ours comes as it is, and includes making the question's vector and reading the passages."
    )
    compared = ["passages", "dense", "FAISS HNSW", "ratio", "BM25 per thread", "dense / BM25 per thread"]
    return "\n\n".join(
        [
            intro,
            results.table([*header, "p99 ms", "adding 1,000"], rows),
            said_alone,
            results.table(["passages", "dense, ms", "FAISS HNSW, ms", "ratio of p50"], alone),
            said,
            results.table(compared, batches),
            f"![growth](plots/{PLOT})",
        ]
    )


def plot(records: list[dict[str, Any]]) -> None:
    """Draw growth over the number of passages."""
    from matplotlib.figure import Figure

    records = sorted(records, key=lambda record: record["passages"])
    sizes = [record["passages"] for record in records]
    panels: dict[str, dict[str, list[float]]] = {
        "seconds": {
            "add": [record["add_seconds"] for record in records],
            "optimize": [record["optimize_seconds"] for record in records],
            "add 1,000 more": [record["adding"]["wall"] for record in records],
        },
        "MB": {
            "on disk": [record["bytes"] / 1e6 for record in records],
            "peak memory": [record["peak_mib"] * 2**20 / 1e6 for record in records],
            "vectors alone": [size * DIMENSION * 4 / 1e6 for size in sizes],
        },
        "search p50, ms": {
            mode: [float(np.median(record["milliseconds"][mode])) for record in records]
            for mode in ("dense", "bm25", "hybrid")
        },
    }
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    for axes, (unit, lines) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for name, values in lines.items():
            axes.plot(sizes, values, marker="o", label=name)
        axes.set(xscale="log", yscale="log", xlabel="passages", ylabel=unit)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    results.write_plot(figure, PLOT)
