"""Case `ingest`: memory, cost and disk of adding documents: what a large table costs beside a small one.

Vectors are `HashEncoder`'s with 384 dimensions, as wide as the default encoder's, except where the case is about the
encoder. Documents are the real ones of wiki-ottqa, then reqa-bioasq, split by the library.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import dpr_lance
from benchmarks import data, machine, results
from benchmarks.accuracy import Spread
from dpr_lance import HashEncoder, WordSplitter
from dpr_lance.encoders.loading import DEFAULT_ENCODER
from dpr_lance.records.hits import MODES

CORPORA = ("wiki-ottqa", "reqa-bioasq")
NEW_CORPORA = ("medquad", "squad")
"""What is added to tables that are already filled with the former."""
SMALL, LARGE = 20_000, 200_000
COST_SMALL = 10_000
ADDED = 1_000
"""Passages of one measured `add`."""
DIMENSION = 384
UPDATES = 200
UPDATED_PASSAGES = 2_000
AIMS = {"memory": 1.3, "cost": 1.5, "disk": 1.5, "encoder": 0.9}
PARTS = ("memory", "cost", "disk", "encoder")


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds that one `add` and the searches that find what it added took; `encoder` is the encoder's CPU share."""

    wall: float
    cpu: float
    encoder: float

    @property
    def own(self) -> float:
        """CPU seconds without the encoder's."""
        return self.cpu - self.encoder


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this case."""
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--passages", type=int, default=LARGE, help=f"size of the large table (default {LARGE:,})")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the chosen parts, one raw file each. Returns ratio and bar of each."""
    if unknown := set(options.parts) - set(PARTS):
        raise SystemExit(f"unknown part {min(unknown)!r}; known: {', '.join(PARTS)}")
    measures = {
        "memory": lambda: measure_memory(options.passages),
        "cost": lambda: measure_cost(options.passages),
        "disk": measure_disk,
        "encoder": measure_encoder,
    }
    verdicts = {}
    for part in options.parts or PARTS:
        print(f"ingest: {part}", file=sys.stderr)
        values = measures[part]()
        results.write("ingest", part, values)
        ratio = headline(part, values)
        verdicts[part] = {"ratio": round(ratio, 3), "aim": AIMS[part], "met": met(part, ratio)}
    return verdicts


def headline(part: str, values: dict[str, Any]) -> float:
    """Return the ratio that has a bar; that of the cost includes the encoding by `HashEncoder`."""
    ratio: float = values["ratio_cpu" if part == "cost" else "ratio"]
    return ratio


def met(part: str, ratio: float) -> bool:
    """Tell whether a ratio keeps its bar."""
    return ratio >= AIMS[part] if part == "encoder" else ratio <= AIMS[part]


def documents(names: Sequence[str] = CORPORA) -> Iterator[dict[str, Any]]:
    """Yield the documents of these corpora one by one, with ids that tell where they are from."""
    for name in names:
        path = data.folder() / name / "corpus.jsonl.gz"
        if not path.is_file():
            raise data.MissingDataError(f"{path} is missing: is {path.parent.parent} the folder of the sets?")
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                record = json.loads(line)
                yield {"id": f"{name}/{record['_id']}", "title": record["title"], "text": record["text"]}


def taken(source: Iterator[dict[str, Any]], passages: int) -> Iterator[dict[str, Any]]:
    """Yield documents from `source` until the library's splitter makes at least so many passages of them."""
    splitter = WordSplitter()
    while passages > 0 and (document := next(source, None)) is not None:
        passages -= sum(1 for _ in splitter.split(document["text"]))
        yield document


def in_new_process(work: Callable[[int], dict[str, Any]], count: int) -> dict[str, Any]:
    """Return what `work` returns in a process of its own, whose memory is bounded as the command line's is."""
    context = get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=dpr_lance.bound_memory) as pool:
        return pool.submit(work, count).result()


