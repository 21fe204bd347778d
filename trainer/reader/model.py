"""The reader as a torch module: one transformer over question and passage, and heads for selection and spans.

A checkpoint of it is a folder:

    config.json            of the transformer, with the architecture "DprLanceReader"
    model.safetensors      `bert.*` (the transformer, of whatever family), `deeper.*` (the layers that spans alone are
                           read from; `span_layers` in config.json counts them), `pool.*`, `select.*`, `span.*` (row 0
                           start, row 1 end); a part that the reader does not have is missing
    tokenizer.json
    reader.json            the card
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor, nn

from dpr_lance.errors import EncoderError, InvalidInputError

from ..checkpoints.description import FAMILIES
from ..checkpoints.readers import TRAINED
from ..checkpoints.towers import read_weights

ACTIVATIONS = {"tanh": nn.Tanh(), "gelu": nn.GELU(), "relu": nn.ReLU()}
"""What may follow the dense layer `pool`."""
_LAYERS = ("encoder.layer", "transformer.layer")
"""Where the families keep the list of their layers; those of ModernBERT differ by their number."""


class ReaderModel(nn.Module):
    """P_start, P_end and P_selected before their softmax (paper, section 6.1, equations 3 to 5)."""

    def __init__(
        self, transformer: nn.Module, *, pools: bool = False, selects: bool = True, extracts: bool = True
    ) -> None:
        """Put new heads on `transformer`.

        With `pools` the selection head reads [CLS] through a dense layer and an activation function: tanh, as in BERT's
        cross-encoders, or what `pool_activation` in config.json names. Raises `EncoderError` when it is unknown.
        """
        super().__init__()
        whole: Any = transformer
        width = int(whole.config.hidden_size)
        if getattr(whole, "pooler", None) is not None:
            whole.pooler = None  # what selection needs of it is the dense layer `pool`
        named = getattr(whole.config, "pool_activation", "tanh")
        if named not in ACTIVATIONS:
            raise EncoderError(f"config.json: pool_activation {named!r} is not one of {', '.join(ACTIVATIONS)}")
        self.bert = transformer
        self.deeper = nn.ModuleList()
        self.activation = ACTIVATIONS[named]
        self.pool = nn.Linear(width, width) if pools and selects else None
        self.select = nn.Linear(width, 1) if selects else None
        self.span = nn.Linear(width, 2) if extracts else None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def config(self) -> Any:  # noqa: ANN401 - transformers' own
        """The configuration of the transformer."""
        transformer: Any = self.bert
        return transformer.config

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Return the logits select [b], start [b, s] and end [b, s] for inputs of shape [b, s].

        A reader without a selection head returns start and end alone, one without a span head select alone.
        """
        return self.read(input_ids, attention_mask, token_type_ids, spans_of=None)

    def read(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None, *, spans_of: Tensor | None
    ) -> tuple[Tensor, ...]:
        """Return what `forward` does, with start and end [n, s] of the rows `spans_of` alone, int64 [n]."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        states: Tensor = self.bert(**inputs).last_hidden_state  # [b, s, h]
        found: list[Tensor] = []
        if self.select is not None:
            first = states[:, 0]
            found.append(self.select(first if self.pool is None else self.activation(self.pool(first))).squeeze(-1))
        if self.span is not None:
            if spans_of is not None:
                states, attention_mask = states[spans_of], attention_mask[spans_of]
            if spans_of is None or len(spans_of):  # a layer of BERT refuses an empty batch
                states = self._deepened(states, attention_mask)
            found.extend(self.span(states).unbind(dim=-1))
        return tuple(found)

    def _deepened(self, states: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the states [n, r, h] after the layers that spans alone are read from, of the first r tokens."""
        read = attention_mask[:, None, None, : states.shape[1]].to(states.dtype)
        hidden = (1.0 - read) * torch.finfo(states.dtype).min
        for layer in self.deeper:
            states = layer(states, attention_mask=hidden)
        return states


