"""Checkpoints of a run: what inference needs (`encoder/` or `reader/`) and what resuming needs (`state.*`), kept apart.

    step-00000120/encoder/              a checkpoint like any other, see `dual_encoder.save_encoder`, `reader.student`
    step-00000120/state.safetensors     the optimizer's moments
    step-00000120/state.json            step, best score, what the run must agree with, and the sha256 of every file
    best.json                           which step was best

A checkpoint is written to a temporary folder and renamed. The last and the best are kept, the others deleted. A
damaged file is reported, and never trained on or exported.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dpr_lance.checks import checked_fields, shown
from dpr_lance.errors import EncoderError, InvalidInputError

BEST = "best.json"
_STATE = "state"


class Trainable(Protocol):
    """A model in training: an encoder or a reader."""

    part: str
    """Name of its folder in a checkpoint."""

    def save(self, folder: Path) -> None:
        """Write the model as a checkpoint of its own to the empty `folder`."""
        ...

    def restore(self, folder: Path) -> None:
        """Put the weights that `save` wrote to `folder` into the model, bit by bit."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield each weight with its name."""
        ...


@dataclass(frozen=True, slots=True)
class Position:
    """How far a run has come: `step` is the next one to take."""

    step: int
    phase: int = 0
    """Rounds of mining that are done."""
    best_score: float | None = None
    best_step: int = 0
    waited: int = 0
    """Evaluations since the best one."""


def save(
    folder: Path, model: Trainable, optimizer: torch.optim.Optimizer, position: Position, *, identity: str
) -> Path:
    """Write a checkpoint and return its folder; `resume` requires the same `identity`."""
    place = folder / f"step-{position.step:08d}"
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=folder))
    try:
        temporary.chmod(0o755)
        (temporary / model.part).mkdir()
        model.save(temporary / model.part)
        save_file(_moments(model, optimizer), temporary / f"{_STATE}.safetensors")
        state = {"identity": identity, "position": asdict(position), "files": _hashes(temporary)}
        state |= {"sha256": _hash_of(state)}
        (temporary / f"{_STATE}.json").write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
        if place.exists():
            shutil.rmtree(place)
        temporary.rename(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    if position.best_step == position.step and position.best_score is not None:
        new = folder / f".{BEST}.new"
        new.write_text(json.dumps({"step": position.step, "score": position.best_score}) + "\n", encoding="utf-8")
        new.replace(folder / BEST)
    for path in folder.glob("step-*"):
        if int(path.name.removeprefix("step-")) not in (position.step, position.best_step):
            shutil.rmtree(path)
    return place


def last(folder: Path) -> Path | None:
    """Return the checkpoint of the latest step, None when there is none."""
    return max((path for path in folder.glob("step-*") if (path / f"{_STATE}.json").is_file()), default=None)


def best(folder: Path) -> Path | None:
    """Return the checkpoint that scored best, else the last one, None when there is none.

    Raises `EncoderError` that names the file when one of them is damaged.
    """
    path = folder / BEST
    place = None
    if path.is_file():
        step = _read(path).get("step")
        if type(step) is not int or step < 0:
            raise EncoderError(f"{path} is damaged (step is {shown(step)}): delete it to take the last checkpoint")
        place = folder / f"step-{step:08d}"
    found = place if place is not None and place.is_dir() else last(folder)
    if found is not None:
        verified(found)
    return found


def verified(place: Path) -> Position:
    """Return the position of a checkpoint's run; raise `EncoderError`, which names the file, when one has changed."""
    return _state(place)[0]


def _state(place: Path) -> tuple[Position, str]:
    """Return a checkpoint's position and identity; raise `EncoderError` when a file is not as it was written."""
    path = place / f"{_STATE}.json"
    state = _read(path)
    expected = state.pop("sha256", None)
    try:
        position = Position(**state["position"])
        problem = checked_fields(position) or ("" if expected == _hash_of(state) else "its contents have changed")
        identity, files = state["identity"], dict(state["files"])
    except (KeyError, TypeError, ValueError) as error:
        problem = f"{type(error).__name__}: {error}"
    if problem:
        raise EncoderError(f"{path} is damaged ({problem}): {_remedy(place)}")
    there = _hashes(place)
    for name in sorted(files.keys() | there.keys()):
        if files.get(name) != there.get(name):
            what = "is missing" if name not in there else "is damaged, or does not belong there"
            raise EncoderError(f"{place / name} {what}: {_remedy(place)}")
    return position, identity


def _remedy(place: Path) -> str:
    return f"delete {place} to continue from the checkpoint before it, or from the start"


def _read(path: Path) -> dict[str, Any]:
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise EncoderError(f"{path} is damaged ({error}): {_remedy(path.parent)}") from error
    if not isinstance(values, dict):
        raise EncoderError(f"{path} is damaged (it is not a JSON object): {_remedy(path.parent)}")
    return values


def _hashes(folder: Path) -> dict[str, str]:
    hashes = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != f"{_STATE}.json":
            with path.open("rb") as stream:
                hashes[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return hashes


def _hash_of(values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def resume(place: Path, model: Trainable, optimizer: torch.optim.Optimizer, *, identity: str) -> Position:
    """Restore weights and moments, and return the position of the run.

    Raises `InvalidInputError` for a checkpoint of a run with other settings or data, `EncoderError` for damaged files.
    """
    position, made_with = _state(place)
    if made_with != identity:
        raise InvalidInputError(
            f"{place} was made with other settings or other data, so this run cannot continue from it: "
            "name another folder, or restore the settings"
        )
    model.restore(place / model.part)
    _restore(model, optimizer, load_file(place / f"{_STATE}.safetensors"))
    return position


def _moments(model: Trainable, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{key}:{name}": value.detach().cpu().contiguous()
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _restore(model: Trainable, optimizer: torch.optim.Optimizer, moments: dict[str, Tensor]) -> None:
    parameters = dict(model.named_parameters())
    for key, value in moments.items():
        what, _, name = key.partition(":")
        parameter = parameters[name]
        optimizer.state[parameter][what] = value.to(parameter.device)