def peak_mebibytes() -> float:
    """The most memory this process has held, in MiB."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status has no VmHWM: this case needs Linux")


# Memory


def measure_memory(passages: int) -> dict[str, Any]:
    """Peak memory of a process that streams many passages into a new table, and of one that streams a tenth."""
    small, large = (in_new_process(streamed, count) for count in (min(SMALL, passages // 10), passages))
    return {"small": small, "large": large, "ratio": large["peak_mib"] / small["peak_mib"]}


def streamed(passages: int) -> dict[str, Any]:
    """Stream so many passages into a new table; return memory before and at the peak, and the rate."""
    with tempfile.TemporaryDirectory(prefix="dpr-lance-ingest-") as folder:
        retriever = dpr_lance.connect(folder, encoder=HashEncoder(DIMENSION))
        before = peak_mebibytes()
        report = retriever.add(taken(documents(), passages))
        peak = peak_mebibytes()
        info = retriever.info()
        kinds = [index.kind for index in info.indexes]
        stored = {"passages": info.passages, "versions": info.versions, "bytes": info.bytes_on_disk, "indexes": kinds}
    return stored | {"before_mib": before, "peak_mib": peak, "seconds": report.seconds, "documents": info.documents}


# Cost of one more thousand passages


class TimedEncoder(HashEncoder):
    """Counts its CPU seconds; while `filling`, gives random unit vectors: a full table needs some, in little time."""

    seconds = 0.0
    filling = False

    def encode_passages(self, passages: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """Return float32[n, d]."""
        if self.filling:
            random = np.random.default_rng(zlib.crc32(passages[0][1].encode()))
            vectors = random.standard_normal((len(passages), DIMENSION), dtype=np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            return vectors
        start = time.process_time()
        vectors = super().encode_passages(passages)
        self.seconds += time.process_time() - start
        return vectors


def measure_cost(passages: int, *, small_adds: int = 10, large_adds: int = 20) -> dict[str, Any]:
    """Cost of `add` with 1,000 new passages and three searches that find one, at 10,000 and at `passages` rows.

    Adds to the two tables alternate. Folding the indexes is part of some adds, so means are compared: over so many adds
    that several of them fold. CPU time, because it is that of this process alone.
    """
    costs: dict[str, list[Cost]] = {"small": [], "large": []}
    with tempfile.TemporaryDirectory(prefix="dpr-lance-ingest-") as folder:
        encoder = TimedEncoder(DIMENSION)
        tables = {name: dpr_lance.connect(Path(folder) / name, encoder=encoder) for name in costs}
        sizes = {"small": COST_SMALL, "large": passages}
        encoder.filling = True
        for name, retriever in tables.items():
            retriever.add(taken(documents(), sizes[name]))
            print(f"ingest: cost, {name} table of {len(retriever):,} passages", file=sys.stderr)
        encoder.filling = False
        source = documents(NEW_CORPORA)
        for turn in range(max(small_adds, large_adds)):
            for name, adds in (("small", small_adds), ("large", large_adds)):
                if turn < adds:
                    batch = list(taken(source, ADDED))
                    costs[name].append(cost_of(tables[name], batch, f"zq{name}{turn}", encoder))
        ended = {name: len(retriever) for name, retriever in tables.items()}
    mean = {
        clock: {name: sum(getattr(cost, clock) for cost in taken_) / len(taken_) for name, taken_ in costs.items()}
        for clock in ("own", "cpu", "wall")
    }
    ratios = {f"ratio_{clock}": values["large"] / values["small"] for clock, values in mean.items()}
    raw = {name: [asdict(cost) for cost in values] for name, values in costs.items()}
    return {"started": sizes, "ended": ended, "costs": raw, "mean": mean, **ratios}


def cost_of(retriever: dpr_lance.Retriever, batch: list[dict[str, Any]], word: str, encoder: TimedEncoder) -> Cost:
    """Add a batch and find one of its documents, which `word` marks, in every mode; return what that took."""
    marked = batch[-1] | {"text": f"{word} {batch[-1]['text']}"}
    wall, cpu, encoded = time.perf_counter(), time.process_time(), encoder.seconds
    retriever.add([*batch[:-1], marked])
    for mode in MODES:
        question = word if mode == "bm25" else f"{marked['title']} {marked['text']}"
        hits = retriever.search(question, 10, mode=mode)
        if marked["id"] not in [hit.document_id for hit in hits]:
            raise RuntimeError(f"{marked['id']!r} was added, and {mode} search does not find it")
    return Cost(time.perf_counter() - wall, time.process_time() - cpu, encoder.seconds - encoded)


# Disk


def measure_disk() -> dict[str, Any]:
    """Bytes of a table after 200 updates of one document each and `optimize`, against a new table of the same state."""
    encoder = HashEncoder(DIMENSION)
    state = {document["id"]: document for document in taken(documents(), UPDATED_PASSAGES)}
    names = list(state)
    measured: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="dpr-lance-ingest-") as folder:
        updated, fresh = (dpr_lance.connect(Path(folder) / name, encoder=encoder) for name in ("updated", "fresh"))
        updated.add(state.values())
        for number in range(UPDATES):
            name = names[number * 7 % len(names)]
            state[name] = state[name] | {"text": f"{state[name]['text']} Update number {number}."}
            updated.add([state[name]])
        measured["before_optimize"] = tree_bytes(Path(folder) / "updated")
        measured["versions_before_optimize"] = updated.info().versions
        updated.optimize()
        fresh.add(state.values())
        fresh.optimize()
        for name, retriever in (("updated", updated), ("fresh", fresh)):
            measured[name] = tree_bytes(Path(folder) / name)
            measured[f"{name}_by_folder"] = bytes_by_folder(Path(folder) / name)
            measured[f"{name}_versions"] = retriever.info().versions
        if sorted_contents(updated) != sorted_contents(fresh):
            raise RuntimeError("the updated table and the fresh one differ")
        measured["passages"] = len(fresh)
    return measured | {"updates": UPDATES, "ratio": measured["updated"] / measured["fresh"]}


def sorted_contents(retriever: dpr_lance.Retriever) -> list[dpr_lance.Passage]:
    """All passages by id."""
    return sorted(retriever.passages(), key=lambda passage: passage.id)


def tree_bytes(folder: Path) -> int:
    """Size of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def bytes_by_folder(folder: Path) -> dict[str, int]:
    """Bytes by table and kind of file (data, _indices, _versions, …)."""
    sizes: dict[str, int] = {}
    for path in folder.rglob("*"):
        if path.is_file():
            name = "/".join(path.relative_to(folder).parts[:2]) if path.parent != folder else "locks"
            sizes[name] = sizes.get(name, 0) + path.stat().st_size
    return sizes