def layers_of(transformer: nn.Module) -> nn.ModuleList:
    """Return the list of a transformer's layers; raises `EncoderError` where any may not be left out."""
    for name in _LAYERS:
        module: Any = transformer
        for part in name.split("."):
            module = getattr(module, part, None)
        if isinstance(module, nn.ModuleList):
            return module
    raise EncoderError(f"some layers of a {type(transformer).__name__} cannot be left out: train all of them")


def keep_layers(model: ReaderModel, kept: Sequence[int] | None, deeper: Sequence[int] | None = None) -> None:
    """Reduce the transformer to some of its layers, counted from 0, in this order: a student of the whole one.

    Spans alone are read from the layers `deeper`, which follow those. None: as it is. Raises `InvalidInputError` for
    numbers of other layers, `EncoderError` where the family's layers cannot be left out or cannot follow others.
    """
    layers = layers_of(model.bert)
    every = [*layers, *model.deeper]
    for name, numbers in (("layers", kept), ("span_layers", deeper)):
        if numbers is not None and (not numbers or any(not 0 <= number < len(every) for number in numbers)):
            raise InvalidInputError(f"{name}={list(numbers)!r}: name some of the {len(every)} layers, from 0")
    if deeper is not None:
        set_deeper_layers(model, [every[number] for number in deeper])
    if kept is not None:
        chosen = _copied(model, [every[number] for number in kept])
        del layers[:]
        layers.extend(chosen)
        model.config.num_hidden_layers = len(kept)


def set_deeper_layers(model: ReaderModel, layers: Sequence[nn.Module]) -> None:
    """Let spans be read after copies of `layers`; raises `EncoderError` where they are not layers of BERT."""
    if not all(is_bert_layer(layer) for layer in layers):
        raise EncoderError(f"span_layers: spans cannot be read from further layers of a {type(model.bert).__name__}")
    model.deeper = nn.ModuleList(_copied(model, layers))
    model.config.span_layers = len(layers)


def is_bert_layer(layer: Any) -> bool:  # noqa: ANN401 - of any family
    """Return whether a layer has the parts of one of BERT, as those of RoBERTa and ELECTRA have."""
    own = getattr(getattr(layer, "attention", None), "self", None)
    parts = ("query", "key", "value", "num_attention_heads", "attention_head_size")
    return hasattr(layer, "feed_forward_chunk") and all(hasattr(own, part) for part in parts)


def _copied(model: ReaderModel, layers: Sequence[nn.Module]) -> list[nn.Module]:
    """Return copies that share the model's configuration, which says how attention is computed."""
    config = model.config
    return [copy.deepcopy(layer, {id(config): config}) for layer in layers]


# Checkpoints


def save_model(model: ReaderModel, folder: Path) -> None:
    """Write config.json and model.safetensors, fp32, to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = copy.deepcopy(model.config)
    config.architectures = [TRAINED]
    config.save_pretrained(folder)
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def load_model(folder: Path) -> ReaderModel:
    """Read what `save_model` wrote, in evaluation mode; raises `EncoderError` when a weight is missing or unknown."""
    config: Any = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    weights = read_weights(folder)
    parts = {name.partition(".")[0] for name in weights}
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise EncoderError(
            f"{folder}: architecture {config.model_type!r} is not supported; supported are {', '.join(FAMILIES)}"
        )
    options = {"add_pooling_layer": False} if family.pooler else {}
    cls: Any = transformers.AutoModel
    transformer = cls.from_config(config, **options)
    model = ReaderModel(transformer, pools="pool" in parts, selects="select" in parts, extracts="span" in parts)
    if "deeper" in parts:
        count = getattr(config, "span_layers", 0)
        set_deeper_layers(model, [layers_of(model.bert)[0]] * count)
    load_weights(model, folder)
    return model.eval()


def load_weights(model: ReaderModel, folder: Path) -> None:
    """Put the weights that `save_model` wrote to `folder` into `model`, bit by bit."""
    try:
        model.load_state_dict(read_weights(folder))
    except RuntimeError as error:
        raise EncoderError(f"{folder} is not a checkpoint of this reader: {error}") from error
