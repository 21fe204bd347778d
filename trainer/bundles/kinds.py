"""What a checkpoint is: an encoder, a reader, or a late-interaction model. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Unpack

from dpr_lance.encoders.card import Precision
from dpr_lance.errors import InvalidInputError

from ..checkpoints.late_interaction import is_late_interaction
from ..checkpoints.locate import CheckpointSource, Named, Revision, locate
from ..checkpoints.overrides import Overrides
from ..checkpoints.readers import reader_kind
from .export import check_free, check_installed, export
from .export_late_interaction import export_late_interaction
from .export_reader import export_reader

CheckpointKind = Literal["encoder", "reader", "late-interaction"]


def checkpoint_kind(source: CheckpointSource, *, revision: Revision = None) -> CheckpointKind:
    """Return what `source` is, from the description next to its weights; raises `EncoderError` when it is not there.

    What is not recognised as one of the others is taken for an encoder.
    """
    if isinstance(source, tuple) or Path(source).is_file():
        return "encoder"
    return kind_in(locate(source, revision=revision).root)


def kind_in(folder: Path) -> CheckpointKind:
    """Return what the checkpoint in `folder` is."""
    if is_late_interaction(folder):
        return "late-interaction"
    return "reader" if reader_kind(folder) else "encoder"


def export_checkpoint(
    source: CheckpointSource,
    out: str | Path,
    *,
    precision: Precision,
    max_tokens: int | None = None,
    base: Named | None = None,
    revision: Revision = None,
    replace: bool = False,
    **settings: Unpack[Overrides],
) -> CheckpointKind:
    """Make a bundle of `source`, as `export`, `export_reader` or `export_late_interaction` does, and return its kind.

    A classifier or another checkpoint with heads is taken for an encoder when `pooling` is among the settings.
    Raises as these do, and `InvalidInputError` for settings of encoders with another kind.
    """
    name = settings.get("name")
    given = {setting: value for setting, value in settings.items() if value is not None and setting != "name"}
    if "pooling" not in given and base is None and not isinstance(source, tuple) and not isinstance(revision, tuple):
        check_free(Path(out), replace=replace)
        check_installed(f"making a bundle of the checkpoint {str(source)!r}")
        kind = checkpoint_kind(source, revision=revision)
        if kind != "encoder":
            if given:
                raise InvalidInputError(
                    f"{', '.join(given)}: settings of encoders, and {source} is a {kind} checkpoint"
                )
            make = export_reader if kind == "reader" else export_late_interaction
            make(source, out, precision=precision, max_tokens=max_tokens, name=name, revision=revision, replace=replace)
            return kind
    export(
        source,
        out,
        precision=precision,
        max_tokens=max_tokens,
        base=base,
        revision=revision,
        replace=replace,
        **settings,
    )
    return "encoder"
