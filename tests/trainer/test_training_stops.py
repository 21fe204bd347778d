"""What an interruption of a training costs, what a run tells while it goes, and what is found out before it begins."""

import json
import math
import signal
import threading

import pytest
import torch
from dpr_lance.trainer import log, run_checkpoints
from dpr_lance.trainer.config import Recipe, Run
from dpr_lance.trainer.distributed import Group
from dpr_lance.trainer.dual_encoder import save_encoder
from dpr_lance.trainer.examples import Example
from dpr_lance.trainer.log import EveryMinute, read_log
from dpr_lance.trainer.loop import Loop
from dpr_lance.trainer.mining import rank_through
from dpr_lance.trainer.stopping import Stopping
from dpr_lance.trainer.training import train

import dpr_lance
from dpr_lance import EncoderError, InvalidInputError, MissingExtraError, StorageError
from tests.encoders.picky import BAD, Picky
from tests.trainer.checkpoints_made import WORDS, plain
from tests.trainer.test_training import corpus, model_of, state

RECIPE = Recipe(batch_size=4, learning_rate=1e-3, evaluate_every=100, compute="fp32")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    plain(folder, "bert")
    return folder


def looped(tiny, folder, *, steps=6, recipe=RECIPE, **options):
    made = corpus(12)
    loop = Loop(model_of(tiny), made, recipe, steps=steps, folder=folder, **options)
    return loop, made


def steps_in(folder):
    return sorted(int(path.name.removeprefix("step-")) for path in folder.glob("step-*"))


# Checkpoints


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


def test_a_second_signal_is_not_held_back():
    asked = []

    def stubborn():
        with Stopping() as stopping:
            signal.raise_signal(signal.SIGINT)
            asked.append(stopping.asked)
            signal.raise_signal(signal.SIGINT)
            asked.append("went on")

    with pytest.raises(KeyboardInterrupt):
        stubborn()
    assert asked == [signal.SIGINT]


def test_a_signal_that_comes_too_late_is_not_lost():
    def leave():
        with Stopping():
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        leave()


def test_other_threads_train_without_touching_signals(tiny):
    loop, made = looped(tiny, None, steps=1)
    ended = []
    thread = threading.Thread(target=lambda: ended.append(loop.run(made)))
    thread.start()
    thread.join()
    assert ended[0].position.step == 1


class Follower(Group):
    """Stands for a process that is not the first of its group."""

    first = False


def test_the_first_process_decides_for_all_when_to_stop(tiny, monkeypatch):
    """Another process of the group has no signal itself, and keeps nothing."""
    monkeypatch.setattr(Follower, "agree", lambda self, value: 2.0, raising=False)
    loop, made = looped(tiny, None, steps=5, group=Follower())
    with pytest.raises(SystemExit):
        loop.run(made)
    assert loop.position.step == 1


