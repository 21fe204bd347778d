"""Case `ingest`: memory, cost and disk of adding documents, for a large table and a small one.

Vectors are `HashEncoder`'s with 384 dimensions, as wide as the default encoder's, except where the case is about the
encoder. Documents are the real ones of wiki-ottqa, then reqa-bioasq, split by the library.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import dpr_lance
from benchmarks import data, results
from benchmarks.peers.protocol import peak_mebibytes, tree_bytes
from benchmarks.summaries import ratios, spread
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
PARTS = ("memory", "cost", "disk", "encoder")


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds that one `add` and the searches that find what it added took, and the encoder's share of them."""

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
    """Measure the chosen parts. Returns the ratio of each."""
    if unknown := set(options.parts) - set(PARTS):
        raise SystemExit(f"unknown part {min(unknown)!r}; known: {', '.join(PARTS)}")
    measures = {
        "memory": lambda: measure_memory(options.passages),
        "cost": lambda: measure_cost(options.passages),
        "disk": measure_disk,
        "encoder": measure_encoder,
    }
    summary = {}
    for part in options.parts or PARTS:
        print(f"ingest: {part}", file=sys.stderr)
        values = measures[part]()
        results.write("ingest", part, values)
        summary[part] = values["ratio"]
    return summary


def documents(names: Sequence[str] = CORPORA) -> Iterator[dict[str, str]]:
    """Yield the documents of these corpora one by one, with ids that name where they are from."""
    for name in names:
        for passage in data.corpus(name):
            yield passage.document | {"id": f"{name}/{passage.id}"}


def taken(source: Iterator[dict[str, str]], passages: int) -> Iterator[dict[str, str]]:
    """Yield documents from `source` until the library's splitter makes at least `passages` passages of them."""
    splitter = WordSplitter()
    while passages > 0 and (document := next(source, None)) is not None:
        passages -= sum(1 for _ in splitter.split(document["text"]))
        yield document


def in_new_process(work: Callable[[int], dict[str, Any]], count: int) -> dict[str, Any]:
    """Return what `work` returns in a process of its own, whose memory is bounded as the command line's is."""
    context = get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=dpr_lance.bound_memory) as pool:
        return pool.submit(work, count).result()


# Memory


def measure_memory(passages: int) -> dict[str, Any]:
    """Peak memory of a process that streams many passages into a new table, and of one that streams a tenth."""
    small, large = (in_new_process(streamed, count) for count in (min(SMALL, passages // 10), passages))
    return {"small": small, "large": large, "ratio": large["peak_mib"] / small["peak_mib"]}


def streamed(passages: int) -> dict[str, Any]:
    """Stream this many passages into a new table; return peak memory."""
    with tempfile.TemporaryDirectory(prefix="dpr-lance-ingest-") as folder:
        retriever = dpr_lance.connect(folder, encoder=HashEncoder(DIMENSION))
        retriever.add(taken(documents(), passages))
        peak = peak_mebibytes()
        passages = len(retriever)
    return {"passages": passages, "peak_mib": peak}


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

    Adds to the two tables alternate. Folding the indexes is part of some adds, so means are compared, over enough adds
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
    mean = {
        name: {clock: float(np.mean([getattr(cost, clock) for cost in each])) for clock in ("cpu", "own")}
        for name, each in costs.items()
    }
    return {
        **{name: mean[name] | {"passages": sizes[name], "adds": len(costs[name])} for name in costs},
        "ratio": mean["large"]["cpu"] / mean["small"]["cpu"],
        "ratio_without_encoder": mean["large"]["own"] / mean["small"]["own"],
    }


def cost_of(retriever: dpr_lance.Retriever, batch: list[dict[str, str]], word: str, encoder: TimedEncoder) -> Cost:
    """Add a batch and find one of its documents, which `word` marks, in every mode; return what that took."""
    marked = batch[-1] | {"text": f"{word} {batch[-1]['text']}"}
    cpu, encoded = time.process_time(), encoder.seconds
    retriever.add([*batch[:-1], marked])
    for mode in MODES:
        question = word if mode == "bm25" else f"{marked['title']} {marked['text']}"
        hits = retriever.search(question, 10, mode=mode)
        if marked["id"] not in [hit.document_id for hit in hits]:
            raise RuntimeError(f"{marked['id']!r} was added, and {mode} search does not find it")
    return Cost(time.process_time() - cpu, encoder.seconds - encoded)


# Disk


def measure_disk() -> dict[str, Any]:
    """Bytes of a table after 200 updates of one document each and `optimize`, against a new table of the same state.

    Both as they come, with old versions kept for an hour, and with none kept.
    """
    encoder = HashEncoder(DIMENSION)
    state = {document["id"]: document for document in taken(documents(), UPDATED_PASSAGES)}
    names = list(state)
    with tempfile.TemporaryDirectory(prefix="dpr-lance-ingest-") as folder:
        updated, fresh = (Path(folder) / name for name in ("updated", "fresh"))
        with dpr_lance.connect(updated, encoder=encoder) as retriever:
            retriever.add(state.values())
            for number in range(UPDATES):
                name = names[number * 7 % len(names)]
                state[name] = state[name] | {"text": f"{state[name]['text']} Update number {number}."}
                retriever.add([state[name]])
            retriever.optimize()
        with dpr_lance.connect(fresh, encoder=encoder) as retriever:
            retriever.add(state.values())
            retriever.optimize()
            passages = len(retriever)
        measured = {"versions_kept": tree_bytes(updated)}
        for place in (updated, fresh):
            with dpr_lance.connect(place, encoder=encoder, keep_versions=timedelta(0)) as retriever:
                retriever.optimize()
        if sorted_contents(updated) != sorted_contents(fresh):
            raise RuntimeError("the updated table and the fresh one differ")
        measured |= {"updated": tree_bytes(updated), "fresh": tree_bytes(fresh)}
    return measured | {"passages": passages, "updates": UPDATES, "ratio": measured["updated"] / measured["fresh"]}


def sorted_contents(place: Path) -> list[dpr_lance.Passage]:
    """All passages by id."""
    with dpr_lance.connect(place) as retriever:
        return sorted(retriever.passages(), key=lambda passage: passage.id)


# Encoder


def measure_encoder(*, rounds: int = 5, per_round: int = 512) -> dict[str, Any]:
    """Passages a second of `add` with the default encoder, and of the encoder alone, on the same passages in turns.

    `ratios` are of wall time; `cpu_ratios`, of this process's CPU time, say what `add` costs besides encoding.
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
    return {
        "passages_per_second": {name: spread([per_round / each for each in taken]) for name, taken in seconds.items()},
        "ratios": ratios(seconds["encoder"], seconds["add"]),
        "cpu_ratios": ratios(cpu["encoder"], cpu["add"]),
        "ratio": ratios(seconds["encoder"], seconds["add"])[1],
    }
