"""The losses over one matrix of scores, all in fp32: questions in rows, the passages of the whole batch in columns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .config import Recipe, Similarity

UNIT_TEMPERATURE = 0.05
"""Inner products of unit vectors lie within [-1, 1]: divided by this they can make a sharp softmax."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The passages of a batch as tensors on the device; as in `batches.Batch`."""

    targets: Tensor
    """int64 [B]."""
    own: Tensor
    excluded: Tensor
    """bool [B, C], as `own`."""
    teacher: Tensor | None = None
    """float32 [B, C]: a teacher's scores of each question's own passages; 0 elsewhere."""


def temperature_of(recipe: Recipe, *, normalise: bool) -> float:
    """Return what scores are divided by before the softmax, for vectors that the encoder normalises or not."""
    unit = recipe.similarity == "cosine" or (recipe.similarity == "dot" and normalise)
    return recipe.temperature or (UNIT_TEMPERATURE if unit else 1.0)


def similarity(questions: Tensor, passages: Tensor, kind: Similarity) -> Tensor:
    """Return scores [B, C], higher is better, of vectors [B, d] and [C, d]; L2 distances are negated (appendix B).

    Computed in fp32, or in fp64 where the vectors are.
    """
    questions, passages = (side if side.dtype == torch.float64 else side.float() for side in (questions, passages))
    if kind == "l2":
        return -torch.cdist(questions, passages)
    if kind == "cosine":
        questions, passages = (nn.functional.normalize(side, dim=-1) for side in (questions, passages))
    return questions @ passages.T


def batch_loss(
    questions: Tensor, passages: Tensor, columns: Columns, recipe: Recipe, *, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return the mean loss of a batch, and its scores [B, C] with -inf where a passage is not a candidate.

    The softmax NLL is equation 2 of the paper; a question's negatives are all other positives and all hard negatives of
    the batch that are not excluded.
    """
    scores = similarity(questions, passages, recipe.similarity)
    masked = scores.masked_fill(_excluded(scores, columns, recipe.false_negative_margin), float("-inf"))
    if recipe.loss == "triplet":
        return triplet(masked, columns.targets, recipe.triplet_margin), masked
    nll = nn.functional.cross_entropy(masked / temperature, columns.targets)
    if columns.teacher is None:
        return nll, masked
    if recipe.loss == "margin-mse":
        distilled = margin_mse(scores, columns.targets, columns.own, columns.teacher)
    else:
        distilled = divergence(scores / temperature, columns.own, columns.teacher)
    weight = recipe.teacher_weight
    return weight * distilled + (1 - weight) * nll, masked


def _excluded(scores: Tensor, columns: Columns, margin: float | None) -> Tensor:
    """Return bool [B, C]: what is not a negative of its row, or scores so well that it may be a positive."""
    if margin is None:
        return columns.excluded
    positive = scores.detach().gather(1, columns.targets[:, None])  # [B, 1]
    doubtful = scores.detach() > positive - margin * positive.abs()
    return columns.excluded | doubtful.scatter(1, columns.targets[:, None], value=False)


def triplet(scores: Tensor, targets: Tensor, margin: float) -> Tensor:
    """Return the mean over all (question, negative) pairs of max(0, margin - positive + negative) (appendix B)."""
    positive = scores.gather(1, targets[:, None])
    negative = torch.isfinite(scores).scatter(1, targets[:, None], value=False)
    return nn.functional.relu(margin - positive + scores)[negative].mean()


def margin_mse(scores: Tensor, targets: Tensor, own: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference of student's and teacher's margins (positive minus negative)."""
    negative = own.scatter(1, targets[:, None], value=False)
    margins = scores.gather(1, targets[:, None]) - scores
    wanted = teacher.gather(1, targets[:, None]) - teacher
    return nn.functional.mse_loss(margins[negative], wanted[negative])


def divergence(scores: Tensor, own: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean KL divergence of the student's softmax over a question's own passages from the teacher's."""
    student = scores.masked_fill(~own, float("-inf")).log_softmax(dim=1)
    wanted = teacher.masked_fill(~own, float("-inf")).log_softmax(dim=1)
    terms = wanted.exp() * (wanted - student)
    return terms.masked_fill(~own, 0.0).sum(dim=1).mean()
