"""How the command line shows things: tables for people, one JSON object a line for pipes, progress on a terminal."""

from __future__ import annotations

import base64
import dataclasses
import json
import logging
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from importlib import metadata
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dpr_lance.health.check_report import CheckReport
from dpr_lance.records.reports import AddReport, IndexInfo, IndexReport, ReembedReport
from dpr_lance.records.reports import Progress as Advance
from dpr_lance.records.table_info import TableInfo

if TYPE_CHECKING:
    from dpr_lance.cli.doctor import Diagnosis

PIPE_WIDTH = 120
"""Columns of a table that does not go to a terminal."""

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
"""Control characters, which a stored text must not send to a terminal, and line breaks."""


_HINTS = (
    ("pass on_error='skip'", "pass --on-error skip"),
    ("with max_document_bytes", "with --max-document-bytes"),
    ("call embed()", "run `dpr-lance embed`"),
    ("connect with encoder=None for its own", "leave --encoder out for its own"),
    ("pass it again, connect(..., encoder=...)", "it can be used from Python alone"),
    ("choose another name with table=...", "choose another name with --table"),
    ("optimize(rebuild=True)", "`dpr-lance optimize --rebuild`"),
    ("reembed() with", "`dpr-lance reembed` with"),
    ("pass it as splitter=..., or", "name it with --splitter, or"),
)
"""What error messages advise in Python, and on the command line."""


def for_command_line(message: str) -> str:
    """Return a message of the library with its advice in terms of commands and options."""
    for python, option in _HINTS:
        message = message.replace(python, option)
    return message


def version() -> str:
    """Return this package's version."""
    try:
        return metadata.version("dpr-lance")
    except metadata.PackageNotFoundError:
        return "unknown (it runs from a folder, without being installed)"


def print_text(text: str) -> None:
    """Write a line to standard output."""
    print(text)  # noqa: T201


def say(message: str) -> None:
    """Write a message for people to standard error."""
    print("\n".join(map(one_line, for_command_line(message).split("\n"))), file=sys.stderr, flush=True)  # noqa: T201