# Encoder


def measure_encoder(*, rounds: int = 5, per_round: int = 512) -> dict[str, Any]:
    """Passages a second of `add` with the default encoder, and of the encoder alone, on the same passages in turns.

    `ratios` are of wall time; `cpu_ratios`, of this process's CPU time, say what `add` costs beside encoding.
    """
    passages = data.hundred_word_passages(rounds * per_round)
    encoder = dpr_lance.load_encoder(DEFAULT_ENCODER)
    encoder.encode_passages(passages[:64])
    seconds: dict[str, list[float]] = {"add": [], "encoder": []}
    cpu: dict[str, list[float]] = {"add": [], "encoder": []}
    with tempfile.TemporaryDirectory(prefix="dpr-lance-ingest-") as folder:
        retriever = dpr_lance.connect(folder, encoder=encoder)
        retriever.add([{"id": "first", "text": "the table is made before the clock starts"}])
        for number in range(rounds):
            part = passages[number * per_round : (number + 1) * per_round]
            batch = [{"id": f"{number}/{at}", "title": title, "text": text} for at, (title, text) in enumerate(part)]

            def add(batch: list[dict[str, str]] = batch) -> object:
                return retriever.add(batch, splitter=None)

            def encode(part: list[tuple[str, str]] = part) -> object:
                return encoder.encode_passages(part)

            ways: dict[str, Callable[[], object]] = {"add": add, "encoder": encode}
            for name in sorted(ways, reverse=number % 2 == 1):
                started, used = time.perf_counter(), time.process_time()
                ways[name]()
                seconds[name].append(time.perf_counter() - started)
                cpu[name].append(time.process_time() - used)
        if len(retriever) != 1 + rounds * per_round:
            raise RuntimeError(f"{len(retriever)} passages are stored, {1 + rounds * per_round} were added")
    rates = {name: [per_round / taken_ for taken_ in values] for name, values in seconds.items()}
    ratios, cpu_ratios = (
        [alone / ours for ours, alone in zip(clock["add"], clock["encoder"], strict=True)] for clock in (seconds, cpu)
    )
    values = {"passages_per_second": rates, "ratios": ratios, "cpu_ratios": cpu_ratios, "per_round": per_round}
    return values | {"ratio": Spread.of(ratios).median}


# Tables


def tables(records: list[dict[str, Any]]) -> str:
    """The section of the README."""
    lines = {"memory": _memory_line, "cost": _cost_line, "disk": _disk_line, "encoder": _encoder_line}
    rows = [[*lines[record["part"]](record), _aim(record)] for record in records]
    header = ["what", "small, old or alone", "large, new or added", "ratio", "aim"]
    where = f"Measured on {machine.sentence(records[0]['machine'])}."
    return f"{where} Vectors of {DIMENSION} dimensions by `HashEncoder`, but for the last row.\n\n" + results.table(
        header, rows
    )


def _aim(record: dict[str, Any]) -> str:
    sign = "≥" if record["part"] == "encoder" else "≤"
    kept = met(record["part"], headline(record["part"], record))
    return f"{sign} {AIMS[record['part']]}" + ("" if kept else " (missed)")


def _memory_line(record: dict[str, Any]) -> list[str]:
    small, large = record["small"], record["large"]
    cells = [f"{side['peak_mib']:.0f} MiB at {side['passages']:,} passages" for side in (small, large)]
    return ["peak memory of a process that streams documents into a new table", *cells, f"{record['ratio']:.2f}"]


def _cost_line(record: dict[str, Any]) -> list[str]:
    cells = [
        f"{record['mean']['cpu'][name]:.2f} CPU-s at {record['started'][name]:,} ({len(record['costs'][name])} adds)"
        for name in ("small", "large")
    ]
    what = "adding 1,000 passages and finding one in three modes"
    return [what, *cells, f"{record['ratio_cpu']:.2f} (without the encoder's time {record['ratio_own']:.2f})"]


def _disk_line(record: dict[str, Any]) -> list[str]:
    cells = [f"{record[name] / 1e6:.1f} MB {said}" for name, said in (("fresh", "fresh"), ("updated", "updated"))]
    what = f"disk after {record['updates']} updates of one document in {record['passages']:,} passages, and `optimize`"
    return [what, *cells, f"{record['ratio']:.2f}"]


def _encoder_line(record: dict[str, Any]) -> list[str]:
    cells = [f"{Spread.of(record['passages_per_second'][name])} passages/s" for name in ("encoder", "add")]
    ratio = f"{Spread.of(record['ratios'])} (CPU time {Spread.of(record['cpu_ratios'])})"
    return ["`add` with the default encoder against the encoder alone", *cells, ratio]
