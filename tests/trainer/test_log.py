"""What a run reports while it trains."""

from dpr_lance.trainer import log
from dpr_lance.trainer.log import EveryMinute
from dpr_lance.trainer.loop import Loop

from tests.trainer.tiny_runs import RECIPE, Follower, corpus, looped, model_of


def test_without_a_terminal_there_is_a_line_at_once_and_then_one_a_minute(tiny, tmp_path, capsys, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(log.time, "monotonic", lambda: now[0])

    class Slow(Loop):
        def _step(self, batch, corpus, texts):
            now[0] += 25
            return super()._step(batch, corpus, texts)

    made = corpus(12)
    loop = Slow(model_of(tiny), made, RECIPE, steps=6, folder=tmp_path, validate=lambda _: {"mrr": 0.5})
    loop.run(made)
    lines = capsys.readouterr().err.splitlines()
    steps = [line for line in lines if line.startswith("training: step") and " of 6" in line]
    assert [line.split(",")[0] for line in steps] == ["training: step 1 of 6", "training: step 4 of 6"]
    assert "tokens/s" in steps[1]
    assert "about 1 minutes left" in steps[1]
    assert "training: step 6: mrr 0.500" in lines


def test_the_other_processes_of_a_group_say_nothing(tiny, capsys, monkeypatch):
    monkeypatch.setattr(Follower, "agree", lambda self, value: 0.0, raising=False)
    loop, made = looped(tiny, None, steps=1, group=Follower())
    loop.run(made)
    assert capsys.readouterr().err == ""


def test_a_line_a_minute_may_wait_for_the_first_minute(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(log.time, "monotonic", lambda: now[0])
    said = []
    lines = EveryMinute(said.append, at_once=False)
    for second in range(0, 200, 10):
        now[0] = float(second)
        lines.report(lambda second=second: str(second))
    assert said == ["60", "120", "180"]
