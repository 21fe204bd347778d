"""A tiny late-interaction model whose scores can be computed by hand, in a real bundle."""

import numpy as np
import pytest

from dpr_lance.reader.late_interaction_bundle import LateInteractionCard, write_late_interaction_bundle
from tests.reader.tiny_reader import tiny_reader_tokenizer, vocabulary

WIDTH = len(vocabulary())
CARD = LateInteractionCard(
    name="tiny", fingerprint="tiny", dimension=WIDTH, question_max_tokens=12, augmented_tokens=0, passage_max_tokens=20
)


def tiny_late_interaction(folder, card=CARD, *, precision="fp32", vectors="unit"):
    """Each token has a dimension of its own, so a score is the number of question tokens that the passage has."""
    onnx = pytest.importorskip("onnx")
    table = np.eye(WIDTH, dtype=np.float32) if vectors == "unit" else np.full((WIDTH, WIDTH), np.nan, np.float32)
    node, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    names = ["input_ids", "attention_mask"]
    graph = onnx.helper.make_graph(
        [node("Gather", ["table", "input_ids"], ["vectors"]), node("Identity", ["attention_mask"], ["unused"])],
        "tiny",
        [value(name, onnx.TensorProto.INT64, ["b", "s"]) for name in names],
        [value("vectors", onnx.TensorProto.FLOAT, ["b", "s", WIDTH])],
        [onnx.numpy_helper.from_array(table, "table")],
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "graph.onnx"
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))
    files = {"tokenizer.json": tiny_reader_tokenizer(folder), "late-interaction.onnx": path}
    return write_late_interaction_bundle(folder / "bundle", card, files, precision=precision, replace=True).folder
