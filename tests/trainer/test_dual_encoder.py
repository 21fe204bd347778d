"""Every shape of encoder is saved as a checkpoint."""

import numpy as np
import pytest
from dpr_lance.trainer import run_checkpoints
from dpr_lance.trainer.checkpoints.description import read_checkpoint
from dpr_lance.trainer.checkpoints.locate import locate
from dpr_lance.trainer.config import Recipe
from dpr_lance.trainer.dual_encoder import DualEncoder
from dpr_lance.trainer.loop import Loop, token_texts

from tests.trainer.checkpoints_made import dpr_pair
from tests.trainer.tiny_runs import corpus, model_of, saved


@pytest.mark.parametrize("kind", ["projection", "separate", "dpr"])
def test_every_shape_of_encoder_is_saved_as_a_checkpoint(tiny, tmp_path, kind):
    if kind == "dpr":
        dpr_pair(tmp_path / "pair", projection=8)
        model = DualEncoder(read_checkpoint(locate(tmp_path / "pair")), projection=4)
    else:
        model = model_of(tiny, projection=8 if kind == "projection" else 0, separate=kind == "separate")
    made = corpus(12)
    loop = Loop(model, made, Recipe(batch_size=4, learning_rate=1e-3), steps=2, folder=tmp_path / "run")
    loop.run(made)
    checkpoint = saved(run_checkpoints.last(tmp_path / "run"))
    assert checkpoint.shared == (kind == "projection")
    assert checkpoint.passage.dimension == {"projection": 8, "separate": 32, "dpr": 4}[kind]
    loaded = DualEncoder(checkpoint)
    texts = token_texts(model, made, loop.recipe)
    for side in ("question", "passage"):
        assert np.allclose(loaded.encode(side, texts[side]), model.encode(side, texts[side]), atol=1e-6)
