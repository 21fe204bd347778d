"""Checkpoints of a run: what inference needs (`encoder/`) and what resuming needs (`state.*`), kept apart.

    step-00000120/encoder/              a checkpoint like any other, see `dual_encoder.save_encoder`
    step-00000120/state.safetensors     the optimizer's moments
    step-00000120/state.json            step, best score, and what the run must agree with; written last
    best.json                           which step was best

A folder is written beside its place and renamed into it. The last and the best are kept, the others deleted.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dpr_lance.errors import InvalidInputError

from .dual_encoder import DualEncoder, load_weights, save_encoder

ENCODER = "encoder"
BEST = "best.json"
_STATE = "state"


@dataclass(frozen=True, slots=True)
class Position:
    """How far a run has come: `step` is the next one to take."""

    step: int
    phase: int = 0
    """Rounds of mining that are behind it."""
    best_score: float | None = None
    best_step: int = 0
    waited: int = 0
    """Evaluations since the best one."""


def save(
    folder: Path, model: DualEncoder, optimizer: torch.optim.Optimizer, position: Position, *, identity: str
) -> Path:
    """Write a checkpoint and return its folder; `identity` is what `resume` will ask for."""
    place = folder / f"step-{position.step:08d}"
    folder.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=folder))
    try:
        beside.chmod(0o755)
        (beside / ENCODER).mkdir()
        save_encoder(model, beside / ENCODER)
        save_file(_moments(model, optimizer), beside / f"{_STATE}.safetensors")
        state = {"identity": identity, "position": asdict(position)}
        (beside / f"{_STATE}.json").write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
        if place.exists():
            shutil.rmtree(place)
        beside.rename(place)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    if position.best_step == position.step and position.best_score is not None:
        _replace(folder / BEST, {"step": position.step, "score": position.best_score})
    _forget(folder, {position.step, position.best_step})
    return place


def last(folder: Path) -> Path | None:
    """Return the checkpoint of the latest step, None when there is none."""
    return max((path for path in folder.glob("step-*") if (path / f"{_STATE}.json").is_file()), default=None)


def best(folder: Path) -> Path | None:
    """Return the checkpoint that scored best, else the last one, None when there is none."""
    path = folder / BEST
    if path.is_file():
        place = folder / f"step-{json.loads(path.read_text(encoding='utf-8'))['step']:08d}"
        if place.is_dir():
            return place
    return last(folder)


def resume(place: Path, model: DualEncoder, optimizer: torch.optim.Optimizer, *, identity: str) -> Position:
    """Put weights and moments back as they were and return where the run stood.

    Raises `InvalidInputError` when the checkpoint is of a run with other settings or data.
    """
    state: dict[str, Any] = json.loads((place / f"{_STATE}.json").read_text(encoding="utf-8"))
    if state["identity"] != identity:
        raise InvalidInputError(
            f"{place} was made with other settings or other data, so this run cannot go on from it: "
            "name another folder, or put the settings back"
        )
    load_weights(model, place / ENCODER)
    _restore(model, optimizer, load_file(place / f"{_STATE}.safetensors"))
    return Position(**state["position"])


def _moments(model: DualEncoder, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{key}:{name}": value.detach().cpu().contiguous()
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _restore(model: DualEncoder, optimizer: torch.optim.Optimizer, moments: dict[str, Tensor]) -> None:
    parameters = dict(model.named_parameters())
    for key, value in moments.items():
        what, _, name = key.partition(":")
        parameter = parameters[name]
        optimizer.state[parameter][what] = value.to(parameter.device)


def _replace(path: Path, values: object) -> None:
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(json.dumps(values) + "\n", encoding="utf-8")
    os.replace(beside, path)  # noqa: PTH105


def _forget(folder: Path, kept: set[int]) -> None:
    for path in folder.glob("step-*"):
        if int(path.name.removeprefix("step-")) not in kept:
            shutil.rmtree(path)
