"""A reader whose last layer before selection computes only the tokens that are asked for.

Selection reads [CLS] alone, so this layer's queries, its dense layers and its output are needed for one token; keys and
values are needed for all of them. An input `rows` of the graph says how many of the first tokens are computed: 1 to
score a passage, all of them to find spans in it. Layers that spans alone are read from get those tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .model import ReaderModel, is_bert_layer, layers_of


class LeadingRows(nn.Module):
    """A `ReaderModel` with the further input `rows`; `start` and `end` have that many columns."""

    def __init__(self, model: ReaderModel) -> None:
        super().__init__()
        self.model = model
        self._last = (_LastLayer(layers_of(model.bert)[-1]),)  # in a tuple its weights are not listed twice

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, rows: Tensor, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Return the logits of `ReaderModel`, those of spans for the first `rows` tokens (int64 [])."""
        layers = layers_of(self.model.bert)
        (last,) = self._last
        last.rows, last.mask = rows, attention_mask
        layer, layers[-1] = layers[-1], last
        try:
            found: tuple[Tensor, ...] = self.model(input_ids, attention_mask, token_type_ids)
        finally:
            layers[-1] = layer
        return found


class _LastLayer(nn.Module):
    """The computation of a layer of BERT for the first rows alone."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self._layer: Any = layer
        self.rows: Tensor
        self.mask: Tensor

    def forward(self, hidden_states: Tensor, *_: object, **__: object) -> Tensor:
        attention = self._layer.attention
        own, width = attention.self, hidden_states.shape[-1]
        first = hidden_states[:, : self.rows]  # [b, r, h]

        def heads(values: Tensor) -> Tensor:
            return values.view(values.shape[0], -1, own.num_attention_heads, own.attention_head_size).transpose(1, 2)

        hidden = (1.0 - self.mask[:, None, None, :].to(first.dtype)) * torch.finfo(first.dtype).min
        scores = heads(own.query(first)) @ heads(own.key(hidden_states)).transpose(2, 3)  # [b, n, r, s]
        weights = torch.softmax(scores * own.attention_head_size**-0.5 + hidden, dim=-1)
        context = (weights @ heads(own.value(hidden_states))).transpose(1, 2).reshape(first.shape[0], -1, width)
        return self._layer.feed_forward_chunk(attention.output(context, first))  # type: ignore[no-any-return]


def has_leading_rows(model: ReaderModel) -> bool:
    """Return whether the last layer has the parts of a layer of BERT."""
    return is_bert_layer(layers_of(model.bert)[-1])
