"""The results table in the paper's form (table 2): top-20 and top-100 of BM25, dense and both, for the sets at hand."""

from __future__ import annotations

from typing import Any

from benchmarks import quality, results
from benchmarks.accuracy import hits_within

ROWS = {"bm25": "BM25", "dense": "dense", "hybrid": "**BM25 + λ·dense**"}
KS = (20, 100)
SETS = ("NQ", "TriviaQA", "WQ", "TREC", "SQuAD")
THEIRS = {
    "BM25": "59.1 / 73.7, 66.9 / 76.7, 55.0 / 71.1, 70.9 / 84.1, 68.8 / 80.0",
    "DPR, trained on each set": "78.4 / 85.4, 79.4 / 85.0, 73.2 / 81.4, 79.8 / 89.1, 63.2 / 77.2",
    "BM25 + DPR": "76.6 / 83.8, 79.8 / 84.5, 71.0 / 80.5, 85.2 / 92.7, 71.5 / 81.3",
}
"""Karpukhin et al. 2020, table 2: test sets over 21,015,324 passages, an answer in the passage is a hit."""


def table(records: list[dict[str, Any]]) -> str:
    """Our rows from the raw results of the case `quality`, then the paper's own."""
    records = quality.in_order(records)
    names = [
        f"{record['set']} ({record['passages']:,} passages, {record['questions']:,} questions)" for record in records
    ]
    ours = [
        [name, *(" / ".join(f"{hits_within(record['ranks'][row], k).mean():.1f}" for k in KS) for record in records)]
        for row, name in ROWS.items()
    ]
    theirs = [[name, *values.split(", ")] for name, values in THEIRS.items()]
    return "\n\n".join(
        [
            "Top-20 / top-100 accuracy in %, hits by label, untrained default encoder:",
            results.table(["ours", *names], ours),
            "The paper's own figures for its test sets over 21,015,324 passages, hits by answer. These are other sets "
            "and corpora: compare the order of the rows, not the numbers.",
            results.table(["the paper's", *SETS], theirs),
        ]
    )
