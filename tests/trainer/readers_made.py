"""Small random checkpoints of readers, made with transformers itself."""

import torch
import transformers

from tests.trainer.checkpoints_made import (
    DISTIL,
    OFFSET,
    POSITIONS,
    SIZES,
    bert_tokenizer,
    edit_json,
    roberta_tokenizer,
)

POSITIONS_OF_READERS = 2 * POSITIONS
CLASSES = {
    "bert": ("Bert", SIZES),
    "distilbert": ("DistilBert", DISTIL),
    "electra": ("Electra", SIZES | {"embedding_size": 16}),
    "mpnet": ("MPNet", SIZES),
    "xlm-roberta": ("XLMRoberta", SIZES),
}


def tokenizer_of(folder, family):
    vocabulary = roberta_tokenizer(folder) if family in OFFSET else bert_tokenizer(folder)
    edit_json(folder / "tokenizer_config.json", model_max_length=POSITIONS_OF_READERS)
    return vocabulary


def saved(folder, family, head, **settings):
    """A checkpoint of a class with a head, such as `ForSequenceClassification`; returns the model."""
    name, sizes = CLASSES[family]
    offset = family in OFFSET
    config = getattr(transformers, f"{name}Config")(
        vocab_size=tokenizer_of(folder, family),
        max_position_embeddings=POSITIONS_OF_READERS + (2 if offset else 0),
        pad_token_id=1 if offset else 0,
        **(sizes | ({"type_vocab_size": 1} if family == "xlm-roberta" else {}) | settings),
    )
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}{head}")(config).eval()
    model.save_pretrained(folder)
    return model


def cross_encoder(folder, family="bert", *, labels=1, **settings):
    return saved(folder, family, "ForSequenceClassification", num_labels=labels, **settings)


def question_answering(folder, family="bert"):
    return saved(folder, family, "ForQuestionAnswering")


def dpr_reader(folder, *, projection=0):
    config = transformers.DPRConfig(
        vocab_size=tokenizer_of(folder, "bert"),
        max_position_embeddings=POSITIONS_OF_READERS,
        projection_dim=projection,
        **SIZES,
    )
    torch.manual_seed(0)
    model = transformers.DPRReader(config).eval()
    model.save_pretrained(folder)
    return model
