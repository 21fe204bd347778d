"""Case `ann`: dense search beside FAISS, hnswlib and plain LanceDB on the same vectors, at the same recall.

Made vectors of 768 dimensions in clusters, of uneven length. Every contender builds its index in one process and is
searched in another; ours is a table filled through `add`, searched through `search`, with the default bound of
what is held in memory, and with all vectors there.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data, machine, results
from benchmarks.environments import environment
from benchmarks.ingest import in_new_process
from benchmarks.made_vectors import CLUSTERS, DIMENSION, QUESTION_SPREAD, SEED, SPREAD, Floats
from benchmarks.peers.ann import CONTENDERS, RETURNED, K, measured
from benchmarks.references import CACHE
from dpr_lance.encoders.card import EncoderCard
from dpr_lance.indexes.policy import with_spare
from dpr_lance.records.hits import Effort

SIZES = (100_000,)
LARGEST = 1_000_000
QUESTIONS = 1_000
RECALL = 0.98
NORMS = 0.2
"""Standard deviation of the logarithm of the vectors' lengths."""
PROFILED = 200
"""Questions for which LanceDB's own share of a search is measured."""
CHUNK = 10_000
IN_MEMORY = "dpr_lance, vectors in memory"
MOST_IN_MEMORY = 1 << 30
"""Bytes of vectors up to which ours is searched with all of them in memory, too."""
NAMES = {
    "faiss-ivfpq": "FAISS IVF-PQ (d/4) + refinement",
    "faiss-ivfsq": "FAISS IVF-SQ + refinement",
    "faiss-hnsw": "FAISS HNSW, 32 neighbours",
    "faiss-hnsw16": "FAISS HNSW, 16 neighbours",
    "hnswlib": "hnswlib, 16 neighbours",
    "lancedb": "LanceDB, its defaults, tuned",
}
LANCEDB_STAGES = {
    "one partition": "LanceDB: one partition, approximate scores (the fixed cost of a query)",
    "partitions": "LanceDB: all partitions that are probed",
    "scored again": f"LanceDB: the same, {with_spare(K)} candidates scored again on the stored vectors",
    "ids": f"LanceDB: {K} ids by row id (the fixed cost of fetching)",
    "passages": f"LanceDB: {K} passages by row id",
}
STAGES = {
    "dense": "`search`: the dense leg",
    "fetch": f"`search`: fetching {K} passages",
    "total": "`search`: all of it",
}
USUAL = ("faiss-ivfpq", "faiss-ivfsq", "faiss-hnsw", "hnswlib", "lancedb")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this case."""
    parser.add_argument("sizes", nargs="*", type=int, metavar="N", help=f"vectors (default {SIZES[0]:,})")
    parser.add_argument("--only", nargs="+", choices=["dpr_lance", *CONTENDERS], help="these alone; others stay")
    parser.add_argument("--without", nargs="+", choices=[*CONTENDERS], default=[], help="all but these")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the sizes; one raw file each, kept after every contender. Returns p50 in milliseconds."""
    summary = {}
    for size in options.sizes or SIZES:
        place = made(size)
        values: dict[str, Any] = {"vectors": size, "questions": QUESTIONS, "contenders": {}}
        for earlier in results.read("ann"):
            if earlier["vectors"] == size:
                values["contenders"] = earlier["contenders"]
        for name in options.only or ["dpr_lance", *USUAL]:
            if name in options.without:
                continue
            print(f"ann: {size:,} vectors, {name}", file=sys.stderr)
            values["contenders"] |= ours(place, size) if name == "dpr_lance" else {name: peer(place, name)}
            results.write("ann", str(size), values)
        summary[str(size)] = {
            name: round(float(np.median(each["milliseconds"])), 2) for name, each in values["contenders"].items()
        }
    return summary


