"""The losses of small matrices worked by hand, and the one of sentence-transformers."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from dpr_lance.trainer.config import Recipe
from dpr_lance.trainer.loss import batch_loss

from tests.trainer.tiny_runs import (
    columns,
)


def test_loss_of_a_small_matrix_worked_by_hand():
    """Two questions; columns: positive of 0, positive of 1, hard negative of 0."""
    questions = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    passages = torch.tensor([[2.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
    # Scores [[2, 0, 1], [2, 2, 2]]: NLL log(1 + e^-2 + e^-1) and log 3.
    first, second = math.log(1 + math.exp(-2) + math.exp(-1)), math.log(3)
    asked = columns([0, 1], [[1, 0, 1], [0, 1, 0]])
    value, scores = batch_loss(questions, passages, asked, Recipe())
    assert scores.tolist() == [[2, 0, 1], [2, 2, 2]]
    assert float(value) == pytest.approx((first + second) / 2)
    # Divided by a temperature of 2 the first row is [1, 0, 0.5].
    value, _ = batch_loss(questions, passages, asked, Recipe(), temperature=2.0)
    assert float(value) == pytest.approx((math.log(1 + math.exp(-1) + math.exp(-0.5)) + second) / 2)
    # Column 0 is another positive of question 1: it is not its negative.
    value, _ = batch_loss(
        questions, passages, replace(asked, excluded=torch.tensor([[False] * 3, [True, False, False]])), Recipe()
    )
    assert float(value) == pytest.approx((first + math.log(2)) / 2)
    # Triplet with margin 1: rows max(0, 1 - 2 + [0, 1]) = [0, 0] and max(0, 1 - 2 + [2, 2]) = [1, 1].
    assert float(batch_loss(questions, passages, asked, Recipe(loss="triplet"))[0]) == pytest.approx(0.5)
    # Cosine: questions are axes, so scores are the coordinates of unit vectors; L2: negated distances.
    _, scores = batch_loss(questions, passages, asked, Recipe(similarity="cosine"))
    assert scores[0].tolist() == pytest.approx([2 / math.sqrt(5), 0, 1 / math.sqrt(2)])
    _, scores = batch_loss(questions, passages, asked, Recipe(similarity="l2"))
    assert scores[0].tolist() == pytest.approx([-math.sqrt(2), -math.sqrt(2), -1])


def test_a_negative_that_scores_above_the_positive_can_be_left_out():
    questions, passages = torch.tensor([[1.0]]), torch.tensor([[2.0], [1.99], [1.0]])
    value, scores = batch_loss(questions, passages, columns([0], [[1, 1, 1]]), Recipe(false_negative_margin=0.05))
    assert scores.tolist() == [[2.0, -math.inf, 1.0]]
    assert float(value) == pytest.approx(math.log(1 + math.exp(-1)))


def test_the_loss_is_the_one_of_sentence_transformers():
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    generator = torch.Generator().manual_seed(0)
    sides = [torch.randn(6, 8, generator=generator) for _ in range(3)]  # questions, positives, hard negatives

    class Identity(torch.nn.Module):
        """Stands for the encoder: hands out vectors that are there already."""

        def forward(self, features):
            return features

    theirs = losses.MultipleNegativesRankingLoss(Identity())  # cosine, scores times 20
    expected = theirs([{"sentence_embedding": side} for side in sides], torch.empty(0))
    own = np.concatenate([np.eye(6), np.eye(6)], axis=1)
    ours, _ = batch_loss(
        sides[0], torch.cat(sides[1:]), columns(list(range(6)), own), Recipe(similarity="cosine"), temperature=0.05
    )
    assert float(ours) == pytest.approx(float(expected), rel=1e-6)


def test_distillation_asks_for_the_teachers_margins_or_its_distribution():
    questions, passages = torch.tensor([[1.0]]), torch.tensor([[3.0], [1.0], [9.0]])
    teacher = torch.tensor([[5.0, 4.0, 0.0]])
    asked = columns([0], [[1, 1, 0]], teacher=teacher)
    value, _ = batch_loss(questions, passages, asked, Recipe(loss="margin-mse"))
    assert float(value) == pytest.approx((2 - 1) ** 2)
    value, _ = batch_loss(questions, passages, asked, Recipe(loss="kl"))
    wanted, student = torch.tensor([5.0, 4.0]).softmax(0), torch.tensor([3.0, 1.0]).softmax(0)
    assert float(value) == pytest.approx(float((wanted * (wanted / student).log()).sum()))
    nll, _ = batch_loss(questions, passages, asked, Recipe(loss="margin-mse", teacher_weight=0.0))
    assert float(nll) == pytest.approx(float(batch_loss(questions, passages, columns([0], [[1, 1, 0]]), Recipe())[0]))
