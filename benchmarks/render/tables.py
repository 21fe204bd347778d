"""The tables of benchmarks/README.md, from the results and from nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks import (
    ann,
    calibration,
    contenders,
    end_to_end,
    ingest,
    quality,
    reader,
    results,
    search,
    synthetic_vectors,
)
from benchmarks.data import REPOSITORY
from benchmarks.render import training
from benchmarks.render.markdown import (
    by_size,
    in_order,
    means,
    megabytes,
    points,
    rounded,
    source,
    spread,
    table,
    where,
)
from benchmarks.results import Parts
from dpr_lance.evaluation.answers import GOLD

PAGE = REPOSITORY / "benchmarks" / "README.md"
ROWS = {
    "bm25": "BM25",
    "bm25s": "BM25, bm25s",
    "dense": "dense int8",
    "fp32": "dense fp32, sentence-transformers",
    "hybrid": "**hybrid**",
}
ANN_NAMES = {
    "dpr_lance": "dpr_lance",
    "dpr_lance, vectors in memory": "dpr_lance, vectors in memory",
    "faiss-ivfpq": "FAISS IVF-PQ, refined",
    "faiss-ivfsq": "FAISS IVF-SQ, refined",
    "faiss-hnsw": "FAISS HNSW",
    "hnswlib": "hnswlib",
    "lancedb": "LanceDB's defaults, tuned",
}
SEARCH_ROWS = {
    "encode": "encoding alone",
    "raw dense": "LanceDB, vectors, 100 hits",
    "raw bm25": "LanceDB, full text, 100 hits",
    "dense": "`dense`",
    "bm25": "`bm25`",
    "hybrid": "`hybrid`",
    "bm25s": "bm25s",
}
PAPERS_RATES = "FAISS 995, Lucene 23.7 a thread"
"""Questions a second that the paper reports at 21 million passages on its machine."""


def quality_parts(parts: Parts) -> Parts:
    """The sets in their order."""
    return in_order(parts, [name for name, _ in quality.SETS + quality.MORE_SETS + quality.LARGE_SETS])


def _quality(parts: Parts) -> list[str]:
    parts = quality_parts(parts)
    rows = [
        [
            f"{name} {part['split']}: {part['questions']:,} questions, {part['passages']:,} passages",
            *(means(part["accuracy"][row]) if row in part["accuracy"] else "" for row in ROWS),
            points(part["gain"]),
            source(part["origin"]),
        ]
        for name, part in parts.items()
    ]
    header = ["top-1 / 5 / 20 / 100, %", *ROWS.values(), "hybrid − better leg, top-20", "commit"]
    return [table(header, rows), where(parts.values())]


def _calibration(parts: Parts) -> list[str]:
    sets = calibration.SETS + calibration.MORE_SETS + calibration.LARGE_SETS
    parts = in_order(parts, [name for name, _ in sets])
    rows = []
    for name, part in parts.items():
        for start in dict.fromkeys(row["start"] for row in part["rows"]):
            ways = {row["way"]: row for row in part["rows"] if row["start"] == start}
            cells = [f"{row['weight']:.3g}: {points(row['top1'])}, {row['top20'][0]:+.1f}" for row in ways.values()]
            rows.append([f"{name}, {ways['none']['questions']:,} questions", f"{start:g}", *cells])
    header = ["judged on", "λ before", "labelled questions", "questions alone", "no questions"]
    return [table(header, rows), where(parts.values())]


def _reader(parts: Parts) -> list[str]:
    said = []
    sets = in_order(parts, [name for name, _ in reader.SETS + quality.LARGE_SETS])
    if sets:
        rows = [
            [
                f"{name} {part['split']}: {part['questions']:,} questions, {part['passages']:,} passages",
                *(f"{means(part['accuracy'][row])}; {part['ndcg@10'][row][0]:.1f}" for row in reader.ROWS),
                *(points(part["summary"][f"top{k}"]) for k in (1, 5)),
                source(part["origin"]),
            ]
            for name, part in sets.items()
        ]
        header = ["top-1 / 5 / 20, %; nDCG@10", *reader.ROWS, "gain in top-1", "in top-5", "commit"]
        said.append(table(header, rows))
    if "speed" in parts:
        part = parts["speed"]
        rows = [
            [name, *("{:.0f} / {:.0f}".format(*of[str(count)]) for count in reader.COUNTS)]
            for name, of in part["milliseconds"].items()
        ]
        rows.append(["ratio", *(spread(part["summary"][str(count)]) for count in reader.COUNTS)])
        header = ["ms a question, p50 / p99", *(f"{count} passages of 100 words" for count in reader.COUNTS)]
        said.append(table(header, rows))
    if "answers" in parts:
        part = parts["answers"]
        cells = {(row["name"], row["k"]): f"{row['exact_match'][0]:.1f} / {row['f1'][0]:.1f}" for row in part["rows"]}
        ks = sorted({k for _, k in cells if k})
        rows = [[name, *(cells[name, k] for k in ks)] for name in dict.fromkeys(name for name, k in cells if k)]
        said.append(
            table([f"squad dev, {part['questions']} questions: exact match / F1, %", *(f"k = {k}" for k in ks)], rows)
        )
        low, high = next(row["exact_match"][1:] for row in part["rows"] if row["name"] == GOLD)
        said.append(f"Given the labelled passage: {cells[GOLD, 0]} (exact match {low:.1f} to {high:.1f}).")
    return [*said, where(parts.values())]


def _encode(parts: Parts) -> list[str]:
    said = []
    speeds = in_order(parts, ("speed", "one-thread"))
    if speeds:
        rows = [
            [
                name,
                *(spread(part["passages_per_second"][name], 0) for part in speeds.values()),
                *(
                    " / ".join(f"{value:.1f}" for value in part["question_milliseconds"][name])
                    for part in speeds.values()
                ),
            ]
            for name in contenders.NAMES
        ]
        kinds = [{"speed": "default threads", "one-thread": "one thread"}[part] for part in speeds]
        units = [f"{unit}, {kind}" for unit in ("passages/s", "question ms, p50 / p99") for kind in kinds]
        compared = [
            [
                name,
                *(
                    spread(part["ratios"][name][what])
                    for what in ("passages/s", "question p50")
                    for part in speeds.values()
                ),
            ]
            for name in next(iter(speeds.values()))["ratios"]
        ]
        said += [table(["", *units], [*rows, *compared])]
    if "parity" in parts:
        found = [
            f"{name}: largest difference {each['max_abs_difference']:.1e}, least cosine {each['min_cosine']:.4f}, "
            f"{100 * each['top20_overlap']:.1f} % of the same top-20"
            for name, each in parts["parity"]["encoders"].items()
        ]
        counts = f"{parts['parity']['passages']} passages and {parts['parity']['questions']} questions"
        said.append(f"Vectors against sentence-transformers in fp32, {counts}. {'; '.join(found)}.")
    if "dpr-pair" in parts:
        pair = parts["dpr-pair"]
        costs = "; ".join(
            f"{precision} {cost['cpu_seconds']:.0f} CPU-s, {cost['peak_mib']:,.0f} MiB, {cost['bundle_mb']:.0f} MB, "
            f"least cosine {cost['min_cosine']:.4f}"
            for precision, cost in pair["exports"].items()
        )
        said.append(
            f"A random DPR pair of BERT-base size: largest difference to transformers {pair['max_abs_difference']:.1e} "
            f"with values up to {pair['max_abs_value']:.1f}. Its export: {costs}."
        )
    return [*said, where(parts.values())]


def _cold_start(parts: Parts) -> list[str]:
    found = parts["processes"]
    rows = [
        [name, spread(each["wall"]), f"{each['cpu']:.2f}", f"{each['peak_mib']:.0f}"]
        for name, each in found["processes"].items()
    ]
    compared = "; ".join(f"{name}: {spread(values)}" for name, values in found["ratios"].items())
    return [table(["process", "seconds", "CPU-s", "peak MiB"], rows), f"Ratios of seconds. {compared}.", where([found])]


def _ingest(parts: Parts) -> list[str]:
    lines: dict[str, Callable[[dict[str, Any]], list[str]]] = {
        "memory": lambda part: [
            "peak memory of a process that adds all documents",
            *(f"{part[side]['peak_mib']:.0f} MiB at {part[side]['passages']:,}" for side in ("small", "large")),
            f"{part['ratio']:.2f}",
        ],
        "cost": lambda part: [
            f"adding {ingest.ADDED:,} passages and finding one in three modes",
            *(f"{part[side]['cpu']:.2f} CPU-s at {part[side]['passages']:,}" for side in ("small", "large")),
            f"{part['ratio']:.2f}",
        ],
        "disk": lambda part: [
            f"disk after {part['updates']} updates in {part['passages']:,} passages, no old versions kept",
            f"{part['fresh'] / 1e6:.1f} MB made at once",
            f"{part['updated'] / 1e6:.1f} MB updated"
            + (f" ({part['versions_kept'] / 1e6:.1f} while versions are kept)" if "versions_kept" in part else ""),
            f"{part['ratio']:.2f}",
        ],
        "encoder": lambda part: [
            "passages/s of `add` with the default encoder, and of the encoder alone",
            spread(part["passages_per_second"]["encoder"], 0) + " alone",
            spread(part["passages_per_second"]["add"], 0) + " added",
            spread(part["ratios"]),
        ],
    }
    rows = [[*lines[name](part), source(part["origin"])] for name, part in in_order(parts, ingest.PARTS).items()]
    return [table(["what", "", "", "ratio", "commit"], rows), where(parts.values())]


def _end_to_end(parts: Parts) -> list[str]:
    part = parts["all"]
    rows = []
    for name, label in end_to_end.CONTENDERS.items():
        found = part["contenders"][name]
        ingested, installed = found["ingest"], found["installed"]
        rows.append(
            [
                label,
                f"{megabytes(installed)}, {installed['packages']} packages",
                f"{found['first']:.2f}",
                f"{part['passages'] / ingested['seconds']:,.0f} / {part['passages'] / ingested['cpu_seconds']:,.0f}",
                " / ".join(f"{value:.1f}" for value in found["milliseconds"]),
                f"{ingested['bytes'] / 1e6:.1f}",
                f"{ingested['peak_mib']:,.0f} / {found['search_peak_mib']:,.0f}",
                means(found["accuracy"]),
            ]
        )
    header = [
        f"{part['passages']:,} passages, {part['questions']} questions",
        "installed (+ weights)",
        "cold first answer, s",
        "passages in per s / CPU-s",
        "search p50 / p99, ms",
        "disk, MB",
        "peak MiB, adding / searching",
        "top-1 / 5 / 20, %",
    ]
    behind = "; ".join(f"{label}: {', '.join(each)}" for label, each in ahead(part).items()) or "nowhere in this table"
    versions = ", ".join(
        version for name in part["contenders"] for version in part["contenders"][name]["installed"]["versions"]
    )
    return [
        table(header, rows),
        f"Where a peer is ahead, as ratio of ours to it: {behind}.",
        f"Peers: {versions}. {where(parts.values())}",
    ]


def ahead(part: Mapping[str, Any]) -> dict[str, list[str]]:
    """For each peer that is ahead of ours in something: in what, with the ratio of ours to it."""
    sizes = {
        name: each["installed"]["megabytes"] + each["installed"]["weights_megabytes"]
        for name, each in part["contenders"].items()
    }
    better: dict[str, list[str]] = {}
    for name, ratios in part["ratios"].items():
        found = {"install size": sizes["dpr_lance"] / sizes[name]} | {what: each[1] for what, each in ratios.items()}
        worse = {what: ratio for what, ratio in found.items() if (ratio < 1 if "ingest" in what[:6] else ratio > 1)}
        if worse:
            label = end_to_end.CONTENDERS[name]
            better[label] = [f"{what} {rounded(ratio)}" for what, ratio in worse.items()]
    return better


def _scale(parts: Parts) -> list[str]:
    rows = [
        [
            f"{part['passages']:,}",
            f"{part['add_seconds']:.0f} + {part['optimize_seconds']:.0f}",
            f"{part['bytes'] / 1e6:,.0f}",
            f"{part['peak_mib']:,.0f}",
            f"{part['recall@20']:.3f} ({part['searched']})",
            " / ".join(f"{part['milliseconds'][mode][0]:.1f}" for mode in ("dense", "bm25", "hybrid")),
            " / ".join(f"{part['milliseconds'][mode][1]:.1f}" for mode in ("dense", "bm25", "hybrid")),
            " / ".join(f"{part['questions_per_second'][mode][1]:.0f}" for mode in ("dense", "bm25")),
            f"{part['adding_cpu_seconds']:.1f}",
            source(part["origin"]),
        ]
        for part in by_size(parts)
    ]
    header = [
        "passages",
        "add + optimize, s",
        "disk, MB",
        "peak MiB",
        "recall@20 (vectors searched)",
        "p50 ms, dense / bm25 / hybrid",
        "p99 ms",
        "questions/s in batches, dense / bm25",
        "adding 1,000, CPU-s",
        "commit",
    ]
    return [
        table(header, rows),
        f"Vectors of {synthetic_vectors.DIMENSION} dimensions. The paper, with 21,015,324 passages on its machine, in "
        f"questions/s: {PAPERS_RATES}. {where(parts.values())}",
    ]


def _ann(parts: Parts) -> list[str]:
    rows = []
    for part in by_size(parts):
        for name, found in in_order(part["contenders"], ANN_NAMES).items():
            alone = found.get("without_fetch")
            rows.append(
                [
                    f"{part['vectors']:,}",
                    ANN_NAMES[name],
                    f"{found['recall@20']:.3f}",
                    "{:.2f} / {:.2f}".format(*found["milliseconds"]) + (f", ids {alone[0]:.2f}" if alone else ""),
                    f"{found['questions_per_second']:,.0f}",
                    f"{found['build_cpu']:,.0f}",
                    f"{found['bytes'] / 1e6:,.0f}",
                    f"{found['resident_mib']:,.0f}",
                ]
            )
    header = [
        "vectors",
        f"at recall@20 ≥ {ann.RECALL}",
        "recall@20",
        "ms, p50 / p99",
        "questions/s in a batch",
        "index, CPU-s",
        "disk, MB",
        "memory, MiB",
    ]
    return [table(header, rows), where(parts.values())]


def _search(parts: Parts) -> list[str]:
    parts = in_order(parts, ("held", "not-held"))
    rows = [
        [
            said,
            *(
                "{:.1f} / {:.1f} ({:.1f})".format(*part["milliseconds"][name], part["cpu_milliseconds"][name])
                for part in parts.values()
            ),
        ]
        for name, said in SEARCH_ROWS.items()
    ]
    names = next(iter(parts.values()))["ratios"]
    rows += [[name, *(f"{part['ratios'][name]:.2f}" for part in parts.values())] for name in names]
    titles = {"held": "vectors in memory", "not-held": "through the index"}
    header = ["ms, p50 / p99 (CPU, mean)", *(titles[name] for name in parts)]
    first = next(iter(parts.values()))
    said = (
        f"{first['passages']:,} passages, {first['questions']} questions, {search.K} hits; index: {first['searched']}."
    )
    return [table(header, rows), f"{said} {where(parts.values())}"]


def versions() -> str:
    """The versions that all results share, or each of those that they were measured with."""
    every = [part["origin"]["versions"] for case in TABLES for part in results.read(case).values()]
    return f"Measured with {' or '.join(dict.fromkeys(every))}." if every else ""


TABLES: dict[str, Callable[[Parts], list[str]]] = {
    "quality": _quality,
    "calibration": _calibration,
    "reader": _reader,
    "encode": _encode,
    "cold-start": _cold_start,
    "ingest": _ingest,
    "end-to-end": _end_to_end,
    "scale": _scale,
    "ann": _ann,
    "search": _search,
    "train": training.table_of,
}


def section(case: str) -> str:
    """What the page has of a case; "" where nothing has been measured."""
    parts = results.read(case)
    return "\n\n".join(TABLES[case](parts)) if parts else ""
