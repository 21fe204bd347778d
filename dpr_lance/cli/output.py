"""What the command line shows of each report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dpr_lance.cli.console import print_facts, print_json, progress_bar, say
from dpr_lance.health.check_report import CheckReport
from dpr_lance.records.reports import AddReport, IndexInfo, IndexReport, ReembedReport
from dpr_lance.records.reports import Progress as Advance
from dpr_lance.records.table_info import RerankCalibration, TableInfo

if TYPE_CHECKING:
    from dpr_lance.cli.doctor import Diagnosis


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


def info_facts(info: TableInfo) -> dict[str, object]:
    """Return what a table holds."""
    card, calibration, learned = info.encoder, info.calibration, info.learned
    return {
        "table": f"{info.table} in {info.uri}",
        "documents": info.documents,
        "passages": info.passages,
        "with a vector": info.embedded,
        **({"incomplete, until embed or optimize": info.incomplete} if info.incomplete else {}),
        "encoder": card and f"{card.name}, {card.dimension} dimensions, fingerprint {card.fingerprint}",
        "splitter": info.splitter,
        "language": info.language,
        "metadata": info.metadata,
        "indexes": [_index_line(index) for index in info.indexes],
        "vector search": "exact" if info.recall is None else f"approximate, recall {info.recall:.3f}",
        "calibration": calibration and f"λ {calibration.hybrid_weight:.4g}, {calibration.mode} by default",
        "answers": info.answers and f"withheld below {info.answers.threshold:.2g}, for {info.answers.reader}",
        "learnt": learned and f"λ {learned.hybrid_weight:.4g} from {learned.questions} questions that were asked",
        "re-ranking": calibration and calibration.rerank and rerank_line(calibration.rerank),
        "on disk": size(info.bytes_on_disk),
        "versions": info.versions,
    }


def index_facts(report: IndexReport) -> dict[str, object]:
    """Return what `optimize` did."""
    return {
        "built again": report.built,
        "indexes": [_index_line(index) for index in report.indexes],
        "recall of the vector index": report.recall,
        "on disk before": size(report.bytes_before),
        "on disk now": size(report.bytes_after),
        "seconds": report.seconds,
    }


def check_facts(report: CheckReport) -> dict[str, object]:
    """Return what `check` has read, and write what it found to standard error."""
    for finding in report.findings:
        say(f"damaged: {finding}")
    without = f", {report.files_without:,} more without" if report.files_without else ""
    return {
        "documents": report.documents,
        "passages": report.passages,
        "files": f"{report.files:,} with a checksum{without}",
        "indexes": report.indexes,
        "passages encoded again": report.not_encoded or report.encoded,
        "seconds": report.seconds,
        "damages": len(report.findings) or "none",
    }


def reembed_facts(report: ReembedReport) -> dict[str, object]:
    """Return what `reembed` did, and write to standard error which passages have no vector."""
    _say_without_vector(report)
    return {
        "encoder": f"{report.encoder.name}, fingerprint {report.encoder.fingerprint}",
        "passages embedded": report.passages_embedded,
        "truncated passages": report.truncated_passages,
        "truncated tokens": report.truncated_tokens,
        "seconds": report.seconds,
    }


def _say_without_vector(report: AddReport | ReembedReport) -> None:
    for passage in report.without_vector:
        say(f"no vector: passage {passage.place}: {passage.reason}")
    if report.passages_without_vector:
        say(f"{report.passages_without_vector:,} passages are stored without a vector: BM25 finds them, dense does not")


def diagnosis_facts(diagnosis: Diagnosis) -> dict[str, object]:
    """Return what `doctor` found, and write what is broken to standard error."""
    for problem in diagnosis.problems:
        say(f"broken: {problem.what}")
        say(f"hint: {problem.remedy}")
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
        facts["speed"] = f"{speed.passages_per_second:.0f} passages of 100 words per second"
        facts["a question"] = f"{speed.question_milliseconds:.1f} ms"
    if diagnosis.packaged_readers:
        facts["packaged readers"] = ", ".join(diagnosis.packaged_readers)
    if reader := diagnosis.reader:
        facts["reader"] = f"{reader.name}, {reader.precision}, {size(reader.bytes)}, fingerprint {reader.fingerprint}"
        if reader.milliseconds is not None:
            facts["re-ranking"] = f"{reader.milliseconds:.0f} ms for {reader.passages} passages of 100 words"
    return facts | {"checks": f"{len(diagnosis.problems)} failed" if diagnosis.problems else "all passed"}


def size(count: int | None) -> str:
    """Return a number of bytes as people read it."""
    if count is None:
        return "unknown"
    value, units = float(count), ["bytes", "kB", "MB", "GB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "bytes" else f"{value:.1f} {units[0]}"


def rerank_line(chosen: RerankCalibration) -> str:
    """Return which reader was calibrated, and whether searches use it unasked."""
    when = "by default" if chosen.by_default else "on request"
    return f"{chosen.reader} {when}, retrieval weight {chosen.retrieval_weight:.4g}"


def _index_line(index: IndexInfo) -> str:
    rest = f", {index.unindexed_rows:,} rows searched without it" if index.unindexed_rows else ""
    return f"{index.kind} on {index.column}: {index.indexed_rows:,} rows{rest}"


class Watch:
    """The progress callback of `add`: moves a bar on a terminal, and remembers how far the work has come.

    `share` returns how much is done, and of how much (None where the whole is unknown).
    """

    def __init__(
        self,
        share: Callable[[Advance], tuple[float, float | None]] = lambda done: (done.passages, done.passages_total),
    ) -> None:
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
        """Show a bar while the block runs."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[count]:,} passages embedded"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with progress_bar(*columns) as self._bar:
            self._bar.add_task(what, total=None, count=0)
            yield

    def kept(self) -> str:
        """Say what an interruption leaves behind."""
        documents = self._last.documents if self._last else 0
        return f"{documents:,} documents were finished and are kept; the same command does the rest"
