"""What is installed, which encoder would be used, what the machine offers, and whether it works."""

from __future__ import annotations

import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

from dpr_lance.cli.reader_trial import ReaderFacts, reader_facts, reader_problems
from dpr_lance.cli.trial import PAIRS, TOLERANCE, Problem
from dpr_lance.connection import connect
from dpr_lance.encoders.bundle import Bundle
from dpr_lance.encoders.encoder import Encoder
from dpr_lance.encoders.hash_encoder import HashEncoder
from dpr_lance.encoders.loading import DEFAULT_ENCODER, cache_folder, load_encoder, packaged_names
from dpr_lance.encoders.onnx_encoder import OnnxEncoder, available_threads
from dpr_lance.errors import DprLanceError
from dpr_lance.reader.loading import DEFAULT_READER, load_reader, packaged_readers

DISTRIBUTION = "dpr-lance"
PASSAGE_SECONDS = 3.0
QUESTION_SECONDS = 1.0
"""How long speed is measured."""
DEVELOPMENT = ("dev", "docs")
"""Extras that only the developers of this library install."""
STAND_INS = {"onnxruntime": ("onnxruntime-gpu",)}
"""Packages that provide the module of another: with a GPU one is installed instead of the other."""
INSTRUCTION_SETS = (
    "sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8",
    "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip
"""Relevant for int8 and fp32 matrix products, with Linux's names (x86 and Arm)."""


@dataclass(frozen=True, slots=True)
class Extra:
    """A set of optional packages, the missing ones, and the command that installs them."""

    name: str
    missing: tuple[str, ...]
    command: str


@dataclass(frozen=True, slots=True)
class Processor:
    """The processor; what the system does not report is None."""

    model: str | None
    cores: int
    instruction_sets: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class EncoderFacts:
    """The encoder that would be used, and why. `bytes` and `precision` describe its bundle."""

    name: str
    why: str
    folder: str | None
    precision: str | None
    bytes: int | None
    dimension: int
    fingerprint: str
    threads: int | None
    providers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Speed:
    """Passages of about 100 words per second in batches, and the median time of one new question."""

    passages_per_second: float
    question_milliseconds: float


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Everything that `examine` found; `problems` is empty when the installation works."""

    python: str
    platform: str
    packages: Mapping[str, str | None]
    extras: tuple[Extra, ...]
    processor: Processor
    cache_folder: str
    packaged_encoders: tuple[str, ...]
    encoder: EncoderFacts | None
    speed: Speed | None
    packaged_readers: tuple[str, ...]
    reader: ReaderFacts | None
    problems: tuple[Problem, ...]


def examine(encoder: str | None = None, reader: str | None = None) -> Diagnosis:
    """Examine and try the installation, with `encoder` and `reader` instead of the packaged ones when they are given.

    Takes about 10 seconds. Problems are reported, never raised.
    """
    packages, extras = installed_packages(), optional_packages()
    problems = [
        Problem(f"{name} is not installed", f"pip install --force-reinstall {DISTRIBUTION}")
        for name, version in packages.items()
        if version is None
    ]
    problems += import_problems(("lancedb", "onnxruntime", "tokenizers"))
    facts, speed, read = None, None, None
    if not problems:
        problems += _table_problems()
        try:
            loaded = load_encoder(encoder or DEFAULT_ENCODER)
            facts = _encoder_facts(loaded, encoder)
            problems += list(encoder_problems(loaded))
            speed = measured_speed(loaded)
        except DprLanceError as error:
            problems.append(Problem(str(error), "see the message"))
        if reader or DEFAULT_READER in packaged_readers():
            try:
                opened = load_reader(reader or DEFAULT_READER)
                problems += list(reader_problems(opened))
                read = reader_facts(opened)
            except DprLanceError as error:
                problems.append(Problem(str(error), "see the message"))
    return Diagnosis(
        python=f"{platform.python_version()} ({sys.executable})",
        platform=platform.platform(),
        packages=packages,
        extras=extras,
        processor=processor(),
        cache_folder=str(cache_folder()),
        packaged_encoders=tuple(packaged_names()),
        encoder=facts,
        speed=speed,
        packaged_readers=tuple(packaged_readers()),
        reader=read,
        problems=tuple(problems),
    )


def installed_packages() -> dict[str, str | None]:
    """Return the versions of this package and of those that it needs; None for a missing one."""
    needed = [name for name, extra in _requirements() if extra is None]
    return {name: installed_version(name) for name in [DISTRIBUTION, *needed]}


def optional_packages() -> tuple[Extra, ...]:
    """Return the extras with the missing packages of each."""
    missing: dict[str, list[str]] = {}
    for name, extra in _requirements():
        if extra is not None:
            absent = missing.setdefault(extra, [])
            absent += [name] if installed_version(name) is None else []
    return tuple(
        Extra(name, tuple(absent), f"pip install '{DISTRIBUTION}[{name}]'") for name, absent in sorted(missing.items())
    )


def processor() -> Processor:
    """Return Linux's facts about the processor; elsewhere the instruction sets are unknown."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return Processor(platform.processor() or None, available_threads(), None)
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    present = tuple(name for name in INSTRUCTION_SETS if name in flags)
    return Processor(fields.get("model name"), available_threads(), present)


def encoder_problems(encoder: Encoder) -> Iterator[Problem]:
    """Yield problems of the encoder: damaged files, vectors that depend on their neighbours, a wrong order."""
    remedy = "make its bundle again (dpr-lance export), or reinstall dpr-lance when it is the packaged one"
    bundle = _bundle_of(encoder)
    if bundle is not None:
        for file in bundle.files:
            bundle.verified(file.name)
    passages = [(title, text) for _, title, text in PAIRS]
    together = encoder.encode_passages(passages)  # [n, d]
    alone = np.concatenate([encoder.encode_passages([passage]) for passage in passages])
    difference = float(np.abs(together - alone).max())
    allowed = 0.0 if bundle is not None and bundle.precision == "int8" else TOLERANCE
    if not difference <= allowed:
        yield Problem(f"a passage's vector depends on its neighbours (by {difference:.2g})", remedy)
    questions = encoder.encode_questions([question for question, _, _ in PAIRS])
    if encoder.card.normalise and not np.allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-3):
        yield Problem("the card says unit vectors, but they are not", remedy)
    nearest = (questions @ together.T).argmax(axis=1)
    for index in np.flatnonzero(nearest != np.arange(len(PAIRS))).tolist():
        yield Problem(
            f"{PAIRS[index][0]!r} is nearer to the passage {PAIRS[nearest[index]][1]!r} than to {PAIRS[index][1]!r}",
            f"the weights are damaged or were never trained: {remedy}",
        )


