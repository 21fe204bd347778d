"""Exact gradients in little memory."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from dpr_lance.trainer import grad_cache
from dpr_lance.trainer.batches import Planner
from dpr_lance.trainer.checkpoints.description import read_checkpoint
from dpr_lance.trainer.checkpoints.locate import locate
from dpr_lance.trainer.config import Recipe
from dpr_lance.trainer.dual_encoder import DualEncoder
from dpr_lance.trainer.loop import token_texts
from dpr_lance.trainer.loss import Columns, batch_loss

from tests.trainer.checkpoints_made import dpr_pair
from tests.trainer.tiny_runs import corpus, model_of, relative


def gradients(model, how, chunk_tokens, *, dtype=torch.float32, naive=False, replay=True, hard=2):
    """The gradient of one batch, flattened, with its loss."""
    made = corpus(12, hard=hard)
    model = model.to(dtype).train()
    model.zero_grad()
    texts = token_texts(model, made, Recipe())
    batch = Planner(made, Recipe(batch_size=12, seed=0, hard_negatives=hard)).batch(0)
    asked = Columns(*(torch.from_numpy(part) for part in (batch.targets, batch.own, batch.excluded)))
    rows = {"question": batch.questions, "passage": batch.passages}
    chunks = grad_cache.plan(texts, rows, tokens=chunk_tokens, seed=5)
    passes = grad_cache.Passes(model, texts, torch.device("cpu"))
    if not replay:
        # The control: a second pass with other random numbers than the first.
        states = iter(range(10_000))

        class Unrepeatable(grad_cache.Passes):
            def vectors(self, chunk):
                return super().vectors(replace(chunk, seed=next(states)))

        passes = Unrepeatable(model, texts, torch.device("cpu"))
    if naive:
        # The other control: each half of the questions alone with its own passages, gradients accumulated.
        for part in np.array_split(np.arange(12), 2):
            wanted = np.flatnonzero(batch.own[part].any(axis=0))
            small = Columns(
                torch.from_numpy(np.searchsorted(wanted, batch.targets[part])),
                torch.from_numpy(batch.own[part][:, wanted]),
                torch.from_numpy(batch.excluded[part][:, wanted]),
            )
            some = {"question": batch.questions[part], "passage": batch.passages[wanted]}
            grad_cache.direct(
                passes,
                grad_cache.plan(texts, some, tokens=chunk_tokens, seed=5),
                lambda q, p, small=small: batch_loss(q, p, small, Recipe())[0] / 2,
            )
        value = torch.tensor(0.0)
    else:
        value = how(passes, chunks, lambda q, p: batch_loss(q, p, asked, Recipe())[0])
    flat = torch.cat([parameter.grad.reshape(-1) for parameter in model.parameters() if parameter.grad is not None])
    return flat.clone(), float(value)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_cached_gradients_are_those_of_the_whole_batch(tiny, dtype, tolerance):
    model = model_of(tiny, dropout=0.0)
    whole, loss = gradients(model, grad_cache.direct, 1 << 20, dtype=dtype)
    cached, cached_loss = gradients(model, grad_cache.cached, 32, dtype=dtype)
    assert relative(cached, whole) < tolerance
    assert cached_loss == pytest.approx(loss, rel=tolerance)


@pytest.mark.parametrize("kind", ["bert", "separate", "dpr"])
def test_cached_gradients_are_exact_with_dropout_and_for_two_encoders(tiny, tmp_path, kind):
    if kind == "dpr":
        dpr_pair(tmp_path / "pair", projection=8)
        model = DualEncoder(read_checkpoint(locate(tmp_path / "pair")))
    else:
        model = model_of(tiny, separate=kind == "separate")
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        direct, _ = gradients(model, grad_cache.direct, 32, dtype=dtype)
        cached, _ = gradients(model, grad_cache.cached, 32, dtype=dtype)
        assert relative(cached, direct) < tolerance


def test_without_the_same_dropout_or_the_whole_batch_gradients_would_be_wrong(tiny):
    model = model_of(tiny)
    direct, _ = gradients(model, grad_cache.direct, 32, dtype=torch.float64)
    unrepeated, _ = gradients(model, grad_cache.cached, 32, dtype=torch.float64, replay=False)
    assert relative(unrepeated, direct) > 0.1
    model = model_of(tiny, dropout=0.0)
    whole, _ = gradients(model, grad_cache.direct, 32, dtype=torch.float64, hard=0)
    accumulated, _ = gradients(model, grad_cache.direct, 32, dtype=torch.float64, naive=True, hard=0)
    assert relative(accumulated, whole) > 0.1