def made(size: int) -> Path:
    """The folder of the vectors, the questions and their true neighbours; made once."""
    place = CACHE / "ann" / str(size)
    if not (place / "exact.npy").is_file():
        place.mkdir(parents=True, exist_ok=True)
        print(f"ann: making {size:,} vectors", file=sys.stderr)
        centres = np.random.default_rng(SEED).standard_normal((CLUSTERS, DIMENSION), dtype=np.float32)
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        vectors = np.lib.format.open_memmap(place / "vectors.npy", mode="w+", dtype=np.float32, shape=(size, DIMENSION))
        for start in range(0, size, CHUNK):
            stop = min(size, start + CHUNK)
            choose = np.random.default_rng([SEED, start])
            noise = choose.standard_normal((stop - start, DIMENSION), dtype=np.float32)
            part = centres[choose.integers(0, CLUSTERS, stop - start)] + noise * np.float32(SPREAD / np.sqrt(DIMENSION))
            part /= np.linalg.norm(part, axis=1, keepdims=True)
            vectors[start:stop] = part * choose.lognormal(0.0, NORMS, (stop - start, 1)).astype(np.float32)
        choose = np.random.default_rng([SEED, size, 1])
        near = np.asarray(vectors[np.sort(choose.choice(size, QUESTIONS, replace=False))])
        near = near / np.linalg.norm(near, axis=1, keepdims=True)
        noise = choose.standard_normal(near.shape, dtype=np.float32) * np.float32(QUESTION_SPREAD / np.sqrt(DIMENSION))
        asked = (near + noise) / np.linalg.norm(near + noise, axis=1, keepdims=True)
        np.save(place / "questions.npy", asked.astype(np.float32))
        np.save(place / "exact.npy", nearest(vectors, asked.astype(np.float32)))
    return place


def nearest(vectors: Floats, asked: Floats) -> Any:  # noqa: ANN401
    """int64[questions, 100]: the largest inner products, by chunks."""
    scores = np.zeros((len(asked), 0), dtype=np.float32)
    names = np.zeros((len(asked), 0), dtype=np.int64)
    for start in range(0, len(vectors), CHUNK):
        part = np.asarray(vectors[start : start + CHUNK])
        scores = np.hstack([scores, asked @ part.T])
        names = np.hstack([names, np.broadcast_to(np.arange(start, start + len(part)), (len(asked), len(part)))])
        best = np.argpartition(-scores, min(RETURNED, scores.shape[1]) - 1, axis=1)[:, :RETURNED]
        scores, names = np.take_along_axis(scores, best, axis=1), np.take_along_axis(names, best, axis=1)
    return np.take_along_axis(names, np.argsort(-scores, axis=1), axis=1)


