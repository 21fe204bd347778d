"""Damaged checkpoints of a run are found before they are used."""

import pytest
from dpr_lance.trainer import run_checkpoints

from dpr_lance import EncoderError
from tests.trainer.tiny_runs import looped


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
