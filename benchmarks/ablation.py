# ruff: noqa: ANN401 - modules of the trainer are imported by name, on demand
"""The paper's ablation (tables 3 and 4, figure 1) on squad, at the size of two CPU cores."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks import data, results
from benchmarks.data import QuestionSet
from benchmarks.summaries import accuracies, gain, hits_within
from benchmarks.train_parts import (
    CACHE,
    KS,
    LAYERS,
    MAX_TOKENS,
    SEED,
    examples_of,
    shallow_checkpoint,
    trainer_module,
)


@dataclass(frozen=True)
class Arm:
    """One row: how its negatives come about; `after` names the arm that it goes on from."""

    label: str
    settings: dict[str, Any]
    questions: int | None = None
    after: str | None = None
    mined: bool = False


ARMS = {
    "untrained": Arm("untrained", {}),
    "random": Arm("3 random negatives, no in-batch", {"random_negatives": 3, "in_batch": 1, "hard_negatives": 0}),
    "in-batch-3": Arm("in-batch, 3 others", {"in_batch": 4, "hard_negatives": 0}),
    "in-batch-31": Arm("in-batch, 31 others", {"hard_negatives": 0}),
    "one-hard": Arm("in-batch + 1 BM25 negative", {"hard_negatives": 1}),
    "two-hard": Arm("in-batch + 2 BM25 negatives", {"hard_negatives": 2}),
    "thousand": Arm("in-batch + 1 BM25, 1,000 questions only", {"hard_negatives": 1}, questions=1000),
    "again": Arm("+ as many steps again, BM25 negative", {"hard_negatives": 1, "seed": 2}, after="one-hard"),
    "mined": Arm(
        "+ as many steps again, negatives mined by the encoder",
        {"hard_negatives": 1, "seed": 2},
        after="one-hard",
        mined=True,
    ),
}
COMPARED = (
    ("in-batch-31", "random"),
    ("one-hard", "in-batch-31"),
    ("two-hard", "one-hard"),
    ("mined", "again"),
    ("thousand", "untrained"),
)
POOL = 3000


def run(options: argparse.Namespace) -> dict[str, Any]:
    batches, config = trainer_module("batches"), trainer_module("config")
    dual_encoder, snapshots = trainer_module("dual_encoder"), trainer_module("run_checkpoints")

    steps, batch = options.steps, 32
    train = examples_of(data.read("squad", "train"))
    order = np.random.default_rng(SEED).permutation(len(train.rows))
    train = replace(train, rows=tuple(train.rows[int(at)] for at in order[: steps * batch]))
    dev = data.read("squad", "dev").smaller(POOL)
    settings_of_text = trainer_module("checkpoints.overrides").Overrides(
        title_style="joined", zero_token_types=True, question_max_tokens=MAX_TOKENS, passage_max_tokens=MAX_TOKENS
    )
    checkpoint = trainer_module("checkpoints.description").read_checkpoint(
        trainer_module("checkpoints.locate").locate(shallow_checkpoint(LAYERS)), settings_of_text
    )
    mined = None
    for name in options.arms:
        arm = ARMS[name]
        model = dual_encoder.DualEncoder(checkpoint)
        folder = CACHE / f"ablation-{steps}" / name
        started = time.perf_counter()
        if arm.after is not None:
            before = snapshots.last(CACHE / f"ablation-{steps}" / arm.after)
            if before is None:
                raise SystemExit(f"{name} goes on from {arm.after}: measure that first")
            dual_encoder.load_weights(model, before / dual_encoder.ENCODER)
        if name != "untrained":
            rows = replace(train, rows=train.rows[: arm.questions])
            if arm.settings["hard_negatives"]:
                mined = mined or _bm25_negatives(train)
                rows = trainer_module("mining").with_negatives(rows, mined.negatives)
            if arm.mined:
                found = _own_negatives(model, rows)
                rows = trainer_module("mining").with_negatives(rows, found.negatives, ahead=True)
                print(name, "dropped", found.dropped, "without", found.without, flush=True)
            settings = {"seed": SEED, "batch_size": batch, "learning_rate": 2e-4, "warmup": 0.1} | arm.settings
            recipe = config.Recipe(steps=steps, evaluate_every=20, **settings)
            corpus = batches.make_corpus([rows])
            loop = trainer_module("loop").Loop(model, corpus, recipe, steps=steps, folder=folder)
            loop.resume()  # an arm that was cut off goes on
            loop.run(corpus)
        seconds = time.perf_counter() - started
        ranks = _dense_ranks(model, dev)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "ranks.json").write_text(json.dumps({"ranks": ranks}))
        print(name, f"{seconds:.0f} s", [round(float(hits_within(ranks, k).mean()), 1) for k in KS], flush=True)
        del model
    ranks_of = {
        name: json.loads(path.read_text())["ranks"]
        for name in ARMS
        if (path := CACHE / f"ablation-{steps}" / name / "ranks.json").is_file()
    }
    results.write(
        "train",
        "ablation",
        {
            "steps": steps,
            "batch": batch,
            "layers": LAYERS,
            "max_tokens": MAX_TOKENS,
            "passages": len(dev.passages),
            "questions": len(dev.questions),
            "train_questions": len(train.rows),
            **compared(ranks_of),
        },
    )
    return {name: round(float(hits_within(ranks, 20).mean()), 1) for name, ranks in ranks_of.items()}


def compared(ranks_of: dict[str, list[int]]) -> dict[str, Any]:
    """What is kept of the arms: accuracies, and paired differences at top-5 and top-20."""
    return {
        "arms": {ARMS[name].label: accuracies(ranks, KS) for name, ranks in ranks_of.items()},
        "differences": [
            [ARMS[first].label, ARMS[second].label, *(gain(ranks_of[first], ranks_of[second], k) for k in (5, 20))]
            for first, second in COMPARED
            if {first, second} <= {*ranks_of}
        ],
    }


def _bm25_negatives(examples: Any) -> Any:
    """BM25 negatives through a real table of the set's passages, which is made once."""
    mining, settings = trainer_module("mining"), trainer_module("config").Mining(depth=50)

    with _table(examples) as retriever:
        rankings = mining.rank_through(retriever, examples.rows, "bm25", 50)
        return mining.mine(examples.rows, examples.passages, rankings, settings)


