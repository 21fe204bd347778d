"""FAISS HNSW over vectors in memory, as the paper searched: `python -m benchmarks.peers.faiss_hnsw FOLDER`.

FOLDER has vectors.npy and questions.npy (float32[n, d]) and exact.npy (int64[q, 100], the true neighbours). It reports
seconds of building; for rising search effort recall@20 and questions a second returning 100, all threads at once; and
recall@20 and milliseconds of questions that are asked alone, returning 20.
"""

import json
import sys
import time
from pathlib import Path

import faiss
import numpy as np

from benchmarks.peers.protocol import peak_mebibytes

NEIGHBOURS = 32
EFFORTS = (100, 200, 400, 800, 1600)
"""Returning 100, less than 100 is the same as 100."""
EFFORTS_ALONE = (20, 50, *EFFORTS)
ALONE = 100
"""Questions that are asked alone."""
ROUNDS = 3


def main() -> None:
    """Build, search, report."""
    folder = Path(sys.argv[1])
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    questions, exact = np.load(folder / "questions.npy"), np.load(folder / "exact.npy")
    index = faiss.IndexHNSWFlat(vectors.shape[1], NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    started = time.perf_counter()
    index.add(np.ascontiguousarray(vectors))
    built = time.perf_counter() - started
    searched = []
    for effort in EFFORTS:
        index.hnsw.efSearch = effort
        rates = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            _, found = index.search(questions, 100)
            rates.append(len(questions) / (time.perf_counter() - started))
        searched.append({"effort": effort, "recall@20": recall(exact, found), "questions_per_second": rates})
    alone = []
    for effort in EFFORTS_ALONE:
        index.hnsw.efSearch = effort
        milliseconds = []
        for question in questions[:ALONE]:
            started = time.perf_counter()
            index.search(question[None], 20)
            milliseconds.append(1000 * (time.perf_counter() - started))
        found = index.search(questions, 20)[1]
        alone.append({"effort": effort, "recall@20": recall(exact, found), "milliseconds": milliseconds})
    report = {"build_seconds": built, "threads": faiss.omp_get_max_threads(), "searched": searched, "alone": alone}
    print(json.dumps(report | {"peak_mib": peak_mebibytes()}))


def recall(exact: np.ndarray, found: np.ndarray) -> float:
    """Return the share of the true first 20 that is among the first 20 found."""
    return float(np.mean([len({*a[:20]} & {*b[:20]}) / 20 for a, b in zip(exact, found, strict=True)]))


if __name__ == "__main__":
    main()
