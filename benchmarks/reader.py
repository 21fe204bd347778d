"""Case `reader`: what re-ranking gains on labelled questions, what it costs, and how many questions are answered.

`quality` re-ranks the first 30 hybrid hits with the packaged reader. `speed` re-scores 10 and 30 passages of 100 words,
next to a cross-encoder of 12 layers through sentence-transformers (random weights: its time does not depend on them).
`answers` reads the spans of squad's dev questions in what each mode has found, as in the paper's section 6.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import dpr_lance
from benchmarks import data, machine, references, results
from benchmarks.quality import LARGE_SETS
from benchmarks.summaries import gain, p50_p99, ratios
from dpr_lance.evaluation.metrics import Interval
from dpr_lance.evaluation.results import Evaluation
from dpr_lance.inputs.questions import read_questions
from dpr_lance.reader.loading import DEFAULT_READER
from dpr_lance.reader.reranker import PassageText

SETS = (("squad", "dev"), ("medquad", "dev"), ("reqa-bioasq", "dev"), ("nq-gold", "dev"), ("cranfield", "test"))
OTHERS = ("speed", "answers")
ROWS = ("bm25", "dense", "hybrid", "hybrid+reader")
KS = (1, 5, 20)
CANDIDATES = 30
COUNTS = (10, 30)
"""Passages that are re-scored for one question."""
PAUSE = 0.05
OURS, TEACHER = "packaged reader, int8", "cross-encoder of 12 layers, sentence-transformers"
TEACHER_SIZE = {"num_hidden_layers": 12, "hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this case."""
    names = [*dict(SETS + LARGE_SETS), *OTHERS]
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join(names)} (default: all but {LARGE_SETS[0][0]})"
    )
    parser.add_argument("--passages", type=int, metavar="N", help="only the gold passages and as many others as make N")
    parser.add_argument("--questions", type=int, default=300, help="questions of a set, evenly spread (default 300)")
    parser.add_argument("--rounds", type=int, default=15, help="interleaved rounds of re-scoring (default 15)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the chosen parts. Returns the points of top-1 that re-ranking gains, and the ratios of times."""
    every = dict(SETS + LARGE_SETS)
    if unknown := set(options.parts) - {*every, *OTHERS}:
        raise SystemExit(f"unknown part {min(unknown)!r}; known: {', '.join([*every, *OTHERS])}")
    summary: dict[str, Any] = {}
    for name in options.parts or [*dict(SETS), *OTHERS]:
        print(f"reader: {name}", file=sys.stderr)
        if name == "speed":
            values = speed(options.rounds)
        elif name == "answers":
            values = answers(options.questions // 2)
        else:
            values = quality(name, every[name], options.questions, options.passages)
        results.write("reader", name, values)
        summary[name] = values["summary"]
    return summary


def quality(name: str, split: str, count: int, passages: int | None) -> dict[str, Any]:
    """Accuracy of each row on up to `count` questions of a set, over all its passages or `passages` of them."""
    questions = data.read(name, split)
    if passages:
        questions = questions.smaller(passages)
    asked = questions.questions[:: max(1, len(questions.questions) // count)][:count]
    large = (name, split) in LARGE_SETS
    case = "search" if large else f"reader-{name}-{machine.commit_state()[0]}"
    table = references.CACHE / case / str(len(questions.passages))
    with dpr_lance.connect(table) as retriever:
        retriever.add((passage.document for passage in questions.passages), splitter=None)
        if len(retriever) != len(questions.passages):
            raise RuntimeError(f"{questions.label}: {len(questions.passages)} passages added, {len(retriever)} stored")
        labelled = [
            dpr_lance.LabelledQuestion(each.id, each.text, labels=dict.fromkeys(each.gold, 1)) for each in asked
        ]
        found = dpr_lance.evaluate(retriever, labelled, modes=ROWS, ks=KS, rerank=True, candidates=CANDIDATES)
    if not large:
        shutil.rmtree(table)
    return summary_of(found) | {"split": split, "passages": len(questions.passages)}


def summary_of(found: Evaluation) -> dict[str, Any]:
    """What is kept of an evaluation: top-k accuracy and nDCG@10 of each row, and what re-ranking gains at each k."""
    ranks = {row: [(outcome.ranks("label") or {}).get(row, 0) for outcome in found.outcomes] for row in ROWS}
    return {
        "questions": found.questions,
        "reranker": next(row.reranker for row in found.rows if row.reranker),
        "accuracy": {row.name: [_per_cent(each) for each in row.by_label.values()] for row in found.rows},
        "ndcg@10": {row.name: _per_cent(row.measures["ndcg@10"]) for row in found.rows},
        "summary": {f"top{k}": gain(ranks["hybrid+reader"], ranks["hybrid"], k) for k in KS},
    }


def answers(count: int) -> dict[str, Any]:
    """Exact match and F1 of the answers to squad's dev questions, by search and by how many passages are read."""
    name, split = SETS[0]
    questions = data.read(name, split)
    known = {each.id: each.answers for each in read_questions(data.folder() / name, split=split)}
    asked = [
        dpr_lance.LabelledQuestion(each.id, each.text, known[each.id], dict.fromkeys(each.gold, 1))
        for each in questions.questions[:: max(1, len(questions.questions) // count)][:count]
    ]
    with tempfile.TemporaryDirectory() as table, dpr_lance.connect(table) as retriever:
        retriever.add((passage.document for passage in questions.passages), splitter=None)
        found = dpr_lance.evaluate_answers(retriever, asked)
    rows = [
        {"name": row.name, "k": row.k, "exact_match": _per_cent(row.exact_match), "f1": _per_cent(row.f1)}
        for row in found.rows
    ]
    return {
        "questions": found.questions,
        "passages": len(questions.passages),
        "rows": rows,
        "summary": {f"{row['name']} {row['k']}": row["exact_match"] for row in rows},
    }


def _per_cent(found: Interval) -> list[float]:
    return [100 * value for value in (found.mean, found.low, found.high)]


def speed(rounds: int) -> dict[str, Any]:
    """Milliseconds to re-score 10 and 30 passages of 100 words for a question; each contender with its own defaults."""
    passages = data.hundred_word_passages(max(COUNTS) * rounds)
    asked = data.read("nq-gold", "dev").texts[:rounds]
    with tempfile.TemporaryDirectory() as folder:
        contenders = {OURS: _ours(), TEACHER: _teacher(Path(folder))}
        for score in contenders.values():
            score(asked[0], passages[:2])
        taken: dict[str, dict[int, list[float]]] = {name: {count: [] for count in COUNTS} for name in contenders}
        for number, question in enumerate(asked):
            for name in sorted(contenders, reverse=bool(number % 2)):
                for count in COUNTS:
                    time.sleep(PAUSE)
                    started = time.perf_counter()
                    contenders[name](question, passages[number * max(COUNTS) :][:count])
                    taken[name][count].append(1000 * (time.perf_counter() - started))
    return {
        "rounds": rounds,
        "words": float(np.mean([len(text.split()) for _, text in passages])),
        "milliseconds": {name: {str(count): p50_p99(each) for count, each in of.items()} for name, of in taken.items()},
        "summary": {str(count): ratios(taken[OURS][count], taken[TEACHER][count]) for count in COUNTS},
    }


Score = Callable[[str, Sequence[tuple[str, str]]], Any]


def _ours() -> Score:
    reader = dpr_lance.load_reader(DEFAULT_READER)
    return lambda question, passages: reader.score(question, [PassageText(*each) for each in passages])


def _teacher(folder: Path) -> Score:
    """A cross-encoder of the size of ms-marco-MiniLM-L-12-v2 as sentence-transformers runs it."""
    import transformers
    from sentence_transformers import CrossEncoder

    tokenizer = dpr_lance.load_reader(DEFAULT_READER).bundle.verified("tokenizer.json")
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("cls", "sep", "pad", "unk", "mask")}
    fast: Any = transformers.PreTrainedTokenizerFast
    fast(tokenizer_file=str(tokenizer), **special).save_pretrained(folder)
    config: Any = transformers.BertConfig
    transformers.BertForSequenceClassification(config(**TEACHER_SIZE, num_labels=1)).save_pretrained(folder)
    model: Any = CrossEncoder(str(folder), max_length=512, local_files_only=True)
    return lambda question, passages: model.predict(
        [(question, data.joined(*each)) for each in passages], show_progress_bar=False
    )
