"""Case `scale`: what a table costs as it grows, with synthetic vectors of 768 dimensions.

A size is filled through `add` in a process of its own: time, size and memory of building, latency and recall of
searching, questions a second in batches that ask for 100 hits (the paper's section 5.4), the cost of adding 1,000 more.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from typing import Any

import numpy as np

from benchmarks import results, synthetic_vectors
from benchmarks.ingest import in_new_process
from benchmarks.peers.protocol import peak_mebibytes
from benchmarks.summaries import p50_p99, spread
from benchmarks.synthetic_vectors import Floats, SyntheticEncoder
from dpr_lance.encoders.vectors import nearest
from dpr_lance.records.hits import MODES, Effort, Mode

SIZES = (10_000, 100_000)
LARGEST = 1_000_000
QUESTIONS = 256
ALONE = 100
K = 20
RETURNED = 100
ADDED = 1_000
ROUNDS = 3
_CHUNK = 10_000


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this case."""
    sizes = ", ".join(f"{size:,}" for size in SIZES)
    parser.add_argument(
        "sizes", nargs="*", type=int, metavar="N", help=f"passages (default {sizes}; long: {LARGEST:,})"
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the sizes, a part each. Returns questions a second."""
    summary = {}
    for size in options.sizes or SIZES:
        print(f"scale: {size:,} passages", file=sys.stderr)
        values = in_new_process(measure, size)
        results.write("scale", str(size), values)
        summary[str(size)] = {mode: round(rate[1], 1) for mode, rate in values["questions_per_second"].items()}
    return summary


def measure(size: int) -> dict[str, Any]:
    """Fill a table with this many passages, search it, and add to it."""
    from dpr_lance.connection import connect

    encoder = SyntheticEncoder()
    asked = synthetic_vectors.questions(QUESTIONS, size)
    with (
        tempfile.TemporaryDirectory(prefix="dpr-lance-scale-") as folder,
        connect(folder, encoder=encoder) as retriever,
    ):
        started = time.perf_counter()
        retriever.add(synthetic_vectors.documents(0, size), splitter=None)
        filled = time.perf_counter()
        retriever.optimize()
        built = time.perf_counter()
        info = retriever.info()
        values: dict[str, Any] = {
            "passages": info.passages,
            "add_seconds": filled - started,
            "optimize_seconds": built - filled,
            "peak_mib": peak_mebibytes(),
            "bytes": info.bytes_on_disk,
        }
        truth = exact(encoder, encoder.encode_questions(asked), size)
        found = retriever.search(asked, K, mode="dense")
        overlaps = [
            len({int(hit.document_id) for hit in hits} & set(row[:K].tolist()))
            for hits, row in zip(found, truth, strict=True)
        ]
        values["recall@20"] = sum(overlaps) / (K * len(asked))
        explanation = retriever.search(asked[0], K, mode="dense", explain=True).explanation
        effort = explanation.effort if explanation else None
        values["searched"] = searched_how([index.kind for index in info.indexes], effort)
        taken: dict[Mode, list[float]] = {mode: [] for mode in MODES}
        for question in asked[:ALONE]:
            for mode, each in taken.items():
                started = time.perf_counter()
                retriever.search(question, K, mode=mode)
                each.append(1000 * (time.perf_counter() - started))
        rates: dict[Mode, list[float]] = {"dense": [], "bm25": []}
        for _ in range(ROUNDS):
            for mode, each in rates.items():
                started = time.perf_counter()
                retriever.search(asked, RETURNED, mode=mode)
                each.append(len(asked) / (time.perf_counter() - started))
        values["milliseconds"] = {mode: p50_p99(each) for mode, each in taken.items()}
        values["questions_per_second"] = {mode: spread(each) for mode, each in rates.items()}
        used = time.process_time()
        retriever.add(synthetic_vectors.documents(size, size + ADDED), splitter=None)
        values["adding_cpu_seconds"] = time.process_time() - used
        if retriever.search(synthetic_vectors.text_of(size + 1), 1)[0].document_id != str(size + 1):
            raise RuntimeError("a passage was added, and is not found")
    return values


def searched_how(indexes: list[str], effort: Effort | None) -> str:
    """The kind of the vector index and how much of it is probed, or that vectors are searched exactly."""
    kinds = [kind for kind in indexes if kind.startswith("Ivf")]
    if not kinds or effort is None or effort.partitions is None:
        return "exact"
    return f"IVF-{kinds[0].removeprefix('Ivf').upper()}, {effort.probes} of {effort.partitions}"


def exact(encoder: SyntheticEncoder, asked: Floats, size: int, *, chunk: int = _CHUNK) -> Any:  # noqa: ANN401
    """int64[questions, 100]: the true nearest passages."""
    chunks = (np.arange(start, min(size, start + chunk)) for start in range(0, size, chunk))
    found = nearest(asked, ((encoder.vectors(numbers.tolist()), numbers) for numbers in chunks), RETURNED)
    return np.stack([numbers for numbers, _ in found])