@pytest.fixture(scope="module")
def kept(tiny, tmp_path_factory):
    """The folder of a run that has a checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    loop, made = looped(tiny, folder, steps=2)
    loop.run(made)
    return folder


def copied(kept, tmp_path):
    place = run_checkpoints.last(kept)
    for path in place.rglob("*"):
        if path.is_file():
            target = tmp_path / place.name / path.relative_to(place)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return tmp_path / place.name


def test_a_flipped_byte_of_any_file_is_found_before_it_is_trained_on_or_exported(kept, tiny, tmp_path):
    place = copied(kept, tmp_path)
    files = sorted(path for path in place.rglob("*") if path.is_file())
    assert {"state.json", "state.safetensors", "model.safetensors", "encoder.json"} <= {path.name for path in files}
    for path in files:
        before = path.read_bytes()
        changed = bytearray(before)
        at = max(index for index, byte in enumerate(changed) if chr(byte).isalnum()) if path.suffix == ".json" else -9
        changed[at] ^= 1
        path.write_bytes(changed)
        loop, _ = looped(tiny, tmp_path, steps=2)
        with pytest.raises(EncoderError, match=rf"{path.name}.*delete .*{place.name}"):
            loop.resume()
        with pytest.raises(EncoderError, match=path.name):
            run_checkpoints.best(tmp_path)
        path.write_bytes(before)
    loop, _ = looped(tiny, tmp_path, steps=2)
    assert loop.resume()


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.with_name("further.json").write_text("{}"),
    ],
)
def test_missing_cut_and_further_files_are_named(kept, tmp_path, change):
    place = copied(kept, tmp_path)
    change(place / "encoder" / "model.safetensors")
    with pytest.raises(EncoderError, match=r"model\.safetensors|further\.json"):
        run_checkpoints.verified(place)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff", b'{"position": 5}', b'{"position": {"step": "x"}}', b"[" * 100_000]
)
def test_a_damaged_state_is_a_named_error(kept, tmp_path, content):
    place = copied(kept, tmp_path)
    (place / "state.json").write_bytes(content)
    with pytest.raises(EncoderError, match=r"state\.json is damaged .*delete"):
        run_checkpoints.verified(place)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"step": "2"}', b'{"step": null}', b'{"step": -1}'])
def test_a_damaged_note_of_the_best_step_is_a_named_error(kept, tmp_path, content):
    copied(kept, tmp_path)
    (tmp_path / "best.json").write_bytes(content)
    with pytest.raises(EncoderError, match=r"best\.json is damaged"):
        run_checkpoints.best(tmp_path)


# What is told


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


# Before work begins


def rows(folder, *more):
    words = WORDS.split()
    found = [
        {"question": f"{word} {words[(at * 3 + 1) % len(words)]} {at}", "positives": [f"p{at}"]}
        for at, word in enumerate(words)
    ]
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (*found, *more)))
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny):
    """A table and questions; BM25 mining has a page that no tokenizer reads to pass over."""
    folder = tmp_path_factory.mktemp("place")
    words = WORDS.split()
    documents = [
        {"id": f"p{at}", "text": f"{word} {words[(at * 3 + 1) % len(words)]} {at} of the tower"}
        for at, word in enumerate(words)
    ]
    documents += [{"id": "page", "text": "\ufffd" * 30}, {"id": "titled", "title": "tower", "text": "\ufffd" * 30}]
    with dpr_lance.connect(folder / "table.lance", encoder=dpr_lance.HashEncoder()) as retriever:
        retriever.add(documents, splitter=None)
    rows(folder)
    (folder / "encoder").mkdir()
    for path in tiny.iterdir():
        (folder / "encoder" / path.name).write_bytes(path.read_bytes())
    save_encoder(model_of(tiny, normalise=True), folder / "encoder")
    return folder


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


@pytest.fixture
def no_mining(monkeypatch):
    def mined(*_, **__):
        raise AssertionError("mining began")

    monkeypatch.setattr("dpr_lance.trainer.training.rank_through", mined)


def test_everything_that_can_be_known_is_found_out_before_mining(place, tmp_path, no_mining, monkeypatch):
    def fails(kind, message, **changes):
        with pytest.raises(kind, match=message):
            train(run_of(place, tmp_path, **changes))

    empty = tmp_path / "no weights"
    empty.mkdir()
    for path in (place / "encoder").rglob("*"):
        if path.is_file() and path.suffix != ".safetensors":
            target = empty / path.relative_to(place / "encoder")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    fails(EncoderError, "weights cannot be loaded", encoder=str(empty))
    fails(InvalidInputError, r"missing\.jsonl does not exist", questions=(str(tmp_path / "missing.jsonl"),))
    fails(InvalidInputError, r"missing\.jsonl does not exist", dev=str(tmp_path / "missing.jsonl"))
    fails(InvalidInputError, "learns from a teacher's scores", recipe={"loss": "kl"})
    fails(InvalidInputError, "do not fill a batch", recipe={"in_batch": None}, questions=(str(few(tmp_path)),))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("x")
    fails(InvalidInputError, "exists and is not an encoder bundle", out=str(tmp_path / "mine"), replace=True)
    (tmp_path / "file").write_text("x")
    fails(StorageError, "file.* cannot be written", out=str(tmp_path / "file" / "out"))
    fails(StorageError, "file.* cannot be written", work=str(tmp_path / "file" / "work"))
    free = type("Free", (), {"free": 1000})
    with monkeypatch.context() as patched:
        patched.setattr("dpr_lance.trainer.preflight.shutil.disk_usage", lambda _: free)
        fails(StorageError, r"0\.0 GB free, and 3 checkpoints of this encoder take")
    with monkeypatch.context() as patched:
        patched.setattr("dpr_lance.trainer.bundles.export.NEEDED", ("torch", "no_such_package"))
        fails(MissingExtraError, r"training needs packages.*dpr-lance\[train\]")
    (tmp_path / "work" / "step-00000001").mkdir(parents=True)
    (tmp_path / "work" / "step-00000001" / "state.json").write_text("{")
    fails(EncoderError, r"state\.json is damaged", work=str(tmp_path / "work"))


def few(folder):
    path = folder / "few.jsonl"
    path.write_text(json.dumps({"question": "paris", "positives": ["p1"]}) + "\n" +
                    json.dumps({"question": "france", "positives": ["p2"]}) + "\n")  # fmt: skip
    return path


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


# Texts without a token


def test_texts_that_the_tokenizer_makes_nothing_of_are_named_and_left_out(place, tmp_path):
    bad = [
        {"question": "\ufffd" * 5, "positives": ["p1"]},
        {"question": "who wrote faust", "positives": ["page"]},
        {"question": "what is the tower", "positives": ["p3", "page"], "hard_negatives": ["page", "p4"]},
    ]
    path = rows(tmp_path, *bad)
    first = len(WORDS.split()) + 1
    with pytest.raises(
        InvalidInputError, match=rf"2 bad rows\n.*:{first}: the question is blank.*\n.*:{first + 1}: its"
    ):
        train(run_of(place, tmp_path, questions=(str(path),)))
    said = []
    run = run_of(place, tmp_path, questions=(str(path),), on_error="skip", rounds=1)
    report = train(run, say=said.append)
    assert report.steps == 2
    assert report.train_questions + report.dev_questions == len(WORDS.split()) + 1
    told = "\n".join(said)
    assert f"skipped: {path}:{first}: the question is blank" in told
    assert f"skipped: {path}:{first + 1}: its positive passage 'page" in told
    # Where titles are dropped, the text alone has to have a token.
    titled = run_of(place, tmp_path, out=str(tmp_path / "titled"), recipe={"title_dropout": 0.5})
    assert train(titled).steps == 2


def test_mining_by_vectors_passes_over_a_question_without_one_and_names_it(tmp_path):
    rows = [Example(f"q:{at}", text) for at, text in enumerate(("river 1", f"{BAD} 2", "river 3"))]
    with dpr_lance.connect(tmp_path / "table", encoder=Picky("NaN")) as retriever:
        retriever.add([{"id": f"d{at}", "text": f"river {at}"} for at in range(5)])
        named = []
        found = rank_through(retriever, rows, "dense", 3, unencodable=lambda row, why: named.append((row.place, why)))
        assert [len(ranking.candidates) for ranking in found] == [3, 0, 3]
        assert [place for place, _ in named] == ["q:1"]
        with pytest.raises(InvalidInputError, match="no vector of the question"):
            list(rank_through(retriever, rows, "dense", 3))
