"""Tiny readers whose scores and spans can be computed by hand, in real bundles for onnxruntime and `tokenizers`."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from dpr_lance.reader.bundle import write_reader_bundle
from dpr_lance.reader.card import ReaderCard

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
CHARACTERS = tuple("abcdefghijklmnopqrstuvwxyz0123456789.,?!'-")
CARD = ReaderCard(
    name="tiny reader",
    fingerprint="tiny",
    input_style="pair",
    max_tokens=48,
    question_max_tokens=16,
    title_max_tokens=8,
    stride=8,
    licence="none",
)


def vocabulary(words=()):
    """Numbers of special tokens, characters and words."""
    return {token: number for number, token in enumerate(dict.fromkeys([*SPECIALS, *CHARACTERS, *words]))}


def tiny_reader_tokenizer(folder: Path, words=()) -> Path:
    """One token for each of `words` (in lower case) and for each character of other words; with padding and a cut."""
    tokenizer = Tokenizer(models.WordPiece(vocabulary(words), unk_token="[UNK]", continuing_subword_prefix=""))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_padding(length=12)
    tokenizer.enable_truncation(6)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def tiny_reader_graph(
    path: Path,
    *,
    words=(),
    bias=None,
    starts=None,
    ends=None,
    selects=True,
    extracts=True,
    counts_batch=False,
    has_rows=False,
) -> Path:
    """A graph that counts words in common.

    `select`: the pairs of a token of the question and the same token behind it (of type 1), plus the `bias` of each
    token of type 1; with `counts_batch` plus 100 for each sequence of the run. `start`, `end`: the number in `starts`,
    `ends` for the token (default 0), whatever the question. With `has_rows` there is an input `rows`: only so many
    tokens have a start and an end, and 1000 for each of them is added to `select`.
    """
    onnx = pytest.importorskip("onnx")
    numbers = vocabulary(words)

    def table(values):
        rows = np.zeros(len(numbers), dtype=np.float32)
        for token, value in (values or {}).items():
            rows[numbers[token]] = value
        return rows

    constants = {
        "one": np.array([1], dtype=np.int64),
        "two": np.array([2], dtype=np.int64),
        "last_special": np.array(3, dtype=np.int64),
        "nought": np.array([0], dtype=np.int64),
        "thousand": np.array(1000, dtype=np.float32),
        "hundred": np.array(100, dtype=np.float32),
        "zero_float": np.array(0, dtype=np.float32),
        "pairs_of_tokens": np.array([1, 2], dtype=np.int64),
        "bias": table(bias),
        "starts": table(starts),
        "ends": table(ends),
    }
    node = onnx.helper.make_node
    nodes = []
    if selects:
        nodes += [
            node("Cast", ["attention_mask"], ["mask"], to=onnx.TensorProto.BOOL),
            node("Cast", ["token_type_ids"], ["second"], to=onnx.TensorProto.BOOL),
            node("Not", ["second"], ["first"]),
            node("And", ["first", "mask"], ["in_question"]),
            node("And", ["second", "mask"], ["in_passage"]),
            node("Unsqueeze", ["input_ids", "two"], ["column"]),
            node("Unsqueeze", ["input_ids", "one"], ["row"]),
            node("Equal", ["column", "row"], ["same"]),
            node("Greater", ["column", "last_special"], ["a_word"]),
            node("Unsqueeze", ["in_question", "two"], ["asked"]),
            node("Unsqueeze", ["in_passage", "one"], ["given"]),
            node("And", ["same", "a_word"], ["same_word"]),
            node("And", ["same_word", "asked"], ["asked_word"]),
            node("And", ["asked_word", "given"], ["shared"]),
            node("Cast", ["shared"], ["shared_floats"], to=onnx.TensorProto.FLOAT),
            node("ReduceSum", ["shared_floats", "pairs_of_tokens"], ["count"], keepdims=0),
            node("Gather", ["bias", "input_ids"], ["biases"]),
            node("Where", ["in_passage", "biases", "zero_float"], ["passage_biases"]),
            node("ReduceSum", ["passage_biases", "one"], ["sum"], keepdims=0),
            node("Add", ["count", "sum"], ["select_alone" if counts_batch else "select"]),
        ]
    if counts_batch:
        nodes += [
            node("Shape", ["input_ids"], ["size"], end=1),
            node("Cast", ["size"], ["batch"], to=onnx.TensorProto.FLOAT),
            node("Mul", ["batch", "hundred"], ["hundreds"]),
            node("Add", ["select_alone", "hundreds"], ["select"]),
        ]
    if has_rows:
        nodes[-1].output[0] = "select_without_rows"
        nodes += [
            node("Cast", ["rows"], ["rows_float"], to=onnx.TensorProto.FLOAT),
            node("Mul", ["rows_float", "thousand"], ["thousands"]),
            node("Add", ["select_without_rows", "thousands"], ["select"]),
            node("Unsqueeze", ["rows", "nought"], ["row_count"]),
        ]
    for name, table_name in (("start", "starts"), ("end", "ends")) if extracts else ():
        nodes.append(node("Gather", [table_name, "input_ids"], [f"{name}_of_all" if has_rows else name]))
        if has_rows:
            nodes.append(node("Slice", [f"{name}_of_all", "nought", "row_count", "one"], [name]))
    value = onnx.helper.make_tensor_value_info
    outputs = [value("select", onnx.TensorProto.FLOAT, ["batch"])] if selects else []
    for name in ("start", "end") if extracts else ():
        outputs.append(value(name, onnx.TensorProto.FLOAT, ["batch", "rows" if has_rows else "tokens"]))
    names = ["input_ids", "attention_mask", "token_type_ids"]
    graph = onnx.helper.make_graph(
        nodes,
        "tiny",
        [
            *(value(name, onnx.TensorProto.INT64, ["batch", "tokens"]) for name in names),
            *([value("rows", onnx.TensorProto.INT64, [])] if has_rows else []),
        ],
        outputs,
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))
    return path


def tiny_reader(folder: Path, *, card=CARD, words=(), bias=None, starts=None, ends=None) -> Path:
    """The folder of a bundle inside `folder`; open it with `load_reader` or `Reader`.

    An answer to every question is the text from a token with a high number in `starts` to one with a high number in
    `ends`: `tiny_reader(tmp_path, words=["paris"], starts={"paris": 9}, ends={"paris": 9})`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    graph = tiny_reader_graph(
        folder / "graph.onnx",
        words=words,
        bias=bias,
        starts=starts,
        ends=ends,
        selects=card.selects,
        extracts=card.extracts,
    )
    files = {"tokenizer.json": tiny_reader_tokenizer(folder, words), "reader.onnx": graph}
    return write_reader_bundle(folder / "reader", card, files, precision="fp32", replace=True).folder
