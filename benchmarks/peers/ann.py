"""Indexes of vectors as their documentation shows: `python -m benchmarks.peers.ann CONTENDER VERB FOLDER [RECALL]`.

FOLDER has vectors.npy and questions.npy (float32[n, d]) and exact.npy (int64[q, 100], the true neighbours by inner
product). `build` writes the index below FOLDER/CONTENDER and reports seconds of wall and CPU and the bytes on disk.
`search`, a process of its own, opens it, and looks for the least effort that reaches RECALL among the first 20 with the
first `TUNING` questions; with it all questions are asked alone, then in one batch returning 100. It reports recall,
milliseconds, questions a second, and the memory it holds after that, file pages that others could use left out.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

K, RETURNED, TUNING = 20, 100, 200
SUB_VECTOR = 4
"""Dimensions of a sub-vector: the code size of dpr_lance's IVF-PQ."""
PROBES = (4, 8, 16, 32, 64, 128, 256)
REFINED = (2, 5, 10)
EFFORTS = (20, 50, 100, 200, 400, 800, 1600)
CHUNK = 50_000

Effort = tuple[int, ...]
Search = Callable[[np.ndarray, int, Effort], np.ndarray]
"""Questions, how many to return and the effort, to int64[questions, k]."""
Opened = tuple[Search, list[Effort]]


def chunks(vectors: np.ndarray) -> Iterator[np.ndarray]:
    """The vectors a part at a time, so that a memory map is not held as a whole."""
    for start in range(0, len(vectors), CHUNK):
        yield np.ascontiguousarray(vectors[start : start + CHUNK])


class FaissIvfPq:
    """IVF-PQ with refinement on the vectors, 4·sqrt(n) cells; all in memory."""

    def index(self, coarse: Any, d: int, cells: int) -> Any:  # noqa: ANN401
        """The index to refine; codebooks get 10 iterations over 64 vectors a centroid, a tenth of the default work."""
        import faiss

        index = faiss.IndexIVFPQ(coarse, d, cells, d // SUB_VECTOR, 8, faiss.METRIC_INNER_PRODUCT)
        index.pq.cp.niter, index.pq.cp.max_points_per_centroid = 10, 64
        return index

    def build(self, vectors: np.ndarray, folder: Path) -> None:
        import faiss

        n, d = vectors.shape
        cells = int(4 * np.sqrt(n))
        coarse = faiss.IndexFlatIP(d)
        index = self.index(coarse, d, cells)
        refined = faiss.IndexRefineFlat(index)
        chosen = np.sort(np.random.default_rng(0).choice(n, min(n, 64 * cells), replace=False))
        refined.train(np.ascontiguousarray(vectors[chosen]))
        for part in chunks(vectors):
            refined.add(part)
        faiss.write_index(refined, str(folder / "index"))

    def opened(self, folder: Path) -> Opened:
        import faiss

        index = faiss.read_index(str(folder / "index"))
        ivf = faiss.downcast_index(index.base_index)

        def search(questions: np.ndarray, k: int, effort: Effort) -> np.ndarray:
            ivf.nprobe, index.k_factor = effort
            found: np.ndarray = index.search(questions, k)[1]
            return found

        return search, [(probes, refined) for probes in PROBES for refined in REFINED]


class FaissIvfSq(FaissIvfPq):
    """The same with scalar quantisation, a byte a dimension."""

    def index(self, coarse: Any, d: int, cells: int) -> Any:  # noqa: ANN401
        """The index to refine."""
        import faiss

        kind = faiss.ScalarQuantizer.QT_8bit
        return faiss.IndexIVFScalarQuantizer(coarse, d, cells, kind, faiss.METRIC_INNER_PRODUCT)


class FaissHnsw:
    """HNSW with 32 neighbours; all in memory."""

    def build(self, vectors: np.ndarray, folder: Path) -> None:
        import faiss

        index = faiss.IndexHNSWFlat(vectors.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
        for part in chunks(vectors):
            index.add(part)
        faiss.write_index(index, str(folder / "index"))

    def opened(self, folder: Path) -> Opened:
        import faiss

        index = faiss.read_index(str(folder / "index"))

        def search(questions: np.ndarray, k: int, effort: Effort) -> np.ndarray:
            (index.hnsw.efSearch,) = effort
            found: np.ndarray = index.search(questions, k)[1]
            return found

        return search, [(effort,) for effort in EFFORTS]


class Hnswlib:
    """hnswlib with 16 neighbours and a construction effort of 200, its documentation's; all in memory."""

    def build(self, vectors: np.ndarray, folder: Path) -> None:
        import hnswlib

        index = hnswlib.Index(space="ip", dim=vectors.shape[1])
        index.init_index(max_elements=len(vectors), ef_construction=200, M=16)
        start = 0
        for part in chunks(vectors):
            index.add_items(part, np.arange(start, start + len(part)))
            start += len(part)
        index.save_index(str(folder / "index"))

    def opened(self, folder: Path) -> Opened:
        import hnswlib

        dimension = np.load(folder.parent / "questions.npy", mmap_mode="r").shape[1]
        index = hnswlib.Index(space="ip", dim=dimension)
        index.load_index(str(folder / "index"))

        def search(questions: np.ndarray, k: int, effort: Effort) -> np.ndarray:
            index.set_ef(max(k, *effort))
            found: np.ndarray = index.knn_query(questions, k)[0].astype(np.int64)
            return found

        return search, [(effort,) for effort in EFFORTS]


class LancedbDefaults:
    """LanceDB with the defaults of its IVF-PQ index for inner products, searched with more and more effort."""

    def build(self, vectors: np.ndarray, folder: Path) -> None:
        import lancedb
        import pyarrow as pa
        from lancedb.index import IvfPq

        d = vectors.shape[1]
        schema = pa.schema([pa.field("number", pa.int64()), pa.field("vector", pa.list_(pa.float32(), d))])

        def batches() -> Iterator[pa.RecordBatch]:
            start = 0
            for part in chunks(vectors):
                numbers = pa.array(np.arange(start, start + len(part)))
                rows = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), d)
                yield pa.record_batch([numbers, rows], schema=schema)
                start += len(part)

        reader = pa.RecordBatchReader.from_batches(schema, batches())
        table = lancedb.connect(folder).create_table("vectors", data=reader)
        table.create_index("vector", config=IvfPq(distance_type="dot"))

    def opened(self, folder: Path) -> Opened:
        import lancedb

        table = lancedb.connect(folder).open_table("vectors")

        def search(questions: np.ndarray, k: int, effort: Effort) -> np.ndarray:
            probes, refined = effort
            asked = questions if len(questions) > 1 else questions[0]
            found = table.search(asked, vector_column_name="vector").distance_type("dot").nprobes(probes)
            numbers = found.refine_factor(refined).select(["number"]).limit(k).to_arrow()
            rows: np.ndarray = numbers["number"].to_numpy().reshape(len(questions), -1)
            return rows

        return search, [(probes, refined) for probes in PROBES for refined in (*REFINED, 40)]


