"""The reader's losses (paper, section 6.1), and distillation of its selection; all in fp32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

Spans: TypeAlias = Sequence[tuple[int, int]]
"""First and last token of each occurrence of an answer."""


def selection_loss(scores: Tensor, positive: int = 0) -> Tensor:
    """Return -log P_selected(positive), equation 5, for the scores [m] of a question's passages."""
    return -scores.log_softmax(dim=0)[positive]


def span_loss(start: Tensor, end: Tensor, text: Tensor, spans: Spans) -> Tensor:
    """Return -log Σ P_start(s) · P_end(t) over all `spans` (s, t) of the answer, equations 3 and 4.

    `start` and `end` are the logits [s] of one passage, `text` (bool [s]) its tokens that can be in an answer: the
    probabilities are those among these.
    """
    first, last = (torch.tensor(side, device=start.device) for side in zip(*spans, strict=True))
    begins, ends = (logits.masked_fill(~text, float("-inf")).log_softmax(dim=0) for logits in (start, end))
    return -(begins[first] + ends[last]).logsumexp(dim=0)


def margin_mse(scores: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference of the margins (first passage minus another) from the teacher's.

    `scores` and `teacher` are those of a question's passages [m]; the first is the positive one.
    """
    return nn.functional.mse_loss(scores[:1] - scores[1:], teacher[:1] - teacher[1:])


def divergence(scores: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the KL divergence of the softmax of `scores` [m] from that of the teacher's, both over `temperature`."""
    wanted = (teacher / temperature).log_softmax(dim=0)
    return (wanted.exp() * (wanted - (scores / temperature).log_softmax(dim=0))).sum()
