"""What is found out before work begins."""

import pytest
from dpr_lance.trainer.training import train

from dpr_lance import EncoderError, InvalidInputError, MissingExtraError, StorageError
from tests.trainer.tiny_runs import few, run_of


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
