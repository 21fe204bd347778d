"""Readers of transformers and of sentence-transformers as our module: the same weights, the same logits."""

from __future__ import annotations

from typing import Any

import transformers
from torch import nn

from ..checkpoints.readers import ReaderCheckpoint
from ..checkpoints.towers import load_transformer
from .model import ReaderModel, load_model


def load_reader_model(checkpoint: ReaderCheckpoint) -> ReaderModel:
    """Load the weights of a reader in fp32 with eager attention, in evaluation mode.

    Raises `EncoderError` when a weight is missing, has another shape, or cannot be read: none stays random.
    """
    tower = checkpoint.tower
    if checkpoint.kind == "trained":
        return load_model(tower.folder)
    if checkpoint.kind == "dpr":
        reader: Any = load_transformer(transformers.DPRReader, tower, bare=False)
        predictor = reader.span_predictor
        return _assembled(predictor.encoder.bert_model, select=predictor.qa_classifier, span=predictor.qa_outputs)
    if checkpoint.kind == "question-answering":
        extractor: Any = load_transformer(transformers.AutoModelForQuestionAnswering, tower, bare=False)
        return _assembled(_transformer(extractor), span=extractor.qa_outputs)
    classifier: Any = load_transformer(transformers.AutoModelForSequenceClassification, tower, bare=False)
    transformer, head = _transformer(classifier), classifier.classifier
    if tower.family == "bert":
        return _assembled(transformer, pool=transformer.pooler.dense, select=head)
    if tower.family == "distilbert":
        return _assembled(transformer, pool=classifier.pre_classifier, select=head, activation="relu")
    activation = "gelu" if tower.family == "electra" else "tanh"
    return _assembled(transformer, pool=head.dense, select=head.out_proj, activation=activation)


def _transformer(model: Any) -> Any:  # noqa: ANN401
    return getattr(model, model.base_model_prefix)


def _assembled(
    transformer: Any,  # noqa: ANN401
    *,
    pool: nn.Linear | None = None,
    select: nn.Linear | None = None,
    span: nn.Linear | None = None,
    activation: str = "tanh",
) -> ReaderModel:
    transformer.config.pool_activation = activation
    model = ReaderModel(transformer, pools=pool is not None, selects=select is not None, extracts=span is not None)
    model.pool, model.select, model.span = pool, select, span
    return model.eval()
