"""Case `quality`: top-k accuracy of bm25, dense and hybrid on labelled questions, beside bm25s and the fp32 weights.

A gold passage is a hit. Passages are added whole (`splitter=None`). The references rank the same passages: bm25s with
Lucene's formula, and exact search over vectors of the same MiniLM weights in fp32 by sentence-transformers.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data, machine, references, results
from benchmarks.accuracy import SEED, Floats, Interval, bootstrap, first_rank, hits_within, mean_of_sets

SETS = (("nq-gold", "dev"), ("squad", "dev"), ("xquad-en", "test"))
MORE_SETS = (("cranfield", "test"), ("reqa-bioasq", "dev"), ("medquad", "dev"))
LARGE_SETS = (("nq-gold+wiki-ottqa", "dev"), ("wiki-ottqa+nq-gold", "dev"))
"""Questions of the first set over the passages of both. Not in `--all`, and without the fp32 reference, which 171,348
passages take hours; the table is that of the case `search`."""
FUSED_SETS = ("nq-gold+wiki-ottqa", "squad", "reqa-bioasq", "medquad")
"""Sets whose mean tells what hybrid search gains over the better leg; both legs are all but perfect on the others, or
the questions few."""
K = (1, 5, 20, 100)
TOLERANCE = 0.5
"""Points of top-k accuracy by which our legs may differ from their references."""
ROWS = {
    "bm25": "BM25, dpr_lance",
    "bm25s": "BM25, bm25s",
    "bm25s_same_tokens": "BM25, bm25s on LanceDB's tokens",
    "dense": "dense int8, dpr_lance",
    "fp32": "dense fp32, sentence-transformers",
    "hybrid": "hybrid, dpr_lance",
}

PLOT = "quality.png"

Ranks = dict[str, list[int]]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this case."""
    names = [name for name, _ in SETS + MORE_SETS + LARGE_SETS]
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"of {', '.join(names)} (default: the first three)")
    parser.add_argument("--passages", type=int, metavar="N", help="only the gold passages and as many others as make N")
    parser.add_argument(
        "--all", action="store_true", help="all sets: about an hour on 2 cores, mostly the fp32 reference"
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the chosen sets; one raw file a set. Returns which bars are met."""
    every = SETS + MORE_SETS + LARGE_SETS
    chosen = [pair for pair in every if pair[0] in options.sets]
    if unknown := set(options.sets) - {name for name, _ in every}:
        raise SystemExit(f"unknown set {min(unknown)!r}; known: {', '.join(name for name, _ in every)}")
    verdicts = {}
    for name, split in chosen or (SETS + MORE_SETS if options.all else SETS):
        questions = data.read(name, split)
        whole = len(questions.passages)
        if options.passages:
            questions = questions.smaller(options.passages)
        print(f"quality: {questions.label}, {len(questions.passages)} passages", file=sys.stderr)
        # The table outlives a run that is cut short, and is removed when the set is measured; a large one is kept.
        large = (name, split) in LARGE_SETS
        table = references.CACHE / f"quality-{name}-{split}-{len(questions.passages)}-{machine.commit()}"
        table = references.CACHE / "search" / str(len(questions.passages)) if large else table
        ours, details = our_ranks(questions, table)
        ranks = ours | reference_ranks(questions, fp32=not large)
        bars = compare(ranks)
        verdicts[questions.label] = bars
        summary = {row: {f"top{k}": asdict(bootstrap(hits_within(ranks[row], k))) for k in K} for row in ranks}
        values = {"set": name, "split": split, "seed": SEED, "passages": len(questions.passages), "of": whole}
        values |= {"questions": len(questions.questions), "details": details, "bars": bars, "summary": summary}
        results.write("quality", name, values | {"ranks": ranks})
        if not large:
            shutil.rmtree(table)
    return verdicts


def our_ranks(
    questions: data.QuestionSet, folder: Path, *, k: int = max(K), hybrid_step: int = 1
) -> tuple[Ranks, dict[str, Any]]:
    """Rank of the first gold passage of every question in the three modes, through a real table; and the timings.

    The table is made in `folder`, or goes on from what is there. With `hybrid_step` the slowest mode is asked only
    every so many questions.
    """
    import dpr_lance

    ranks: Ranks = {}
    with dpr_lance.connect(folder) as retriever:
        report = retriever.add(
            ({"id": p.id, "title": p.title, "text": p.text} for p in questions.passages), splitter=None
        )
        if len(retriever) != len(questions.passages):
            raise RuntimeError(f"{questions.label}: {len(questions.passages)} passages added, {len(retriever)} stored")
        details: dict[str, Any] = {}
        if not report.documents_unchanged:
            details |= {"truncated_passages": report.truncated_passages, "add_seconds": report.seconds}
        for mode in ("bm25", "dense", "hybrid"):
            asked = questions.questions[:: hybrid_step if mode == "hybrid" else 1]
            start = time.perf_counter()
            found = retriever.search([question.text for question in asked], k, mode=mode)
            details[f"{mode}_questions_per_second"] = len(asked) / (time.perf_counter() - start)
            if wrong := [hits for hits in found if hits.mode != mode]:
                raise RuntimeError(f"{questions.label}: {wrong[0].question!r} answered by {wrong[0].mode}, not {mode}")
            ranks[mode] = [
                first_rank([hit.document_id for hit in hits], question.gold)
                for hits, question in zip(found, asked, strict=True)
            ]
            details["hybrid_weight"] = found[0].hybrid_weight
        details["indexes"] = [index.kind for index in retriever.info().indexes]
    return ranks, details


def reference_ranks(questions: data.QuestionSet, *, k: int = max(K), fp32: bool = True) -> Ranks:
    """The same from bm25s and, with `fp32`, from exact search over fp32 vectors."""
    gold = questions.gold_rows
    ranks: Ranks = {}
    for row, same_tokens in (("bm25s", False), ("bm25s_same_tokens", True)):
        found, scores = references.bm25_ranking(questions, k, tokens_of_lancedb=same_tokens)
        matching = [ranking[score > 0].tolist() for ranking, score in zip(found, scores, strict=True)]
        ranks[row] = [first_rank(ranking, wanted) for ranking, wanted in zip(matching, gold, strict=True)]
    if not fp32:
        return ranks
    passages, asked = references.fp32_vectors(questions)
    ranks["fp32"] = []
    for start in range(0, len(asked), 256):
        similarity = asked[start : start + 256] @ passages.T
        order = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
        ranks["fp32"] += [first_rank(ranking, gold[start + at]) for at, ranking in enumerate(order.tolist())]
    return ranks


def compare(ranks: Ranks) -> dict[str, Any]:
    """The bars with what was measured: differences in points at each k, and whether each bar is met."""
    accuracy = {row: {k: float(hits_within(found, k).mean()) for k in K} for row, found in ranks.items()}
    better = max(accuracy["bm25"][20], accuracy["dense"][20])
    bars: dict[str, Any] = {
        "hybrid_minus_better_leg_top20": accuracy["hybrid"][20] - better,
        "hybrid_met": accuracy["hybrid"][20] >= better,
    }
    for ours, reference in (("bm25", "bm25s"), ("dense", "fp32")):
        if reference in ranks:
            differences = {f"top{k}": accuracy[ours][k] - accuracy[reference][k] for k in K}
            bars[f"{ours}_minus_{reference}"] = differences
            bars[f"{ours}_met"] = min(differences.values()) >= -TOLERANCE
    return bars


def tables(records: list[dict[str, Any]]) -> str:
    """The section of the README."""
    parts = []
    records = in_order(records)
    for record in records:
        bars = record["bars"]
        part = f" of {record['of']:,}" if record["of"] > record["passages"] else ""
        passages = f"{record['passages']:,}{part} passages"
        title = f"**{record['set']} {record['split']}**: {passages}, {record['questions']:,} questions"
        rows = [
            [name] + ["{mean:.1f} ({low:.1f}–{high:.1f})".format(**record["summary"][row][f"top{k}"]) for k in K]
            for row, name in ROWS.items()
            if row in record["summary"]
        ]
        fp32 = f"dense int8 − fp32 {_points(bars['dense_minus_fp32'])}; " if "dense_minus_fp32" in bars else ""
        verdict = (
            f"BM25 − bm25s {_points(bars['bm25_minus_bm25s'])}; {fp32}"
            f"hybrid (λ = {record['details']['hybrid_weight']:g}) − better leg at top-20 "
            f"{_interval(_gains(record))} points."
        )
        parts += [title, results.table(["", *(f"top-{k}" for k in K)], rows), verdict]
    said = "per cent of questions with a labelled passage among the first k, 95 % bootstrap interval over questions"
    measured = f"Accuracy: {said}. Measured on {machine.sentence(records[-1]['machine'])}."
    fused = [_gains(record) for record in records if record["set"] in FUSED_SETS]
    if len(fused) == len(FUSED_SETS):
        mean = mean_of_sets(fused)
        parts.append(f"Hybrid − better leg at top-20, mean of {', '.join(FUSED_SETS)}: {_interval(mean)} points.")
    return "\n\n".join([measured, *parts, f"![accuracy over k](plots/{PLOT})"])


def in_order(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records in the order of the sets."""
    order = [name for name, _ in SETS + MORE_SETS + LARGE_SETS]
    return sorted(records, key=lambda record: order.index(record["set"]))


def plot(records: list[dict[str, Any]]) -> None:
    """Draw accuracy over k, a panel a set."""
    from matplotlib.figure import Figure

    columns = 3
    lines = -(-len(records) // columns)
    figure = Figure(figsize=(10, 2.8 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).flatten()
    for axes in panels[len(records) :]:
        axes.set_visible(False)
    for axes, record in zip(panels, in_order(records), strict=False):
        for row, style in (("bm25", "C0-"), ("bm25s", "C0:"), ("dense", "C1-"), ("fp32", "C1:"), ("hybrid", "C2-")):
            if row not in record["ranks"]:
                continue
            depth = range(1, max(K) + 1)
            axes.plot(depth, [hits_within(record["ranks"][row], k).mean() for k in depth], style, label=ROWS[row])
        axes.set(xscale="log", title=f"{record['set']} {record['split']}", xlabel="k", ylabel="accuracy, %")
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize="x-small")
    results.write_plot(figure, PLOT)


def _gains(record: dict[str, Any]) -> Floats:
    """100 where only hybrid has a gold passage among its first 20, -100 where only the better leg has, else 0."""
    hits = {row: hits_within(record["ranks"][row], 20) for row in ("bm25", "dense", "hybrid")}
    gains: Floats = hits["hybrid"] - max(hits["bm25"], hits["dense"], key=np.mean)
    return gains


def _interval(values: Floats | Interval) -> str:
    found = values if isinstance(values, Interval) else bootstrap(values)
    return f"{found.mean:+.2f} ({found.low:+.2f} to {found.high:+.2f})"


def _points(differences: dict[str, float]) -> str:
    return "/".join(f"{difference:+.2f}" for difference in differences.values())
