"""Whether a reader works, and how fast it is, for the doctor."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dpr_lance.cli.trial import PAIRS, TOLERANCE, Problem
from dpr_lance.reader.onnx_reader import Reader
from dpr_lance.reader.reranker import PassageText

PASSAGES = 30
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class ReaderFacts:
    """A reader, and the median time in which it scores `passages` passages of about 100 words; None if it cannot."""

    name: str
    folder: str
    precision: str
    bytes: int
    fingerprint: str
    threads: int
    passages: int
    milliseconds: float | None


def reader_problems(reader: Reader) -> Iterator[Problem]:
    """Yield problems of a reader: damaged files, scores that depend on their neighbours, a wrong order."""
    remedy = "make its bundle again (dpr-lance export), or reinstall dpr-lance when it is the packaged one"
    for file in reader.bundle.files:
        reader.bundle.verified(file.name)
    passages = [PassageText(title, text) for _, title, text in PAIRS]
    if not reader.card.selects:
        reader.read(PAIRS[0][0], passages)
        return
    allowed = 0.0 if reader.bundle.precision == "int8" else TOLERANCE
    for index, (question, title, _) in enumerate(PAIRS):
        together = reader.score(question, passages)
        alone = np.concatenate([reader.score(question, [passage]) for passage in passages])
        difference = float(np.abs(together - alone).max())
        if not difference <= allowed:
            yield Problem(f"the reader's score of a passage depends on its neighbours (by {difference:.2g})", remedy)
        if (best := int(together.argmax())) != index:
            yield Problem(
                f"the reader prefers the passage {PAIRS[best][1]!r} to {title!r} for {question!r}",
                f"the weights are damaged or were never trained: {remedy}",
            )


def reader_facts(reader: Reader) -> ReaderFacts:
    """Return the facts of a reader; its time is measured where it scores passages."""
    bundle = reader.bundle
    return ReaderFacts(
        name=bundle.card.name,
        folder=str(bundle.folder),
        precision=bundle.precision,
        bytes=bundle.size,
        fingerprint=bundle.card.fingerprint,
        threads=reader.threads,
        passages=PASSAGES,
        milliseconds=_milliseconds(reader) if bundle.card.selects else None,
    )


def _milliseconds(reader: Reader) -> float:
    text = " ".join(text for _, _, text in PAIRS)
    passages = [PassageText(PAIRS[number % len(PAIRS)][1], f"{number} {text} {text}") for number in range(PASSAGES)]
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        reader.score(PAIRS[0][0], passages)
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)
