"""Settings: from a file, with their types and ranges."""

import math
from dataclasses import replace

import pytest
from dpr_lance.trainer.config import Recipe, Run, read_run

from dpr_lance import InvalidInputError
from tests.trainer.tiny_runs import run_of


def test_settings_from_a_file_are_checked_and_what_is_given_wins(tmp_path):
    path = tmp_path / "train.toml"
    path.write_text('out = "mine"\nquestions = "nq.jsonl"\n[recipe]\nbatch_size = 8\n[mining]\ndepth = 20\n')
    run = read_run(path, batch_size=16, epochs=None, out="other")
    assert run == Run(
        out="other",
        questions=("nq.jsonl",),
        recipe=Recipe(batch_size=16),
        mining=replace(Run("o", ("q",)).mining, depth=20),
    )
    for line, reason in [
        ("batch = 3", "unknown settings batch"),
        ("loss = 'mse'", "loss='mse' is not one of nll, triplet, margin-mse, kl"),
        ("batch_size = 0", "batch_size=0: at least 1"),
        ("learning_rate = -1.0", "learning_rate=-1.0"),
        ("warmup = 1.5", "warmup=1.5"),
        ("title_dropout = 2.0", "title_dropout=2.0 is a share"),
    ]:
        path.write_text(f'out = "mine"\nquestions = ["nq.jsonl"]\n[recipe]\n{line}\n')
        with pytest.raises(InvalidInputError, match="^.*" + reason.replace("=", ".")):
            read_run(path)
    path.write_text("questions = []")
    with pytest.raises(InvalidInputError, match="out must be named"):
        read_run(path)


@pytest.mark.parametrize("minutes", [0, -1, math.nan, math.inf, "5", None, True])
def test_minutes_between_checkpoints_are_a_number_above_0(place, tmp_path, minutes):
    with pytest.raises(InvalidInputError, match="checkpoint_minutes"):
        run_of(place, tmp_path, checkpoint_minutes=minutes)


@pytest.mark.parametrize(
    ("name", "value"),
    [("epochs", "3"), ("seed", 1.5), ("batch_size", True), ("any_positive", 1), ("steps", "10"), ("warmup", None)],
)
def test_settings_have_their_types(name, value):
    with pytest.raises(InvalidInputError, match=name):
        Recipe(**{name: value})