def _own_negatives(model: Any, examples: Any) -> Any:
    """What the encoder itself ranks too high in the whole table."""
    mining, settings = trainer_module("mining"), trainer_module("config").Mining(depth=50)

    encoder = _torch_encoder(model)
    with _table(examples) as retriever:
        rankings = mining.rank_all(
            retriever,
            examples.rows,
            examples.passages,
            encode_questions=encoder.encode_questions,
            encode_passages=encoder.encode_passages,
            depth=50,
        )
    return mining.mine(examples.rows, examples.passages, rankings, settings, round_number=1)


def _table(examples: Any) -> Any:
    import dpr_lance

    place = CACHE / f"{examples.name}.lance"
    made = place.exists()
    retriever = dpr_lance.connect(place)
    if not made:
        passages = examples.passages.values()
        retriever.add(
            ({"id": one.id, "title": one.title, "text": one.text} for one in passages), splitter=None, embed=False
        )
    return _Renamed(retriever)


class _Renamed:
    """The table under the ids of the set: a document is one passage there, and the id of the passage is the set's."""

    def __init__(self, retriever: Any) -> None:
        self._retriever = retriever

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self._retriever.close()

    def search(self, questions: Sequence[str], k: int, *, mode: str) -> list[list[Any]]:
        found = self._retriever.search(questions, k, mode=mode)
        return [[replace(hit, id=hit.document_id) for hit in hits] for hits in found]

    def passages(self) -> Any:
        return (replace(passage, id=passage.document_id) for passage in self._retriever.passages())

    def get(self, ids: Sequence[str]) -> list[Any]:
        return [replace(passage, id=passage.document_id) for passage in self._retriever.get(ids)]


def _torch_encoder(model: Any) -> Any:
    return trainer_module("validation").TorchEncoder(model, model.checkpoint.card("training"))


def _dense_ranks(model: Any, found: QuestionSet) -> list[int]:
    """The rank of each question's first labelled passage, by exact inner products."""
    encoder = _torch_encoder(model)
    questions = encoder.encode_questions([question.text for question in found.questions])
    passages = encoder.encode_passages([(passage.title, passage.text) for passage in found.passages])
    ranks = []
    for row, gold in zip(questions @ passages.T, found.gold_rows, strict=True):
        positives = np.array(sorted(gold))
        ranks.append(1 + int(np.count_nonzero(np.delete(row, positives) > row[positives].max())))
    return ranks