class FileEncoder:
    """An encoder whose texts name rows of the files."""

    def __init__(self, place: Path) -> None:
        self._passages = np.load(place / "vectors.npy", mmap_mode="r")
        self._questions = np.load(place / "questions.npy")
        size = len(self._passages)
        self.card = EncoderCard(
            name="made", dimension=DIMENSION, fingerprint=f"ann-{size}", hybrid_weight=10.0, normalise=False
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
    found = {"dpr_lance": report | in_new_process(partial(searched, place), -1)}
    if size * DIMENSION * 4 <= MOST_IN_MEMORY:
        found[IN_MEMORY] = report | in_new_process(partial(searched, place), MOST_IN_MEMORY)
    return found


def built(place: Path, size: int) -> dict[str, Any]:
    """Time of `add` with its folding and training, and of training the index at the full size alone."""
    from dpr_lance.connection import connect
    from dpr_lance.indexes import maintenance as indexes
    from dpr_lance.indexes import policy as index_policy

    def documents() -> Iterator[dict[str, str]]:
        for number in range(size):
            yield {"id": str(number), "text": str(number)}

    with connect(place / "dpr_lance", encoder=FileEncoder(place)) as retriever:
        started, used = time.perf_counter(), time.process_time()
        retriever.add(documents(), splitter=None)
        retriever.optimize()
        filled = {"add_seconds": time.perf_counter() - started, "add_cpu": time.process_time() - used}
        store = retriever._store
        now = dataclasses.replace(index_policy.POLICY, retrain_growth=0.0, vector_index_rows=min(size, 50_000))
        started, used = time.perf_counter(), time.process_time()
        indexes.train_if_due(store, store.card, now)
        report = {"build_seconds": time.perf_counter() - started, "build_cpu": time.process_time() - used}
        found = retriever.optimize()
    return report | filled | {"bytes": found.bytes_after, "measured_recall": found.recall}


def searched(place: Path, resident: int) -> dict[str, Any]:
    """Ask the table; `resident` is the bound of vectors in memory, the default one where it is negative."""
    from dpr_lance.connection import connect
    from dpr_lance.search.resident import RESIDENT_BYTES

    encoder = FileEncoder(place)
    questions, exact = np.load(place / "questions.npy"), np.load(place / "exact.npy")
    numbers = {question.tobytes(): str(number) for number, question in enumerate(questions)}
    bound = RESIDENT_BYTES if resident < 0 else resident
    alone = []
    with connect(place / "dpr_lance", encoder=encoder, resident_bytes=bound) as retriever:

        def search(asked: Floats, k: int) -> Any:  # noqa: ANN401
            found = retriever.search([numbers[question.tobytes()] for question in asked], k, mode="dense")
            if len(asked) == 1:
                alone.append(found[0].seconds)
            return np.array([[int(hit.document_id) for hit in hits] for hits in found])

        search(questions[:2], K)
        report = measured(search, questions, exact)
        explanation = retriever.search("0", 1, mode="dense", explain=True).explanation
        if explanation is None or explanation.effort is None:
            raise RuntimeError("a dense search tells its effort when asked to explain")
        effort, column = explanation.effort, retriever._store.card.column
    report["stages"] = {
        stage: 1000 * float(np.median([seconds[stage] for seconds in alone])) for stage in ("dense", "fetch", "total")
    }
    report["without_fetch"] = [1000 * (seconds["total"] - seconds["fetch"]) for seconds in alone]
    report["effort"] = [effort.probes, effort.partitions]
    if effort.probes is not None:
        report["lancedb"] = asyncio.run(lancedb_alone(place, questions[:PROFILED], column, effort))
    return report


async def lancedb_alone(place: Path, questions: Floats, column: str, effort: Effort) -> dict[str, dict[str, float]]:
    """Milliseconds, and those of CPU, that LanceDB takes by itself for what a search asks of it."""
    import lancedb

    database = await lancedb.connect_async(place / "dpr_lance")
    table = await database.open_table("passages")
    await table.prewarm_index(f"{column}_idx")

    async def nearest(question: Floats, probes: int, refined: int | None) -> list[int]:
        search = table.query().nearest_to(question).column(column).distance_type(effort.metric).nprobes(probes)
        search = search if refined is None else search.refine_factor(refined)
        found = await search.with_row_id().select(["_distance"]).limit(with_spare(K)).to_arrow()
        return sorted(found["_rowid"].to_pylist()[:K])

    rows = [await nearest(question, effort.probes or 1, 1) for question in questions]

    async def taken(number: int, columns: list[str]) -> None:
        await table.take_row_ids(rows[number]).with_row_id().select(columns).to_arrow()

    works: dict[str, Callable[[int], Awaitable[Any]]] = {
        "one partition": lambda number: nearest(questions[number], 1, None),
        "partitions": lambda number: nearest(questions[number], effort.probes or 1, None),
        "scored again": lambda number: nearest(questions[number], effort.probes or 1, effort.refine_factor),
        "ids": lambda number: taken(number, ["id"]),
        "passages": lambda number: taken(number, ["id", "document_id", "title", "text"]),
    }
    found = {}
    for name, work in works.items():
        milliseconds, used = [], time.process_time()
        for number in range(len(questions)):
            started = time.perf_counter()
            await work(number)
            milliseconds.append(1000 * (time.perf_counter() - started))
        cpu = 1000 * (time.process_time() - used) / len(questions)
        found[name] = {"milliseconds": float(np.median(milliseconds)), "cpu_milliseconds": cpu}
    return found


def peer(place: Path, name: str) -> dict[str, Any]:
    """A peer in its own environment; what it has built is kept."""
    command = [str(environment("ann")), "-m", "benchmarks.peers.ann", name]
    report_file = place / f"{name}.json"
    if not report_file.is_file():
        done = subprocess.run(
            [*command, "build", str(place)], check=True, stdout=subprocess.PIPE, text=True, cwd=data.REPOSITORY
        )
        report_file.write_text(done.stdout.splitlines()[-1], encoding="utf-8")
    report: dict[str, Any] = json.loads(report_file.read_text(encoding="utf-8"))
    done = subprocess.run(
        [*command, "search", str(place), str(RECALL)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=data.REPOSITORY,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report | found


def tables(records: list[dict[str, Any]]) -> str:
    """The section of the README."""
    records = sorted(records, key=lambda record: record["vectors"])
    header = [
        "contender",
        "recall@20",
        "alone, p50 / p99 ms",
        "CPU ms",
        f"batch of {QUESTIONS:,} returning {RETURNED}, questions/s",
        "index, CPU-s",
        "on disk, MB",
        "memory after searching, MiB",
    ]
    parts = [
        f"{QUESTIONS:,} questions near made vectors of {DIMENSION} dimensions in {CLUSTERS:,} clusters, lengths "
        f"log-normal with σ = {NORMS}; the least effort of each contender that reaches recall@20 of {RECALL} on 200 of "
        "the questions. FAISS and hnswlib hold everything in memory and return numbers; LanceDB returns numbers; ours "
        "returns whole passages of a table. Memory is "
        f"that of the process without pages of files. Measured on {machine.sentence(records[-1]['machine'])}; load "
        f"average {', '.join(str(record['machine']['load_average'][0]) for record in records)}."
    ]
    for record in records:
        rows = []
        for name, each in record["contenders"].items():
            p50, p99 = np.percentile(each["milliseconds"], [50, 99])
            rows.append(
                [
                    NAMES.get(name, name),
                    f"{each['recall@20']:.3f}",
                    f"{p50:.2f} / {p99:.2f}",
                    f"{each['cpu_milliseconds']:.2f}",
                    f"{each['questions_per_second']:,.0f}",
                    f"{each['build_cpu']:,.0f}",
                    f"{each['bytes'] / 1e6:,.0f}",
                    f"{each['resident_mib']:,.0f}",
                ]
            )
            if name == "dpr_lance" and "without_fetch" in each:
                p50, p99 = np.percentile(each["without_fetch"], [50, 99])
                rows.append(["dpr_lance, ids and scores alone", rows[-1][1], f"{p50:.2f} / {p99:.2f}", *[""] * 5])
        parts += [f"**{record['vectors']:,} vectors**", results.table(header, rows)]
    return "\n\n".join([*parts, *profile(records), *ratios(records)])


def profile(records: list[dict[str, Any]]) -> list[str]:
    """Where the time of a search goes, size by size."""
    ours = {f"{each['vectors']:,}": each["contenders"].get("dpr_lance", {}) for each in records}
    ours = {size: each for size, each in ours.items() if "lancedb" in each}
    if not ours:
        return []
    rows = [
        [
            label,
            *(
                f"{each['lancedb'][part]['milliseconds']:.2f} ({each['lancedb'][part]['cpu_milliseconds']:.2f})"
                for each in ours.values()
            ),
        ]
        for part, label in LANCEDB_STAGES.items()
    ]
    rows += [[label, *(f"{each['stages'][stage]:.2f}" for each in ours.values())] for stage, label in STAGES.items()]
    efforts = ", ".join(f"{each['effort'][0]} of {each['effort'][1]} at {size}" for size, each in ours.items())
    told = (
        f"Where the time goes: milliseconds, p50 (mean of CPU), of {PROFILED} questions through LanceDB's asynchronous "
        f"tables, and of all questions in `search`. Partitions probed: {efforts}."
    )
    return [told, results.table(["", *(f"{size} vectors" for size in ours)], rows)]


def ratios(records: list[dict[str, Any]]) -> list[str]:
    """Ours to its peers, as far as both are there, and to itself at the smallest size."""

    def p50(each: dict[str, Any]) -> float:
        return float(np.median(each["milliseconds"]))

    def ids_alone(each: dict[str, Any]) -> float:
        return float(np.median(each.get("without_fetch", each["milliseconds"])))

    wanted: list[tuple[str, str, str, Callable[[dict[str, Any]], float]]] = [
        ("CPU of the index / FAISS IVF-PQ", "0.5", "faiss-ivfpq", lambda each: float(each["build_cpu"])),
        ("memory after searching / FAISS HNSW", "0.3", "faiss-hnsw", lambda each: float(each["resident_mib"])),
        ("p50, ids alone / FAISS IVF-PQ", "3", "faiss-ivfpq", ids_alone),
        ("p50, ids alone / LanceDB's defaults", "0.2", "lancedb", ids_alone),
        ("p50, whole passages / LanceDB's defaults (ids)", "", "lancedb", p50),
    ]
    contenders = [record["contenders"] for record in records]
    rows = [
        [
            label,
            aim,
            *(
                f"{value(each['dpr_lance']) / value(each[peer_name]):.2f}"
                if {"dpr_lance", peer_name} <= {*each}
                else ""
                for each in contenders
            ),
        ]
        for label, aim, peer_name, value in wanted
    ]
    if all("dpr_lance" in each for each in contenders):
        grown = [p50(each["dpr_lance"]) / p50(contenders[0]["dpr_lance"]) for each in contenders]
        rows.append(["p50 / that of the smallest size", "2", *(f"{ratio:.2f}" for ratio in grown)])
    rows = [row for row in rows if any(row[2:])]
    sizes = [f"{record['vectors']:,} vectors" for record in records]
    return [results.table(["dpr_lance to its peers", "aim, at most", *sizes], rows)] if rows else []
