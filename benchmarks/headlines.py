"""What the main README and the documentation say of the measurements: accuracy, ratios, and where a peer is ahead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import cold_start, encode, end_to_end, ingest, paper, quality, results, scale, train
from benchmarks.accuracy import Spread, hits_within
from benchmarks.data import REPOSITORY

README = REPOSITORY / "README.md"
MEASURED = REPOSITORY / "docs" / "measured.md"
"""The page of the documentation; the README has the first two blocks, this page the others."""
IN_README = ("accuracy", "end-to-end")
SETS = ("nq-gold", "squad", "xquad-en")
ROWS = {
    "bm25": "BM25",
    "bm25s": "BM25, bm25s",
    "dense": "dense, int8",
    "fp32": "dense, fp32",
    "hybrid": "**hybrid**",
}
Read = Callable[[str], list[dict[str, Any]]]
"""Gives the raw results of a case."""


def put_in_readme(read: Read) -> None:
    """Regenerate what the main README and the documentation have of the results that there are."""
    for mark, text in blocks(read).items():
        results.put_in_readme(mark, text, readme=page_of(mark))


def page_of(mark: str) -> Path:
    """The page that has a block."""
    return README if mark in IN_README else MEASURED


def blocks(read: Read) -> dict[str, str]:
    """Each block of the two pages for which there are results, by its mark."""
    measured, used = read("quality"), read("end-to-end")
    found = {
        "accuracy": accuracy(measured),
        "paper": paper.table(measured) if measured else "",
        "end-to-end": end_to_end.summary(used) if used else "",
        "training": train.summary(read("train")),
        "ratios": ratios(read),
        "behind": behind(read),
    }
    return {mark: text for mark, text in found.items() if text}


def accuracy(records: list[dict[str, Any]]) -> str:
    """Top-1/5/20/100 of the first sets, beside bm25s and the fp32 weights."""
    chosen = [record for record in quality.in_order(records) if record["set"] in SETS]
    header = [f"{each['set']} ({each['passages']:,} passages, {each['questions']:,} questions)" for each in chosen]
    rows = [
        [
            label,
            *(" / ".join(f"{record['summary'][row][f'top{k}']['mean']:.1f}" for k in quality.K) for record in chosen),
        ]
        for row, label in ROWS.items()
    ]
    return results.table(["", *header], rows) if chosen else ""


def ratios(read: Read) -> str:
    """Ratios to sentence-transformers on the same weights."""
    parts = {(case, record["part"]): record for case in ("encode", "cold-start", "train") for record in read(case)}
    rows = []
    if ("encode", "speed") in parts:
        speeds = encode.ratios(parts["encode", "speed"])
        rows += [
            ["100-word passages per second, default threads", _spread(speeds[encode.FASTER_THAN_PEER])],
            ["time for one question, p50, default threads", _spread(speeds[encode.QUESTION])],
        ]
    if ("cold-start", "processes") in parts:
        started = cold_start.ratios(parts["cold-start", "processes"])[f"{cold_start.OURS} / {cold_start.PEER}"]
        what = "time from a cold start to the first embedded question, beside sentence-transformers + lancedb"
        rows.append([what, _spread(started)])
    if ("train", "speed") in parts:
        seconds = parts["train", "speed"]["cpu_seconds"]
        peer = seconds["sentence-transformers"]
        for name, precision in (("dpr_lance", "bf16 by default"), ("dpr_lance fp32", "fp32")):
            pairs = zip(peer, seconds[name], strict=True)
            what = f"training pairs per CPU second, batches of {parts['train', 'speed']['batch']}, {precision}"
            rows.append([what, _spread(Spread.of([theirs / ours for theirs, ours in pairs]))])
    return results.table(["", "ratio (median; min to max)"], rows) if rows else ""


def behind(read: Read) -> str:
    """Aims that are missed, peers that are ahead, and what int8 costs."""
    lines = []
    for record in read("ingest"):
        if record["part"] == "memory" and not ingest.met("memory", ingest.headline("memory", record)):
            sides = [f"{side['peak_mib']:.0f} MiB at {side['passages']:,} passages" for side in _sides(record)]
            lines.append(f"Peak memory while adding grows with the table: {', '.join(sides)}.")
    for record in read("end-to-end"):
        ahead = [
            f"{label} ({', '.join(points)})"
            for label, points in end_to_end.ahead(record).items()
            if label != end_to_end.CONTENDERS["bm25s"]
        ]
        lines.append(
            f"End to end, as ratio of ours: {'; '.join(ahead) or 'no peer with vectors is ahead'}; bm25s, which has "
            "only BM25, in everything but accuracy."
        )
    compared = []
    for record in sorted(read("scale"), key=lambda each: int(each["passages"])):
        found = scale.rates(record)
        if found["dense"] < found["FAISS HNSW"]:
            compared.append(f"{found['dense'] / found['FAISS HNSW']:.2g} at {record['passages']:,} vectors")
    if compared:
        lines.append(
            f"Batches that ask for {scale.RETURNED} hits, against the rate of FAISS HNSW in memory: "
            f"{', '.join(compared)}."
        )
    losses = {record["set"]: _loss(record) for record in read("quality") if "fp32" in record["ranks"]}
    if losses and (worst := max(losses, key=lambda name: losses[name])) and losses[worst] > 0:
        lines.append(f"int8 weights cost up to {losses[worst]:.1f} points of top-20 accuracy ({worst}).")
    return "\n\n".join(["Where it is behind:", "\n".join(f"- {line}" for line in lines)]) if lines else ""


def _sides(record: dict[str, Any]) -> list[dict[str, Any]]:
    return [record["small"], record["large"]]


def _loss(record: dict[str, Any]) -> float:
    """Points of top-20 accuracy by which int8 is below fp32."""
    fp32, int8 = (float(np.mean(hits_within(record["ranks"][row], 20))) for row in ("fp32", "dense"))
    return fp32 - int8


def _spread(spread: Spread) -> str:
    digits = 1 if spread.median >= 1 else 2
    return f"{spread.median:.{digits}f} ({spread.minimum:.{digits}f} to {spread.maximum:.{digits}f})"
