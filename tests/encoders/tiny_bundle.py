"""Tiny encoders whose vectors can be computed by hand, and bundles of them."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from dpr_lance.encoders.bundle import MANIFEST, write_bundle
from dpr_lance.encoders.card import EncoderCard

LETTERS = "abcdefghijklmnopqrstuvwxyz"
CARD = EncoderCard(
    name="tiny", dimension=8, fingerprint="tiny", pooling="mean", question_max_tokens=16, passage_max_tokens=16
)


def tiny_tokenizer(folder: Path) -> Path:
    """One token a letter, BERT's special tokens, and the traps of real files: fixed padding and an early cut."""
    vocabulary = {token: index for index, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", continuing_subword_prefix=""))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_padding(length=12)
    tokenizer.enable_truncation(6)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def tiny_graph(path: Path, *, seed: int = 0, scale: float = 1.0, dimension: int = 8) -> Path:
    """A graph whose vector is the mean over tokens of (letter vector + segment vector), each row times `scale`."""
    onnx = pytest.importorskip("onnx")
    random = np.random.default_rng(seed)
    weights = {
        "letters": random.normal(size=(30, dimension)).astype(np.float32) * np.float32(scale),
        "segments": random.normal(size=(2, dimension)).astype(np.float32),
        "last": np.array([-1], dtype=np.int64),
        "tokens": np.array([1], dtype=np.int64),
    }
    node = onnx.helper.make_node
    nodes = [
        node("Gather", ["letters", "input_ids"], ["a"]),
        node("Gather", ["segments", "token_type_ids"], ["b"]),
        node("Add", ["a", "b"], ["states"]),
        node("Cast", ["attention_mask"], ["mask"], to=onnx.TensorProto.FLOAT),
        node("Unsqueeze", ["mask", "last"], ["column"]),
        node("Mul", ["states", "column"], ["masked"]),
        node("ReduceSum", ["masked", "tokens"], ["total"], keepdims=0),
        node("ReduceSum", ["column", "tokens"], ["count"], keepdims=0),
        node("Div", ["total", "count"], ["vector"]),
    ]
    names = ["input_ids", "attention_mask", "token_type_ids"]
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "tiny",
        [value(name, onnx.TensorProto.INT64, ["batch", "tokens"]) for name in names],
        [value("vector", onnx.TensorProto.FLOAT, ["batch", dimension])],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))
    return path


def made(tmp_path, *, graph=None, tokenizer=None, card=CARD):
    """A bundle of these files, with a manifest that fits them."""
    graph = graph or tiny_graph(tmp_path / "graph.onnx")
    files = {"tokenizer.json": tokenizer or tiny_tokenizer(tmp_path), "encoder.onnx": graph}
    return write_bundle(tmp_path / "bundle", card, files, precision="fp32", replace=True).folder


def rewritten(folder, name, content):
    """Put other contents into a file, and say so in the manifest, as a forger would."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / MANIFEST).write_text(json.dumps(manifest))