CONTENDERS: dict[str, Any] = {
    "faiss-ivfpq": FaissIvfPq,
    "faiss-ivfsq": FaissIvfSq,
    "faiss-hnsw": FaissHnsw,
    "hnswlib": Hnswlib,
    "lancedb": LancedbDefaults,
}


def main() -> None:
    """Do what the command line says."""
    name, verb, place, *rest = sys.argv[1:]
    folder = Path(place) / name
    folder.mkdir(parents=True, exist_ok=True)
    contender = CONTENDERS[name]()
    if verb == "build":
        vectors = np.load(Path(place) / "vectors.npy", mmap_mode="r")
        started, used = time.perf_counter(), time.process_time()
        contender.build(vectors, folder)
        report = {"build_seconds": time.perf_counter() - started, "build_cpu": time.process_time() - used}
        report["bytes"] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    else:
        search, efforts = contender.opened(folder)
        report = searched(search, efforts, Path(place), float(rest[0]))
    print(json.dumps(report))


def searched(search: Search, efforts: list[Effort], place: Path, wanted: float) -> dict[str, Any]:
    """Report on the fastest effort that reaches the recall on the first questions, else on the one that finds most."""
    questions, exact = np.load(place / "questions.npy"), np.load(place / "exact.npy")
    tried: list[dict[str, Any]] = []
    for effort in efforts:
        started = time.process_time()
        found = np.concatenate([search(question[None], K, effort) for question in questions[:TUNING]])
        milliseconds = 1000 * (time.process_time() - started) / TUNING
        tried.append({"effort": effort, "recall@20": recall(exact, found), "cpu_milliseconds": milliseconds})
    reached = [each for each in tried if each["recall@20"] >= wanted]
    least = min(reached, key=lambda each: each["cpu_milliseconds"]) if reached else None
    chosen = least or max(tried, key=lambda each: each["recall@20"])
    report = measured(lambda asked, k: search(asked, k, chosen["effort"]), questions, exact)
    return report | {"tried": tried, "effort": chosen["effort"]}


def measured(
    search: Callable[[np.ndarray, int], np.ndarray], questions: np.ndarray, exact: np.ndarray
) -> dict[str, Any]:
    """Ask every question alone, then all in one batch; `search` takes float32[q, d] and k."""
    milliseconds, found = [], []
    used = time.process_time()
    for question in questions:
        started = time.perf_counter()
        found.append(search(question[None], K)[0])
        milliseconds.append(1000 * (time.perf_counter() - started))
    used = time.process_time() - used
    held = resident_mebibytes()
    started = time.perf_counter()
    search(questions, RETURNED)
    rate = len(questions) / (time.perf_counter() - started)
    return {
        "recall@20": recall(exact, found),
        "milliseconds": milliseconds,
        "cpu_milliseconds": 1000 * used / len(questions),
        "resident_mib": held,
        "questions_per_second": rate,
    }


def recall(exact: np.ndarray, found: Any) -> float:  # noqa: ANN401
    """The share of the true first 20 that is among the first 20 found."""
    return float(np.mean([len({*a[:K].tolist()} & {*b[:K].tolist()}) / K for a, b in zip(exact, found, strict=False)]))


def resident_mebibytes() -> float:
    """What this process holds in memory now, without the pages of files (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status has no RssAnon")


if __name__ == "__main__":
    main()
