"""Tiny models, corpora and runs for the tests of the trainer."""

import json

import numpy as np
import torch
from dpr_lance.trainer.batches import make_corpus
from dpr_lance.trainer.checkpoints.description import read_checkpoint
from dpr_lance.trainer.checkpoints.locate import locate
from dpr_lance.trainer.checkpoints.overrides import Overrides
from dpr_lance.trainer.config import Recipe, Run
from dpr_lance.trainer.distributed import Group
from dpr_lance.trainer.dual_encoder import DualEncoder
from dpr_lance.trainer.examples import Example, Examples, KnownPassage
from dpr_lance.trainer.loop import Loop
from dpr_lance.trainer.loss import Columns

from tests.trainer.checkpoints_made import WORDS

TOKENS = WORDS.split()


def examples(questions=12, *, hard=1, seed=0):
    """Questions of two words whose passage says them both, among others of random words."""
    rng = np.random.default_rng(seed)
    passages, rows = {}, []
    for number in range(questions):
        words = [TOKENS[number % len(TOKENS)], TOKENS[(number // len(TOKENS) + 3 * number + 1) % len(TOKENS)]]
        filler = rng.choice(TOKENS, int(rng.integers(1, 12)))
        passages[f"p{number}"] = KnownPassage(f"p{number}", "", " ".join([*words, *filler, str(number)]))
        negatives = tuple(f"p{(number + 1 + at) % questions}" for at in range(hard))
        rows.append(Example(f"rows:{number}", " ".join([*words, str(number)]), (f"p{number}",), negatives))
    return Examples("tiny", tuple(rows), passages)


def corpus(questions=12, **options):
    return make_corpus([examples(questions, **options)])


def columns(targets, own, excluded=None, teacher=None):
    own = torch.tensor(own, dtype=torch.bool)
    excluded = torch.zeros_like(own) if excluded is None else torch.tensor(excluded, dtype=torch.bool)
    return Columns(torch.tensor(targets), own, excluded, teacher)


def saved(folder):
    """What a checkpoint of a run says of itself."""
    return read_checkpoint(locate(folder / "encoder"))


def model_of(folder, *, dropout=None, normalise=False, **options):
    model = DualEncoder(read_checkpoint(locate(folder), Overrides(pooling="mean", normalise=normalise)), **options)
    if dropout is not None:
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = dropout
            if hasattr(module, "dropout_prob"):
                module.dropout_prob = dropout
            if isinstance(getattr(module, "attention_dropout", None), float):
                module.attention_dropout = dropout
    return model


def state(model):
    return torch.cat([value.reshape(-1) for value in model.state_dict().values()])


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


RECIPE = Recipe(batch_size=4, learning_rate=1e-3, evaluate_every=100, compute="fp32")


def looped(tiny, folder, *, steps=6, recipe=RECIPE, **options):
    made = corpus(12)
    loop = Loop(model_of(tiny), made, recipe, steps=steps, folder=folder, **options)
    return loop, made


def steps_in(folder):
    return sorted(int(path.name.removeprefix("step-")) for path in folder.glob("step-*"))


class Follower(Group):
    """Stands for a process that is not the first of its group."""

    first = False


SENTENCES = [f"{word} {TOKENS[(at * 3 + 1) % len(TOKENS)]} {at}" for at, word in enumerate(TOKENS)]
"""Questions, each of which one passage of the fixture `place` answers."""


def rows(folder, *more):
    found = [{"question": sentence, "positives": [f"p{at}"]} for at, sentence in enumerate(SENTENCES)]
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (*found, *more)))
    return path


def few(folder):
    path = folder / "few.jsonl"
    path.write_text(json.dumps({"question": "paris", "positives": ["p1"]}) + "\n" +
                    json.dumps({"question": "france", "positives": ["p2"]}) + "\n")  # fmt: skip
    return path


def run_of(place, tmp_path, **changes):
    recipe = Recipe(steps=2, batch_size=4, hard_negatives=1, compute="fp32", **changes.pop("recipe", {}))
    chosen = {
        "out": str(tmp_path / "out"),
        "questions": (str(place / "questions.jsonl"),),
        "table": str(place / "table.lance"),
        "encoder": str(place / "encoder"),
        "precision": "fp32",
        "validation_questions": 3,
        "validation_passages": 30,
        "recipe": recipe,
    }
    return Run(**(chosen | changes))
