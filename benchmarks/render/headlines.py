"""What the main README and docs/measured.md say of the results: accuracy, ratios, and where a peer is ahead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import cold_start, end_to_end, quality, reader, results
from benchmarks.data import REPOSITORY
from benchmarks.render import markdown, tables, training
from benchmarks.results import Parts

README = REPOSITORY / "README.md"
MEASURED = REPOSITORY / "docs" / "measured.md"
IN_README = ("accuracy", "reader", "end-to-end")
"""Blocks of the README; the others are on the page of the documentation."""
SETS = ("nq-gold", "squad", "xquad-en")
SEARCHED = ("dense", "hybrid")
PAPERS_ROWS = {"bm25": "BM25", "dense": "dense", "hybrid": "**BM25 + λ·dense**"}
PAPERS_SETS = ("NQ", "TriviaQA", "WQ", "TREC", "SQuAD")
PAPERS = {
    "BM25": "59.1 / 73.7, 66.9 / 76.7, 55.0 / 71.1, 70.9 / 84.1, 68.8 / 80.0",
    "DPR, trained on each set": "78.4 / 85.4, 79.4 / 85.0, 73.2 / 81.4, 79.8 / 89.1, 63.2 / 77.2",
    "BM25 + DPR": "76.6 / 83.8, 79.8 / 84.5, 71.0 / 80.5, 85.2 / 92.7, 71.5 / 81.3",
}
"""Karpukhin et al. 2020, table 2: test sets over 21,015,324 passages, an answer in the passage is a hit."""


def page_of(mark: str) -> Path:
    """The page that has a block."""
    return README if mark in IN_README else MEASURED


def blocks() -> dict[str, str]:
    """Each block of the two pages for which there are results, by its mark."""
    read = {case: results.read(case) for case in tables.TABLES}
    found = {
        "accuracy": accuracy(read["quality"]),
        "reader": reranked(read["reader"]),
        "paper": papers_form(read["quality"]),
        "end-to-end": used(read["end-to-end"]),
        "training": gained(read["train"]),
        "ratios": ratios(read),
        "behind": behind(read),
    }
    return {mark: text for mark, text in found.items() if text}


def accuracy(parts: Parts) -> str:
    """Accuracy on the first sets, with bm25s and the fp32 weights."""
    chosen = markdown.in_order(parts, SETS)
    rows = [
        [label, *(markdown.means(part["accuracy"][row]) for part in chosen.values())]
        for row, label in tables.ROWS.items()
    ]
    return markdown.table(["", *_titles(chosen)], rows) if chosen else ""


def reranked(parts: Parts) -> str:
    """What the reader gains, what it costs, and how many questions it answers."""
    sets = markdown.in_order(parts, [name for name, _ in reader.SETS + quality.LARGE_SETS])
    rows = [
        [label, *(f"{markdown.means(part['accuracy'][row][:2])}" for part in sets.values())]
        for row, label in (("hybrid", "hybrid"), ("hybrid+reader", "**hybrid, re-ranked**"))
    ]
    said = [markdown.table(["top-1 / top-5, %", *_titles(sets)], rows)] if rows and sets else []
    if "speed" in parts:
        part = parts["speed"]
        ours, theirs = (part["milliseconds"][name] for name in (reader.OURS, reader.TEACHER))
        said.append(
            f"Re-scoring 10 and 30 passages of 100 words takes {ours['10'][0]:.0f} and {ours['30'][0]:.0f} ms, a "
            f"cross-encoder of 12 layers in sentence-transformers {theirs['10'][0]:.0f} and {theirs['30'][0]:.0f} ms."
        )
    if "answers" in parts:
        part = parts["answers"]
        values = {(row["name"], row["k"]): row["exact_match"][0] for row in part["rows"]}
        said.append(
            f"The best answer is exactly right for {values['gold', 0]:.0f} % of {part['questions']} questions of squad "
            f"when the labelled passage is given, and for {values['hybrid+reader', 20]:.0f} % when 20 hits are read."
        )
    return "\n\n".join(said)


def papers_form(parts: Parts) -> str:
    """Our rows in the form of the paper's table 2, then the paper's own."""
    parts = tables.quality_parts(parts)
    ours = [
        [label, *(markdown.means(part["accuracy"][row][2:]) for part in parts.values())]
        for row, label in PAPERS_ROWS.items()
    ]
    theirs = [[name, *values.split(", ")] for name, values in PAPERS.items()]
    said = [
        "Top-20 / top-100 accuracy in %, hits by label, untrained default encoder:",
        markdown.table(["ours", *_titles(parts)], ours),
        "The paper's own figures for its test sets over 21,015,324 passages, hits by answer. These are other sets and "
        "corpora: compare the order of the rows, not the numbers.",
        markdown.table(["the paper's", *PAPERS_SETS], theirs),
    ]
    return "\n\n".join(said) if parts else ""


def _titles(parts: Parts) -> list[str]:
    return [f"{name} ({part['passages']:,} passages, {part['questions']:,} questions)" for name, part in parts.items()]


def used(parts: Parts) -> str:
    """The short table of what a user would otherwise pick."""
    if not parts:
        return ""
    part = parts["all"]
    rows = [
        [
            label,
            markdown.megabytes(found["installed"]),
            f"{found['first']:.1f} s",
            f"{part['passages'] / found['ingest']['seconds']:,.0f}",
            f"{found['milliseconds'][0]:.1f} ms",
            markdown.means(found["accuracy"]),
        ]
        for name, label in end_to_end.CONTENDERS.items()
        if (found := part["contenders"][name])
    ]
    header = ["", "installed (+ weights)", "first answer, cold", "passages/s in", "search p50", "top-1 / 5 / 20, %"]
    return (
        f"{part['passages']:,} passages, {part['questions']} questions, the same MiniLM weights, each with its "
        f"defaults (commit {markdown.source(part['origin'])}):\n\n{markdown.table(header, rows)}"
    )


def gained(parts: Parts) -> str:
    """What fine-tuning has gained, a paragraph a set."""
    return "\n\n".join(_gained(part) for name, part in parts.items() if name.startswith("fine-tune"))


def _gained(part: dict[str, Any]) -> str:
    def at(row: str) -> str:
        return markdown.means(part["accuracy"][row][:2])

    rose = " and ".join(f"from {at(f'{mode}, default')} to {at(f'{mode}, fine-tuned')} % ({mode})" for mode in SEARCHED)
    calibrated = f"{at('hybrid, fine-tuned, calibrated')} % with λ calibrated on train questions without their labels"
    return (
        f"On {training.fine_tuned(part)}. Top-1 / top-5 accuracy rose {rose}, or {calibrated}. BM25 has {at('bm25')} %."
    )


def ratios(read: dict[str, Parts]) -> str:
    """Ratios to sentence-transformers on the same weights."""
    rows: list[list[str]] = []
    parts: list[dict[str, Any]] = []

    def row(what: str, values: list[float], part: dict[str, Any]) -> None:
        rows.append([what, markdown.spread(values, 1 if values[1] >= 1 else 2)])
        parts.append(part)

    if part := read["encode"].get("speed"):
        found = part["ratios"]["int8 / sentence-transformers"]
        row("100-word passages per second, default threads", found["passages/s"], part)
        row("time for one question, p50, default threads", found["question p50"], part)
    if part := read["cold-start"].get("processes"):
        found = part["ratios"][f"{cold_start.OURS} / {cold_start.PEER}"]
        row("time from a cold start to the first embedded question", found, part)
    if part := read["train"].get("speed"):
        for name, precision in (("dpr_lance", "bf16 by default"), ("dpr_lance fp32", "fp32")):
            what = f"training pairs per CPU second, batches of {part['batch']}, {precision}"
            row(what, part["ratios"][name][1], part)
    if not rows:
        return ""
    table = markdown.table(["", "ratio (median; min to max)"], rows)
    legend = " `*`: with uncommitted changes." if any(part["origin"]["dirty"] for part in parts) else ""
    return f"{table}\n\n{markdown.where(parts)}{legend}"


def behind(read: dict[str, Parts]) -> str:
    """Where a peer is ahead, what grows with the table, and what int8 costs."""
    lines = []
    if memory := read["ingest"].get("memory"):
        sides = [
            f"{side['peak_mib']:.0f} MiB at {side['passages']:,} passages"
            for side in (memory["small"], memory["large"])
        ]
        bounded = "bounded as the command line bounds it"
        lines.append(f"Peak memory of a process that adds, {bounded}, grows with the table: {', '.join(sides)}.")
    if used_by := read["end-to-end"].get("all"):
        bm25s = end_to_end.CONTENDERS["bm25s"]
        ahead = [f"{label} ({', '.join(each)})" for label, each in tables.ahead(used_by).items() if label != bm25s]
        lines.append(
            f"End to end, as ratio of ours: {'; '.join(ahead) or 'no peer with vectors is ahead'}; bm25s, which has "
            "only BM25, in everything but accuracy."
        )
    slower = [line for part in markdown.by_size(read["ann"]) if (line := _slower(part))]
    if slower:
        lines.append(f"Dense search, against FAISS with its vectors in memory: {'; '.join(slower)}.")
    losses = {
        name: part["accuracy"]["fp32"][2][0] - part["accuracy"]["dense"][2][0]
        for name, part in read["quality"].items()
        if "fp32" in part["accuracy"]
    }
    if losses and (worst := max(losses, key=lambda name: losses[name])) and losses[worst] > 0:
        lines.append(f"int8 weights cost up to {losses[worst]:.1f} points of top-20 accuracy ({worst}).")
    return "\n".join(f"- {line}" for line in lines)


def _slower(part: dict[str, Any]) -> str:
    """How a question alone, and a batch, compare with FAISS; "" where nothing of FAISS is there."""
    ours, peer = part["contenders"].get("dpr_lance"), part["contenders"].get("faiss-ivfpq")
    if not ours or not peer:
        return ""
    alone = ours["milliseconds"][0] / peer["milliseconds"][0]
    batch = ours["questions_per_second"] / peer["questions_per_second"]
    return (
        f"at {part['vectors']:,} vectors {alone:.0f} times as long for a question, {batch:.2g} of its rate in a batch"
    )


def put_in_pages() -> None:
    """Regenerate the blocks of both pages."""
    for mark, text in blocks().items():
        markdown.put_between_marks(mark, text, page_of(mark))
