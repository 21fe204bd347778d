"""The training loop: learning, evaluating, stopping and continuing with the same bits."""

import math
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from dpr_lance.trainer import run_checkpoints
from dpr_lance.trainer.config import Recipe
from dpr_lance.trainer.dual_encoder import DualEncoder
from dpr_lance.trainer.log import draw_curves, read_log
from dpr_lance.trainer.loop import Loop, token_texts
from dpr_lance.trainer.resumable import schedule

from dpr_lance import EncoderError, InvalidInputError
from tests.trainer.checkpoints_made import read_json
from tests.trainer.tiny_runs import RECIPE, TOKENS, Follower, corpus, looped, model_of, saved, state, steps_in


def trained(folder, tiny, *, steps=8, until=None, **changes):
    made = corpus(12)
    recipe = Recipe(**({"batch_size": 4, "learning_rate": 1e-3, "evaluate_every": 3, "compute": "fp32"} | changes))
    loop = Loop(model_of(tiny), made, recipe, steps=steps, folder=folder)
    resumed = loop.resume()
    loop.run(made, until=until)
    return loop, resumed


def test_a_resumed_run_ends_with_the_same_bits_and_the_same_log(tiny, tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "log.jsonl").write_text('{"kind": "step", "step": 0, "loss": 99.0}\n')  # cut off before any
    whole, _ = trained(tmp_path / "whole", tiny)
    _, resumed = trained(tmp_path / "parts", tiny, until=5)
    assert not resumed
    # What a crash left behind of steps that no checkpoint has.
    with (tmp_path / "parts" / "log.jsonl").open("a") as log:
        log.write('{"kind": "step", "step": 6, "loss": 99.0}\n{"kind": "st')
    parts, resumed = trained(tmp_path / "parts", tiny)
    assert resumed
    assert torch.equal(state(whole.model), state(parts.model))
    losses = [
        [record["loss"] for record in read_log(tmp_path / name / "log.jsonl") if record["kind"] == "step"]
        for name in ("whole", "parts")
    ]
    assert len(losses[0]) == 8
    assert losses[0] == losses[1]


def test_only_the_last_and_the_best_checkpoint_are_kept_and_other_settings_are_refused(tiny, tmp_path):
    scores = iter([0.0, 0.1, 0.9, 0.5, 0.4])  # the first one before any step
    made = corpus(12)
    recipe = Recipe(batch_size=4, evaluate_every=2, learning_rate=1e-3)
    loop = Loop(model_of(tiny), made, recipe, steps=8, folder=tmp_path, validate=lambda _: {"mrr": next(scores)})
    loop.run(made)
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-00000004", "step-00000008"]
    assert run_checkpoints.best(tmp_path).name == "step-00000004"
    told = [record for record in read_log(tmp_path / "log.jsonl") if record["kind"] == "evaluation"]
    assert [(record["step"], record["mrr"]) for record in told] == [(0, 0.0), (2, 0.1), (4, 0.9), (6, 0.5), (8, 0.4)]
    other = Loop(model_of(tiny), made, replace(recipe, learning_rate=1e-4), steps=8, folder=tmp_path)
    with pytest.raises(InvalidInputError, match="other settings or other data"):
        other.resume()


def test_titles_are_left_out_of_the_share_of_passages_that_is_asked_for(tiny):
    made = corpus(12)
    titled = replace(made, passages=tuple((TOKENS[number], text) for number, (_, text) in enumerate(made.passages)))
    seen = {}

    def weights_after(corpus, share):
        """The trained weights; `seen` keeps the lengths of the passages that were encoded."""
        recipe = Recipe(batch_size=12, hard_negatives=0, title_dropout=share, compute="fp32", learning_rate=1e-3)
        loop = Loop(model_of(tiny, dropout=0.0), corpus, recipe, steps=4)
        lengths = seen.setdefault(share, [])

        def noted(model, arguments):
            side, inputs = arguments
            if side == "passage":
                lengths.extend(inputs["attention_mask"].sum(dim=1).tolist())

        with loop.model.register_forward_pre_hook(noted):
            loop.run(corpus)
        assert loop.truncated == 0
        return state(loop.model)

    untitled = weights_after(made, 0.0)
    assert not torch.equal(weights_after(titled, 0.0), untitled)
    assert torch.equal(weights_after(titled, 1.0), untitled)
    some = weights_after(titled, 0.5)
    assert not torch.equal(some, untitled)
    assert torch.equal(weights_after(titled, 0.5), some)
    assert sum(seen[1.0]) < sum(seen[0.5][:48]) < sum(seen[1.0]) + 48


def test_it_stops_when_nothing_gets_better(tiny, tmp_path):
    made = corpus(12)
    recipe = Recipe(batch_size=4, evaluate_every=1, patience=2)
    loop = Loop(model_of(tiny), made, recipe, steps=20, validate=lambda _: {"mrr": 0.0})
    assert loop.run(made)
    assert loop.position.step == 3


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_batch(tiny, tmp_path):
    made = corpus(12)
    model = model_of(tiny)
    with torch.no_grad():
        next(model.parameters()).fill_(math.nan)
    loop = Loop(model, made, Recipe(batch_size=4), steps=3, folder=tmp_path)
    with pytest.raises(EncoderError, match=r"step 0: the loss is nan.*rows:\d+.*passages p\d+"):
        loop.run(made)
    assert len(read_json(tmp_path / "diverged-0.json")["questions"]) == 4
    assert not list(tmp_path.glob("step-*"))


