"""Case `ann`: dense search next to FAISS, hnswlib and plain LanceDB on the same vectors, at the same recall.

Synthetic vectors of 768 dimensions in clusters, of uneven length. Every contender builds its index in one process and
is searched in another; ours is a table filled through `add`, searched through `search`, with the default bound of
vectors held in memory, and with all of them there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data, machine, results
from benchmarks.environments import environment
from benchmarks.ingest import in_new_process
from benchmarks.peers.ann import CONTENDERS, RETURNED, K, measured
from benchmarks.references import CACHE
from benchmarks.summaries import p50_p99
from benchmarks.synthetic_vectors import CLUSTERS, DIMENSION, QUESTION_SPREAD, SEED, SPREAD, Floats
from dpr_lance.encoders.card import EncoderCard
from dpr_lance.encoders.vectors import nearest

SIZES = (100_000,)
QUESTIONS = 1_000
RECALL = 0.98
NORMS = 0.2
"""Standard deviation of the logarithm of the vectors' lengths."""
CHUNK = 10_000
OURS = "dpr_lance"
IN_MEMORY = "dpr_lance, vectors in memory"
MOST_IN_MEMORY = 1 << 30
"""Bytes of vectors up to which ours is searched with all of them in memory, too."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this case."""
    parser.add_argument("sizes", nargs="*", type=int, metavar="N", help=f"vectors (default {SIZES[0]:,})")
    parser.add_argument(
        "--only", nargs="+", choices=[OURS, *CONTENDERS], help="these alone; others stay, of the same commit"
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the sizes, a part each, kept after every contender. Returns p50 in milliseconds."""
    summary = {}
    for size in options.sizes or SIZES:
        place = make_vectors(size, CACHE / "ann" / str(size))
        earlier = results.read("ann").get(str(size))
        # Contenders of another commit would go under this one's name.
        same = earlier and earlier["origin"]["commit"] == machine.commit_state()[0]
        contenders = earlier["contenders"] if earlier and same else {}
        for name in options.only or [OURS, *CONTENDERS]:
            print(f"ann: {size:,} vectors, {name}", file=sys.stderr)
            contenders |= ours(place, size) if name == OURS else {name: compact(peer(place, name))}
            results.write("ann", str(size), {"vectors": size, "contenders": contenders})
        summary[str(size)] = {name: round(each["milliseconds"][0], 2) for name, each in contenders.items()}
    return summary


def compact(found: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a contender."""
    kept = ("recall@20", "cpu_milliseconds", "questions_per_second", "build_cpu", "bytes", "resident_mib", "effort")
    times = {key: p50_p99(found[key]) for key in ("milliseconds", "without_fetch") if key in found}
    return times | {key: found[key] for key in kept if key in found}


def make_vectors(size: int, place: Path, *, questions: int = QUESTIONS, chunk: int = CHUNK) -> Path:
    """The folder of the vectors, the questions and their true neighbours; made once."""
    if not (place / "exact.npy").is_file():
        place.mkdir(parents=True, exist_ok=True)
        print(f"ann: making {size:,} vectors", file=sys.stderr)
        centres = np.random.default_rng(SEED).standard_normal((CLUSTERS, DIMENSION), dtype=np.float32)
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        vectors = np.lib.format.open_memmap(place / "vectors.npy", mode="w+", dtype=np.float32, shape=(size, DIMENSION))
        for start in range(0, size, chunk):
            stop = min(size, start + chunk)
            choose = np.random.default_rng([SEED, start])
            noise = choose.standard_normal((stop - start, DIMENSION), dtype=np.float32)
            part = centres[choose.integers(0, CLUSTERS, stop - start)] + noise * np.float32(SPREAD / np.sqrt(DIMENSION))
            part /= np.linalg.norm(part, axis=1, keepdims=True)
            vectors[start:stop] = part * choose.lognormal(0.0, NORMS, (stop - start, 1)).astype(np.float32)
        choose = np.random.default_rng([SEED, size, 1])
        near = np.asarray(vectors[np.sort(choose.choice(size, questions, replace=False))])
        near = near / np.linalg.norm(near, axis=1, keepdims=True)
        noise = choose.standard_normal(near.shape, dtype=np.float32) * np.float32(QUESTION_SPREAD / np.sqrt(DIMENSION))
        asked = ((near + noise) / np.linalg.norm(near + noise, axis=1, keepdims=True)).astype(np.float32)
        parts = ((vectors[at : at + chunk], np.arange(size)[at : at + chunk]) for at in range(0, size, chunk))
        exact = np.stack([numbers for numbers, _ in nearest(asked, parts, RETURNED)])
        np.save(place / "questions.npy", asked)
        np.save(place / "exact.npy", exact)
    return place


class FileEncoder:
    """An encoder whose texts name rows of the files."""

    def __init__(self, place: Path) -> None:
        self._passages = np.load(place / "vectors.npy", mmap_mode="r")
        self._questions = np.load(place / "questions.npy")
        size = len(self._passages)
        self.card = EncoderCard(
            name="synthetic", dimension=DIMENSION, fingerprint=f"ann-{size}", hybrid_weight=10.0, normalise=False
        )

    def encode_passages(self, passages: Sequence[tuple[str, str]]) -> Floats:
        """float32[n, d]."""
        return np.asarray(self._passages[[int(text) for _, text in passages]])

    def encode_questions(self, questions: Sequence[str]) -> Floats:
        """float32[n, d]."""
        return np.asarray(self._questions[[int(question) for question in questions]])


def ours(place: Path, size: int) -> dict[str, Any]:
    """Fill the table where it is not filled yet, train its index once more alone, search it twice."""
    built_file = place / "dpr_lance.json"
    if not built_file.is_file():
        built_file.write_text(json.dumps(in_new_process(partial(built, place), size)), encoding="utf-8")
    report = json.loads(built_file.read_text(encoding="utf-8"))
    found = {OURS: compact(report | in_new_process(partial(searched, place), -1))}
    if size * DIMENSION * 4 <= MOST_IN_MEMORY:
        found[IN_MEMORY] = compact(report | in_new_process(partial(searched, place), MOST_IN_MEMORY))
    return found


def built(place: Path, size: int) -> dict[str, Any]:
    """Fill the table; then train the vector index again at the full size, and return the CPU seconds of that."""
    from dpr_lance.connection import connect
    from dpr_lance.indexes.vector_index import train_if_due
    from dpr_lance.table.index_policy import IndexPolicy
    from dpr_lance.table.store import Store

    def documents() -> Iterator[dict[str, str]]:
        for number in range(size):
            yield {"id": str(number), "text": str(number)}

    with connect(place / "dpr_lance", encoder=FileEncoder(place)) as retriever:
        retriever.add(documents(), splitter=None)
        retriever.optimize()
        policy = IndexPolicy(retrain_growth=0.0, vector_index_rows=min(size, 50_000))
        store = Store(place / "dpr_lance", "passages", policy=policy)
        used = time.process_time()
        train_if_due(store, store.card)
        spent = time.process_time() - used
        return {"build_cpu": spent, "bytes": retriever.optimize().bytes_after}


def searched(place: Path, resident: int) -> dict[str, Any]:
    """Ask the table; `resident` is the bound of vectors in memory, the default one where it is negative."""
    from dpr_lance.connection import connect
    from dpr_lance.search.resident import RESIDENT_BYTES

    questions, exact = np.load(place / "questions.npy"), np.load(place / "exact.npy")
    numbers = {question.tobytes(): str(number) for number, question in enumerate(questions)}
    bound = RESIDENT_BYTES if resident < 0 else resident
    alone = []
    with connect(place / "dpr_lance", encoder=FileEncoder(place), resident_bytes=bound) as retriever:

        def search(asked: Floats, k: int) -> Any:  # noqa: ANN401
            found = retriever.search([numbers[question.tobytes()] for question in asked], k, mode="dense")
            if len(asked) == 1:
                alone.append(found[0].seconds)
            return np.array([[int(hit.document_id) for hit in hits] for hits in found])

        search(questions[:2], K)
        report = measured(search, questions, exact)
        explanation = retriever.search("0", 1, mode="dense", explain=True).explanation
        if explanation is None or explanation.effort is None:
            raise RuntimeError("a dense search names its effort when it is asked to explain")
    report["without_fetch"] = [1000 * (seconds["total"] - seconds["fetch"]) for seconds in alone]
    report["effort"] = [explanation.effort.probes, explanation.effort.partitions]
    return report


def peer(place: Path, name: str) -> dict[str, Any]:
    """A peer in its own environment; what it has built is kept."""
    report_file = place / f"{name}.json"
    if not report_file.is_file():
        report_file.write_text(json.dumps(_peer_process(name, "build", place)), encoding="utf-8")
    report: dict[str, Any] = json.loads(report_file.read_text(encoding="utf-8"))
    return report | _peer_process(name, "search", place, str(RECALL))


def _peer_process(name: str, verb: str, place: Path, *more: str) -> dict[str, Any]:
    command = [str(environment("ann")), "-m", "benchmarks.peers.ann", name, verb, str(place), *more]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=data.REPOSITORY)
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report
