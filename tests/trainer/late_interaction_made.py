"""Small random late-interaction checkpoints in the three layouts that exist."""

import torch
from safetensors.torch import load_file, save_file

from tests.trainer.checkpoints_made import edit_json, plain, read_json, write_json

DIMENSION = 16


def projection(seed=3):
    return torch.randn(DIMENSION, 32, generator=torch.Generator().manual_seed(seed)) / 4


def with_markers(folder):
    """Give the tokenizer the two tokens that BERT's vocabulary has for such ends, instead of two letters."""
    tokenizer = read_json(folder / "tokenizer.json")
    vocabulary = tokenizer["model"]["vocab"]
    for rare, marker in (("##q", "[unused0]"), ("##x", "[unused1]")):
        vocabulary[marker] = vocabulary.pop(rare)
    write_json(folder / "tokenizer.json", tokenizer)


def colbert(folder, **metadata):
    """ColBERT's own layout, as colbertv2.0 has it."""
    plain(folder, "bert")
    with_markers(folder)
    weights = {f"bert.{name}": value for name, value in load_file(folder / "model.safetensors").items()}
    save_file(weights | {"linear.weight": projection()}, folder / "model.safetensors", metadata={"format": "pt"})
    edit_json(folder / "config.json", architectures=["HF_ColBERT"])
    described = {"query_maxlen": 16, "doc_maxlen": 60, "dim": DIMENSION, "attend_to_mask_tokens": False}
    write_json(folder / "artifact.metadata", described | metadata)


def pylate(folder, *, prefixes=("[unused0] ", "[unused1] "), **described):
    """PyLate's layout up to its version 3: a transformer and a dense layer."""
    plain(folder, "bert")
    with_markers(folder)
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Dense", "type": "pylate.models.Dense.Dense"},
    ]
    write_json(folder / "modules.json", modules)
    dense = {"in_features": 32, "out_features": DIMENSION, "bias": False}
    identity = "torch.nn.modules.linear.Identity"
    write_json(folder / "1_Dense" / "config.json", dense | {"activation_function": identity})
    save_file({"linear.weight": projection()}, folder / "1_Dense" / "model.safetensors", metadata={"format": "pt"})
    settings = {
        "model_type": "ColBERT",
        "query_prefix": prefixes[0],
        "document_prefix": prefixes[1],
        "query_length": 20,
        "document_length": 50,
        "attend_to_expansion_tokens": False,
        "skiplist_words": [".", ","],
        "similarity_fn_name": "MaxSim",
        "prompts": {},
    }
    write_json(folder / "config_sentence_transformers.json", settings | described)
