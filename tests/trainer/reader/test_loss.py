"""The reader's losses: values and gradients worked by hand."""

import math

import pytest
import torch
from dpr_lance.trainer.reader.loss import divergence, margin_mse, selection_loss, span_loss
from torch import tensor


def test_the_marginal_likelihood_and_its_gradient_are_those_worked_by_hand():
    """Four tokens, of which the first is the question's; P_start is (-, 1/2, 1/4, 1/4), P_end (-, 1/8, 1/8, 3/4)."""
    start = tensor([7.0, math.log(2), 0.0, 0.0], dtype=torch.float64, requires_grad=True)
    end = tensor([-9.0, 0.0, 0.0, math.log(6)], dtype=torch.float64, requires_grad=True)
    text = tensor([False, True, True, True])
    # The answer is tokens 1 to 1 and 2 to 3: 1/2 · 1/8 + 1/4 · 3/4 = 1/4.
    loss = span_loss(start, end, text, [(1, 1), (2, 3)])
    assert loss.item() == pytest.approx(math.log(4))
    loss.backward()
    # Each span's share of the sum is 1/4 and 3/4: the gradient of a logit is its probability minus its share.
    assert start.grad.tolist() == pytest.approx([0, 1 / 2 - 1 / 4, 1 / 4 - 3 / 4, 1 / 4])
    assert end.grad.tolist() == pytest.approx([0, 1 / 8 - 1 / 4, 1 / 8, 3 / 4 - 3 / 4])


def test_spans_that_share_a_token_count_twice():
    start, end = tensor([0.0, 0.0]), tensor([0.0, 0.0])
    text = tensor([True, True])
    assert float(span_loss(start, end, text, [(0, 0), (0, 1)])) == pytest.approx(math.log(2))


def test_the_selection_loss_and_its_gradient_are_those_worked_by_hand():
    scores = tensor([math.log(2), 0.0, 0.0], dtype=torch.float64, requires_grad=True)
    loss = selection_loss(scores)
    assert loss.item() == pytest.approx(math.log(2))
    loss.backward()
    assert scores.grad.tolist() == pytest.approx([-1 / 2, 1 / 4, 1 / 4])


def test_distillation_asks_for_the_teachers_margins_or_its_distribution():
    teacher = tensor([5.0, 3.0, -1.0])
    assert float(margin_mse(tensor([2.0, 1.0, -1.0]), teacher)) == pytest.approx((1 + 9) / 2)
    assert float(margin_mse(teacher + 4, teacher)) == 0
    assert float(divergence(teacher + 4, teacher, 2.0)) == pytest.approx(0, abs=1e-6)
    one, other = tensor([0.0, 0.0]), tensor([2 * math.log(3), 0.0])
    expected = 3 / 4 * math.log((3 / 4) / (1 / 2)) + 1 / 4 * math.log((1 / 4) / (1 / 2))
    assert float(divergence(one, other, 2.0)) == pytest.approx(expected)
