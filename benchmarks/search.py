"""Case `search`: one question over 171,348 real passages: what hybrid search costs beside its parts, and bm25s.

The table holds nq-gold and wiki-ottqa, embedded by the default encoder; it is kept, and goes on where it was cut short.
Each question is embedded, searched by either raw leg through plain LanceDB, by bm25s and by every mode of ours, one
after the other, in an order that changes. Accuracy over the same passages is the case `quality nq-gold+wiki-ottqa`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import data, machine, references, results
from benchmarks.references import CACHE, joined

SET = ("nq-gold+wiki-ottqa", "dev")
QUESTIONS = 200
WARMING = 20
K = 10
CANDIDATES = 100
"""Hits of a raw leg: what each leg hands to our fusion."""

HELD = 1 << 30
"""Bound of the vectors in memory: all of them."""

TIMED = {
    "encode": "encoding alone",
    "raw dense": "LanceDB's vector search, 100 hits",
    "raw bm25": "LanceDB's full-text search, 100 hits",
    "dense": '`mode="dense"`',
    "bm25": '`mode="bm25"`',
    "hybrid": '`mode="hybrid"`',
    "bm25s": "bm25s: tokens, retrieval",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this case."""
    parser.add_argument("--passages", type=int, metavar="N", help="only the gold passages and as many others as make N")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure with the vectors held in memory, and without; one raw file each. Returns the ratios."""
    questions = data.read(*SET)
    if options.passages:
        questions = questions.smaller(options.passages)
    summary = {}
    for part, resident in (("held", HELD), ("not-held", 0)):
        print(f"search: {len(questions.passages):,} passages, vectors {part}", file=sys.stderr)
        values = measure(questions, resident)
        name = part if len(questions.passages) > 100_000 else f"{part}-{len(questions.passages)}"
        results.write("search", name, values | {"passages": len(questions.passages), "held": resident > 0})
        summary[part] = {name: round(ratio, 2) for name, ratio in ratios(values["milliseconds"]).items()}
    return summary


def measure(questions: data.QuestionSet, resident: int) -> dict[str, Any]:
    """Milliseconds of every part, question by question; `resident` is the bound of vectors in memory."""
    import lancedb
    from lancedb.query import MatchQuery

    import dpr_lance
    from dpr_lance.encoders.loading import DEFAULT_ENCODER, load_encoder

    asked = [question.text for question in questions.questions]
    asked = [asked[at] for at in np.linspace(0, len(asked) - 1, WARMING + QUESTIONS).astype(int)]
    place = CACHE / "search" / str(len(questions.passages))
    with dpr_lance.connect(place, resident_bytes=resident) as retriever:
        documents = ({"id": each.id, "title": each.title, "text": each.text} for each in questions.passages)
        retriever.add(documents, splitter=None)
        retriever.optimize()
        retriever.warm()
        effort = retriever.search(asked[0], 1, mode="dense", explain=True).explanation
        kinds = [index.kind for index in retriever.info().indexes]
        table = lancedb.connect(place).open_table("passages")
        encoder = load_encoder(DEFAULT_ENCODER)
        vectors = {question: encoder.encode_questions([question])[0] for question in asked}
        partitions, probes, metric = _effort(retriever)
        bm25s = _bm25s(questions)

        def raw_dense(question: str) -> object:
            search = table.search(vectors[question], vector_column_name="vector").distance_type(metric)
            if partitions:
                search = search.nprobes(probes).refine_factor(4)
            return search.select(["id", "_distance"]).limit(CANDIDATES).to_arrow()

        def raw_bm25(question: str) -> object:
            search = table.search(MatchQuery(question, "content"), query_type="fts")
            return search.select(["id", "_score"]).limit(CANDIDATES).to_arrow()

        timed: dict[str, Callable[[str], object]] = {
            # A blank at the end, so that no earlier encoding of the question is found again.
            "encode": lambda question: encoder.encode_questions([question + " "]),
            "raw dense": raw_dense,
            "raw bm25": raw_bm25,
            "dense": lambda question: retriever.search(question + "  ", K, mode="dense"),
            "bm25": lambda question: retriever.search(question, K, mode="bm25"),
            "hybrid": lambda question: retriever.search(question, K, mode="hybrid"),
            "bm25s": bm25s,
        }
        milliseconds: dict[str, list[float]] = {name: [] for name in timed}
        cpu: dict[str, list[float]] = {name: [] for name in timed}
        stages: dict[str, list[float]] = {}
        names = list(timed)
        for number, question in enumerate(asked):
            for name in np.random.default_rng(number).permutation(names).tolist():
                started, used = time.perf_counter(), time.process_time()
                found = timed[name](question)
                if number < WARMING:
                    continue
                milliseconds[name].append(1000 * (time.perf_counter() - started))
                cpu[name].append(1000 * (time.process_time() - used))
                if name == "hybrid":
                    assert isinstance(found, dpr_lance.Hits)
                    for stage, seconds in found.seconds.items():
                        stages.setdefault(stage, []).append(1000 * seconds)
        return {
            "questions": QUESTIONS,
            "milliseconds": milliseconds,
            "cpu_milliseconds": cpu,
            "stages": stages,
            "indexes": kinds,
            "probes": [probes, partitions],
            "candidates": None if effort is None else effort.candidates_asked,
            "bytes_resident": retriever.info().bytes_resident,
        }


def _effort(retriever: Any) -> tuple[int, int, str]:  # noqa: ANN401
    """Partitions, probes and metric of the vector index; zeros where there is none."""
    from dpr_lance.search.candidates import effort_of

    store = retriever._store
    effort = effort_of(store.remembered.values(), store.card)
    return effort.partitions or 0, effort.probes or 0, effort.metric


def _bm25s(questions: data.QuestionSet) -> Callable[[str], object]:
    """BM25 of bm25s over the same texts, with its own tokens, returning K rows."""
    import bm25s
    import Stemmer

    stemmer = Stemmer.Stemmer("english")
    texts = [joined(passage.title, passage.text) for passage in questions.passages]
    index = bm25s.BM25(method="lucene", k1=references.K1, b=references.B)
    index.index(bm25s.tokenize(texts, stopwords="en", stemmer=stemmer, show_progress=False), show_progress=False)

    def search(question: str) -> object:
        tokens = bm25s.tokenize([question], stopwords="en", stemmer=stemmer, return_ids=False, show_progress=False)
        return index.retrieve(tokens, k=K, show_progress=False)

    return search


def ratios(times: dict[str, list[float]]) -> dict[str, float]:
    """What the bars are about, of medians: hybrid over its parts, our BM25 over that of bm25s."""
    p50 = {name: float(np.median(taken)) for name, taken in times.items()}
    return {
        "hybrid / (2 encode + raw legs)": p50["hybrid"] / (2 * p50["encode"] + p50["raw dense"] + p50["raw bm25"]),
        "bm25 / bm25s": p50["bm25"] / p50["bm25s"],
        "raw bm25 / bm25s": p50["raw bm25"] / p50["bm25s"],
    }


def tables(records: list[dict[str, Any]]) -> str:
    """The section of the README."""
    records = sorted(records, key=lambda record: (-record["passages"], not record["held"]))
    header = ["milliseconds, p50 / p99 (CPU, mean)", *(_title(record) for record in records)]
    rows = []
    for name, said in TIMED.items():
        cells = []
        for record in records:
            p50, p99 = np.percentile(record["milliseconds"][name], [50, 99])
            cells.append(f"{p50:.1f} / {p99:.1f} ({np.mean(record['cpu_milliseconds'][name]):.1f})")
        rows.append([said, *cells])
    rows.append(["stages of hybrid, p50", *(_stages(record["stages"]) for record in records)])
    for kind, said in (("milliseconds", ""), ("cpu_milliseconds", ", CPU")):
        every = [ratios(record[kind]) for record in records]
        rows += [[f"**{name}{said}**", *(f"**{each[name]:.2f}**" for each in every)] for name in every[0]]
    probes, partitions = records[-1]["probes"]
    effort = f"{probes} of {partitions} partitions probed, 4 candidates a hit refined" if partitions else "no index"
    intro = (
        f"{records[0]['questions']} questions of nq-gold dev, one after the other, {K} hits; the raw legs through "
        f"plain LanceDB on the same table ({effort}), {CANDIDATES} ids with scores. bm25s returns {K} row numbers "
        "without texts. Aims: hybrid at most twice the encoding and once the two raw legs; BM25 within 1.5 of bm25s. "
        f"Measured on {machine.sentence(records[0]['machine'])}; load average "
        f"{', '.join(str(record['machine']['load_average'][0]) for record in records)}."
    )
    return f"{intro}\n\n{results.table(header, rows)}"


def _stages(stages: dict[str, list[float]]) -> str:
    """BM25 goes on while the question is encoded and the vectors are searched."""
    return ", ".join(f"{name} {np.median(taken):.1f}" for name, taken in stages.items() if name != "total")


def _title(record: dict[str, Any]) -> str:
    held = f"vectors in memory ({record['bytes_resident'] / 2**20:,.0f} MiB)" if record["held"] else "not in memory"
    return f"{record['passages']:,} passages, {held}"
