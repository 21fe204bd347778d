"""A tiny cross-encoder as the packaged reader's teacher is published: an int8 ONNX file with its tokenizer."""

import warnings

import torch
import transformers
from onnxruntime.quantization import QuantType, quantize_dynamic

from tests.trainer.checkpoints_made import POSITIONS, SIZES, bert_tokenizer


def published(folder, *, quantised=True):
    """Write model.onnx and tokenizer.json; return the model that they were made of."""
    vocabulary = bert_tokenizer(folder)
    torch.manual_seed(0)
    sizes = SIZES | {"hidden_size": 48, "num_attention_heads": 12}
    config = transformers.BertConfig(
        vocab_size=vocabulary, max_position_embeddings=POSITIONS, num_labels=1, attn_implementation="eager", **sizes
    )
    model = transformers.BertForSequenceClassification(config).eval()
    torch.nn.init.normal_(model.classifier.weight)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(
                parameter, 1.0 if "LayerNorm.weight" in name else 0.0, 0.1
            )  # equal ones would be stored once
    names = ["input_ids", "attention_mask", "token_type_ids"]
    ids = torch.randint(5, 10, (2, 9), generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (ids, torch.ones_like(ids), torch.zeros_like(ids)),
            str(folder / ("plain.onnx" if quantised else "model.onnx")),
            input_names=names,
            output_names=["logits"],
            dynamic_axes={name: {0: "batch", 1: "sequence"} for name in names} | {"logits": {0: "batch"}},
            opset_version=17,
            dynamo=False,
        )
    if quantised:
        quantize_dynamic(folder / "plain.onnx", folder / "model.onnx", weight_type=QuantType.QUInt8)
    return model