def test_eight_pairs_are_learnt_by_heart(tiny, tmp_path):
    made = corpus(8, hard=0)
    recipe = Recipe(batch_size=8, learning_rate=3e-3, evaluate_every=60)
    loop = Loop(model_of(tiny, normalise=True, dropout=0.0), made, recipe, steps=60, folder=tmp_path)
    loop.run(made)
    texts = token_texts(loop.model, made, recipe)
    scores = loop.model.encode("question", texts["question"]) @ loop.model.encode("passage", texts["passage"]).T
    assert (scores.argmax(axis=1) == np.arange(8)).all()
    # What was saved is what was trained.
    loaded = DualEncoder(saved(run_checkpoints.best(tmp_path)))
    assert torch.equal(state(loaded), state(loop.model))
    if pytest.importorskip("matplotlib"):
        assert draw_curves(tmp_path).stat().st_size > 1000


@pytest.mark.parametrize("loss", ["margin-mse", "kl"])
def test_a_student_comes_to_order_passages_as_its_teacher_does(tiny, loss):
    made = corpus(12, hard=2)
    asked = []

    def teacher(pairs):
        """Against the labels: the longer text is the better one."""
        asked.extend(pairs)
        return [len(text) / 20 for _, (_, text) in pairs]

    recipe = Recipe(batch_size=12, hard_negatives=2, loss=loss, learning_rate=2e-3, evaluate_every=60, compute="fp32")
    with pytest.raises(InvalidInputError, match="learns from a teacher"):
        Loop(model_of(tiny), made, recipe, steps=1)
    loop = Loop(model_of(tiny, dropout=0.0), made, recipe, steps=60, teacher=teacher)

    def agreement():
        texts = token_texts(loop.model, made, recipe)
        scores = loop.model.encode("question", texts["question"]) @ loop.model.encode("passage", texts["passage"]).T
        better, texts_of = [], made.passages
        for question in range(12):
            first, *others = (made.gold[question][0], *made.hard[question])
            better += [
                (scores[question, first] > scores[question, at]) == (len(texts_of[first][1]) > len(texts_of[at][1]))
                for at in others
            ]
        return np.mean(better)

    loop.run(made)
    assert agreement() > 0.9
    assert len(asked) == len(set(asked)) == 36  # each pair once, however many epochs ask for it


def test_the_learning_rate_rises_and_falls_in_lines():
    factors = [schedule(step, 10, 0.2) for step in range(10)]
    assert factors == pytest.approx([0.5, 1.0, 1.0, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])


def test_a_checkpoint_is_kept_when_it_is_time(tiny, tmp_path, monkeypatch):
    loop, made = looped(tiny, tmp_path)
    assert loop.checkpoint_seconds == 300
    loop.checkpoint_seconds = 0.0  # after every step
    seen = []
    save = run_checkpoints.save
    monkeypatch.setattr(
        run_checkpoints, "save", lambda *given, **named: seen.append(given[3].step) or save(*given, **named)
    )
    loop.run(made)
    assert seen == [1, 2, 3, 4, 5, 6]  # the last one once, though it is evaluated too
    assert steps_in(tmp_path) == [6]


class StopsItself(Loop):
    """Gets a signal during its third step."""

    number = signal.SIGTERM

    def _step(self, batch, corpus, texts):
        if batch.step == 2:
            signal.raise_signal(self.number)
        return super()._step(batch, corpus, texts)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_finishes_the_step_keeps_it_and_a_resumed_run_ends_with_the_same_bits(
    tiny, tmp_path, capsys, monkeypatch, number, error
):
    whole, made = looped(tiny, tmp_path / "whole")
    whole.run(made)
    monkeypatch.setattr(StopsItself, "number", number)
    before = signal.getsignal(number)
    loop = StopsItself(model_of(tiny), made, RECIPE, steps=6, folder=tmp_path / "parts")
    with pytest.raises(error) as caught:
        loop.run(made)
    assert signal.getsignal(number) is before
    if error is SystemExit:
        assert caught.value.code == 128 + signal.SIGTERM
    assert "stopped after step 3 of 6" in capsys.readouterr().err
    assert steps_in(tmp_path / "parts") == [3]
    again, _ = looped(tiny, tmp_path / "parts")
    assert again.resume()
    assert again.position.step == 3
    again.run(made)
    assert torch.equal(state(again.model), state(whole.model))
    logs = [
        [record["loss"] for record in read_log(tmp_path / name / "log.jsonl") if record["kind"] == "step"]
        for name in ("whole", "parts")
    ]
    assert logs[0] == logs[1]


def test_other_threads_train_without_touching_signals(tiny):
    loop, made = looped(tiny, None, steps=1)
    thread = threading.Thread(target=loop.run, args=(made,))
    thread.start()
    thread.join()
    assert loop.position.step == 1


def test_the_first_process_decides_for_all_when_to_stop(tiny, monkeypatch):
    """Another process of the group has no signal itself, and keeps nothing."""
    monkeypatch.setattr(Follower, "agree", lambda self, value: 2.0, raising=False)
    loop, made = looped(tiny, None, steps=5, group=Follower())
    with pytest.raises(SystemExit):
        loop.run(made)
    assert loop.position.step == 1