class _Told(logging.Handler):
    """Says what the library logs."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"{record.levelname.lower()}: {record.getMessage()}")


def show_log() -> None:
    """Write what the library logs, such as that it waits for a lock, to standard error from now on."""
    log = logging.getLogger("dpr_lance")
    if not any(isinstance(handler, _Told) for handler in log.handlers):
        log.addHandler(_Told())
        log.propagate = False


def print_json(value: Any, stream: TextIO | None = None) -> None:  # noqa: ANN401 - dataclasses and JSON values
    """Write one JSON object on a line of its own (standard output by default) and flush it."""
    text = json.dumps(_jsonable(value), ensure_ascii=False, allow_nan=False)
    print(_escaped_surrogates(text), file=stream or sys.stdout, flush=True)


def print_failure(message: str, hints: Sequence[str] = (), *, as_json: bool) -> None:
    """Write what went wrong, and what to do about it, to standard error."""
    if as_json:
        print_json({"error": for_command_line(message)} | ({"hint": "; ".join(hints)} if hints else {}), sys.stderr)
    else:
        say("\n".join([f"error: {message}", *(f"hint: {hint}" for hint in hints)]))


def print_facts(facts: Mapping[str, object]) -> None:
    """Write names and values in two columns to standard output; None is shown as a dash."""
    width = max(map(len, facts))
    for name, value in facts.items():
        for number, line in enumerate(_shown(value)):
            print_text(f"{'' if number else name:<{width}}   {line}")


def print_add_report(report: AddReport, *, as_json: bool) -> None:
    """Write what `add` did to standard output, and what it left out or cut off to standard error."""
    for skipped in report.skipped:
        say(f"skipped: {skipped.place}: {skipped.reason}")
    if report.truncated_passages:
        say(
            f"{report.truncated_passages:,} passages are longer than the encoder reads: dense search does not see "
            f"{report.truncated_tokens:,} tokens at their ends, BM25 does; shorter passages (--words) help"
        )
    _say_without_vector(report)
    if report.not_embedded:
        say(f"no vectors were made, BM25 alone will find these: {report.not_embedded}")
    if as_json:
        print_json(report)
        return
    counts = {field.name: getattr(report, field.name) for field in dataclasses.fields(report)}
    shown = {name.replace("_", " "): count for name, count in counts.items() if count and isinstance(count, int)}
    print_facts({"documents read": report.documents_read} | shown | {"seconds": report.seconds})


def print_info(info: TableInfo) -> None:
    """Write what a table holds to standard output."""
    card, calibration = info.encoder, info.calibration
    print_facts(
        {
            "table": f"{info.table} in {info.uri}",
            "documents": info.documents,
            "passages": info.passages,
            "with a vector": info.embedded,
            "encoder": card and f"{card.name}, {card.dimension} dimensions, fingerprint {card.fingerprint}",
            "splitter": info.splitter,
            "metadata": info.metadata,
            "indexes": [_index_line(index) for index in info.indexes],
            "vector search": "exact" if info.recall is None else f"approximate, recall {info.recall:.3f}",
            "calibration": calibration and f"λ {calibration.hybrid_weight:.4g}, {calibration.mode} by default",
            "on disk": size(info.bytes_on_disk),
            "versions": info.versions,
        }
    )


def print_index_report(report: IndexReport) -> None:
    """Write what `optimize` did to standard output."""
    print_facts(
        {
            "built anew": report.built,
            "indexes": [_index_line(index) for index in report.indexes],
            "recall of the vector index": report.recall,
            "on disk before": size(report.bytes_before),
            "on disk now": size(report.bytes_after),
            "seconds": report.seconds,
        }
    )


def _say_without_vector(report: AddReport | ReembedReport) -> None:
    for passage in report.without_vector:
        say(f"no vector: passage {passage.place}: {passage.reason}")
    if report.passages_without_vector:
        say(f"{report.passages_without_vector:,} passages are stored without a vector: BM25 finds them, dense does not")


def print_check(report: CheckReport) -> None:
    """Write what `check` has read to standard output, and what it found to standard error."""
    without = f", {report.files_without:,} more without" if report.files_without else ""
    print_facts(
        {
            "documents": report.documents,
            "passages": report.passages,
            "files": f"{report.files:,} with a checksum{without}",
            "indexes": report.indexes,
            "passages encoded again": report.not_encoded or report.encoded,
            "seconds": report.seconds,
            "damages": len(report.findings) or "none",
        }
    )
    for finding in report.findings:
        say(f"damaged: {finding}")


def print_reembed_report(report: ReembedReport) -> None:
    """Write what `reembed` did to standard output, and which passages have no vector to standard error."""
    _say_without_vector(report)
    print_facts(
        {
            "encoder": f"{report.encoder.name}, fingerprint {report.encoder.fingerprint}",
            "passages embedded": report.passages_embedded,
            "truncated passages": report.truncated_passages,
            "truncated tokens": report.truncated_tokens,
            "seconds": report.seconds,
        }
    )


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """Write what `doctor` found to standard output, and what is broken to standard error."""
    cpu, encoder, speed = diagnosis.processor, diagnosis.encoder, diagnosis.speed
    sets = "unknown" if cpu.instruction_sets is None else " ".join(cpu.instruction_sets) or "none known"
    facts: dict[str, object] = {"python": diagnosis.python, "platform": diagnosis.platform}
    facts |= {name: version or "missing" for name, version in diagnosis.packages.items()}
    for extra in diagnosis.extras:
        missing = f"not installed ({', '.join(extra.missing)}): {extra.command}"
        facts[f"extra {extra.name}"] = missing if extra.missing else "installed"
    facts |= {"processor": f"{cpu.model or 'unknown'}, {cpu.cores} usable cores", "instruction sets": sets}
    facts |= {"cache": diagnosis.cache_folder, "packaged encoders": ", ".join(diagnosis.packaged_encoders)}
    if encoder:
        facts |= {
            "encoder": f"{encoder.name}: {encoder.why}",
            "its bundle": f"{encoder.precision}, {size(encoder.bytes)}, {encoder.dimension} dimensions, "
            f"fingerprint {encoder.fingerprint}",
            "it runs on": f"{encoder.threads} threads; onnxruntime has {', '.join(encoder.providers)}",
        }
    if speed:
        facts["speed"] = f"{speed.passages_per_second:.0f} passages of 100 words a second"
        facts["a question"] = f"{speed.question_milliseconds:.1f} ms"
    facts["checks"] = "all passed" if not diagnosis.problems else f"{len(diagnosis.problems)} failed"
    print_facts(facts)
    for problem in diagnosis.problems:
        say(f"broken: {problem.what}")
        say(f"hint: {problem.remedy}")


def size(count: int | None) -> str:
    """Return a number of bytes as people read it."""
    if count is None:
        return "unknown"
    value, units = float(count), ["bytes", "kB", "MB", "GB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "bytes" else f"{value:.1f} {units[0]}"


class Watch:
    """The progress callback of `add`: moves a bar on a terminal, and remembers how far it has come.

    `share` tells how much of how much is done (None where the whole is unknown).
    """

    def __init__(self, share: Callable[[Advance], tuple[float, float | None]]) -> None:
        self._share = share
        self._bar: Progress | None = None
        self._last: Advance | None = None

    def __call__(self, advance: Advance) -> None:
        """Take note of how far the work has come."""
        self._last = advance
        if self._bar is not None:
            done, total = self._share(advance)
            self._bar.update(self._bar.task_ids[0], completed=done, total=total, count=advance.passages)

    @contextmanager
    def bar(self, what: str) -> Iterator[None]:
        """Show a bar on standard error while the block runs, where that is a terminal."""
        if not sys.stderr.isatty():
            yield
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[count]:,} passages embedded"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console_on(sys.stderr), transient=True) as self._bar:
            self._bar.add_task(what, total=None, count=0)
            yield
        self._bar = None

    def kept(self) -> str:
        """Say what an interruption leaves behind."""
        documents = self._last.documents if self._last else 0
        return f"{documents:,} documents were finished and are kept; the same command does the rest"


def console_on(stream: TextIO) -> Console:
    """Return a console that writes plain text as it is: no markup, no emoji codes, no guessed colours."""
    width = None if stream.isatty() else PIPE_WIDTH
    return Console(file=stream, width=width, markup=False, emoji=False, highlight=False)


def _index_line(index: IndexInfo) -> str:
    rest = f", {index.unindexed_rows:,} rows searched without it" if index.unindexed_rows else ""
    return f"{index.kind} on {index.column}: {index.indexed_rows:,} rows{rest}"


def one_line(text: str) -> str:
    """Return a text without line breaks, and without characters that would drive a terminal."""
    return _UNPRINTABLE.sub(" ", text)


def _shown(value: object) -> list[str]:
    """Return the lines that show a value to people."""
    if value is None:
        return ["–"]
    if isinstance(value, bool):
        return ["yes" if value else "no"]
    if isinstance(value, int):
        return [f"{value:,}"]
    if isinstance(value, float):
        return [f"{value:,.2f}" if abs(value) >= 1 else f"{value:.3g}"]
    if isinstance(value, Mapping):
        value = [f"{name} ({kind})" for name, kind in value.items()]
    lines = [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value) or ["none"]
    return [one_line(str(line)) for line in lines]


def _jsonable(value: Any) -> Any:  # noqa: ANN401, PLR0911 - a case for each kind of value that Arrow can hold
    """Return the value in JSON's own types: dates as ISO 8601, bytes as base64, NaN and infinity as null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # A field that `repr` leaves out is told elsewhere, as a hit's question by its `Hits`.
        return {field.name: _jsonable(getattr(value, field.name)) for field in dataclasses.fields(value) if field.repr}
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Iterable):
        return [_jsonable(item) for item in value]
    return str(value)


def _escaped_surrogates(text: str) -> str:
    """Return JSON that can be encoded: a lone surrogate (an argument that is not UTF-8) as its escape."""
    return text.encode("utf-8", errors="backslashreplace").decode() if not text.isascii() else text