def measured_speed(encoder: Encoder) -> Speed:
    """Encode passages of about 100 words for PASSAGE_SECONDS, then new questions one at a time."""
    text = " ".join(text for _, _, text in PAIRS)
    passages = [(title, f"{number} {text} {text}") for number, (_, title, _) in enumerate(PAIRS * 8)]
    encoder.encode_passages(passages[:2])
    started, count = time.perf_counter(), 0
    while not count or time.perf_counter() - started < PASSAGE_SECONDS:
        encoder.encode_passages(passages)
        count += len(passages)
    return Speed(count / (time.perf_counter() - started), _question_milliseconds(encoder))


def _question_milliseconds(encoder: Encoder) -> float:
    times: list[float] = []
    while sum(times) < QUESTION_SECONDS and len(times) < 50:
        question = f"{PAIRS[len(times) % len(PAIRS)][0]} {len(times)}"
        started = time.perf_counter()
        encoder.encode_questions([question])
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


def _encoder_facts(encoder: Encoder, named: str | None) -> EncoderFacts:
    import onnxruntime

    bundle, card = _bundle_of(encoder), encoder.card
    default = "the packaged default, for new tables when no encoder is named; an existing table uses its own"
    return EncoderFacts(
        name=card.name,
        why="named by --encoder" if named else default,
        folder=str(bundle.folder) if bundle else None,
        precision=bundle.precision if bundle else None,
        bytes=bundle.size if bundle else None,
        dimension=card.dimension,
        fingerprint=card.fingerprint,
        threads=encoder.threads if isinstance(encoder, OnnxEncoder) else None,
        providers=tuple(onnxruntime.get_available_providers()),
    )


def _bundle_of(encoder: Encoder) -> Bundle | None:
    return encoder.bundle if isinstance(encoder, OnnxEncoder) else None


def import_problems(modules: Sequence[str]) -> Iterator[Problem]:
    """Import each module in a process of its own: one that was built for another processor kills it."""
    tries = [
        subprocess.Popen([sys.executable, "-c", f"import {name}"], stderr=subprocess.PIPE, text=True)
        for name in modules
    ]
    for name, process in zip(modules, tries, strict=True):
        message = process.communicate()[1].strip().splitlines() or ["no message"]
        if process.returncode < 0:
            yield Problem(
                f"importing {name} kills Python (signal {-process.returncode}): it was built for another processor",
                "install a build for this processor (an x86 one needs AVX2), or build it from source",
            )
        elif process.returncode:
            yield Problem(f"{name} cannot be imported: {message[-1]}", f"pip install --force-reinstall {name}")


def _table_problems() -> Iterator[Problem]:
    """Add and search in a table in memory, with an encoder that needs no weights."""
    documents = [{"id": title, "title": title, "text": text} for _, title, text in PAIRS]
    with connect("memory://", encoder=HashEncoder()) as retriever:
        retriever.add(documents)
        for mode in ("hybrid", "bm25"):
            hits = retriever.search("honey and wax from nectar", 1, mode=mode)
            if [hit.document_id for hit in hits] != ["Bees"]:
                yield Problem(
                    f"a {mode} search in LanceDB finds the wrong passage", "pip install --force-reinstall lancedb"
                )


def _requirements() -> list[tuple[str, str | None]]:
    """Return the names of the required packages, each with the extra that it belongs to."""
    try:
        lines = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return []
    found = []
    for line in lines:
        name = re.match(r"[\w.-]+", line)
        extra = re.search(r"""extra\s*==\s*["']([\w-]+)["']""", line)
        if name and (extra is None or extra[1] not in DEVELOPMENT):
            found.append((name[0], extra[1] if extra else None))
    return found


def installed_version(name: str) -> str | None:
    """Return the version of a package, or of one that replaces it; None when it is not installed."""
    for installed in (name, *STAND_INS.get(name, ())):
        with suppress(metadata.PackageNotFoundError):
            version = metadata.version(installed)
            return version if installed == name else f"{version} ({installed})"
    return None
