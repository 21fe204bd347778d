"""One ONNX graph of a bundle in an onnxruntime session: token ids in, floats out, on the CPU or a GPU."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpr_lance.encoders.bundle_folder import BundleFolder
from dpr_lance.encoders.card import Precision
from dpr_lance.encoders.onnx_file import external_data
from dpr_lance.errors import DprLanceError, EncoderError

if TYPE_CHECKING:  # loaded with the first graph: importing this module stays cheap
    import onnxruntime

CPU, GPU = "CPUExecutionProvider", "CUDAExecutionProvider"
CPU_TOKENS = 1024
"""Token budget of a batch on the CPU: 1.1 times faster than budgets of 2,048, 1.4 times than 4,096 (sorted, fp32)."""
GPU_TOKENS = 32768

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
ROWS = "rows"
"""A further input that a graph may have: how many of the first tokens its last layer computes."""
FLOATS = ("tensor(float)", "tensor(float16)", "tensor(double)")


class Tokens(NamedTuple):
    """One sequence: token ids and their types (0 or 1), which may be left out where the graph's kind has only zeros."""

    ids: Sequence[int]
    types: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class GraphKind:
    """What a graph computes: the shape of each output, where "b" stands for the batch and "s" for its longest sequence.

    "r" stands for the first tokens that are asked for, all where the graph has no input `rows`.
    An encoder: `{"vector": ("b", 384)}`; a reader: `{"select": ("b",), "start": ("b", "r"), "end": ("b", "r")}`.
    """

    model: str
    """The noun for messages: `encoder`, `reader`."""
    outputs: Mapping[str, tuple[str | int, ...]]
    wanted: str
    """The shapes in words: `the card says 384 dimensions`."""
    zero_token_types: bool
    """Every token has type 0, whatever the tokenizer says."""
    error: type[DprLanceError]
    may_have_rows: bool = False
    """The graph may have the input `rows`."""


def providers(precision: Precision, available: Sequence[str]) -> list[str]:
    """Return onnxruntime's execution providers for a graph, best first, among those that are available.

    Int8 operators have no CUDA kernels: each would copy its input to the CPU and back.
    """
    return [*([GPU] if precision != "int8" and GPU in available else []), CPU]


class Graph:
    """The graph `name` of a bundle; when a GPU fails, onnxruntime reports it on standard error and uses the CPU.

    `budget` is how many padded tokens a batch may have: 0 on int8 graphs, which run one sequence at a time, because
    dynamic int8 scales would depend on the neighbours in a batch.
    """

    def __init__(self, bundle: BundleFolder[Any], name: str, kind: GraphKind) -> None:
        import onnxruntime  # noqa: PLC0415

        self._kind = kind
        self._path = bundle.verified(name)
        self._refuse_external_data()
        options = onnxruntime.SessionOptions()
        # One thread a run, several runs at once: see OnnxEncoder. Spinning threads slow a busy machine down by half.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_mem_pattern = False  # it would keep a plan for each sequence length
        options.log_severity_level = 3
        wanted = providers(bundle.precision, onnxruntime.get_available_providers())
        if GPU in wanted:  # CUDA's libraries may come from PyPI; missing ones are printed
            with contextlib.redirect_stdout(sys.stderr):
                onnxruntime.preload_dlls()
        try:
            self._session: onnxruntime.InferenceSession = onnxruntime.InferenceSession(
                str(self._path),
                options,
                providers=wanted,
                # Its fused kernel takes three times as long as Add and LayerNormalization: 10 % of an int8 passage.
                disabled_optimizers=["SkipLayerNormFusion"],
            )
        except Exception as error:
            raise kind.error(
                f"{self._path} cannot be loaded by onnxruntime {onnxruntime.__version__}: {error}"
            ) from error
        self._inputs = self._checked_inputs()
        self.on_cpu = self._session.get_providers()[0] == CPU
        one_sequence = bundle.precision == "int8"
        self.budget = 0 if one_sequence else CPU_TOKENS if self.on_cpu else GPU_TOKENS

    @property
    def path(self) -> Path:
        """The file of the graph."""
        return self._path

    def _refuse_external_data(self) -> None:
        try:
            outside = external_data(self._path.read_bytes())
        except EncoderError as error:
            raise self._kind.error(f"{self._path} cannot be loaded: {error}") from error
        if outside is not None:
            raise self._kind.error(
                f"{self._path} keeps weights in another file ({outside!r}), which a bundle cannot hold: export the "
                f"{self._kind.model} again"
            )

    def _checked_inputs(self) -> set[str]:
        """Return the names of the inputs; raise the kind's error for a graph with other inputs or outputs."""
        inputs = {each.name: (each.type, len(each.shape)) for each in self._session.get_inputs()}
        outputs = {each.name: each.type for each in self._session.get_outputs()}
        problem = ""
        if missing := {"input_ids", "attention_mask"} - inputs.keys():
            problem = f"it has no input {min(missing)!r}"
        elif further := inputs.keys() - INPUTS - ({ROWS} if self._kind.may_have_rows else set()):
            problem = f"its input {min(further)!r} is not one of {', '.join(INPUTS)}"
        elif odd := [name for name, kind in inputs.items() if kind != ("tensor(int64)", 0 if name == ROWS else 2)]:
            wanted = 0 if odd[0] == ROWS else 2
            kind, dimensions = inputs[odd[0]]
            problem = f"its input {odd[0]!r} is {kind} of {dimensions} dimensions, not int64 of {wanted}"
        elif lacking := [name for name in self._kind.outputs if outputs.get(name) not in FLOATS]:
            problem = f"its outputs are {outputs}, not one of floats that is named {lacking[0]!r}"
        if problem:
            model = self._kind.model
            article = "an" if model[0] in "aeiou" else "a"
            raise self._kind.error(
                f"{self._path} is not the graph of {article} {model}: {problem}; export the {model} again"
            )
        return set(inputs)

    def run(
        self, sequences: Sequence[Tokens], outputs: Sequence[str] | None = None, *, rows: int | None = None
    ) -> list[NDArray[np.float32]]:
        """Return the outputs (default: all of the kind) of one batch, padded to its longest sequence, as float32.

        `rows`: how many of the first tokens are needed of outputs for each token (default: all).
        Raises the kind's error when the graph fails, or gives other shapes, or values that are not finite for a token
        of a sequence; those of the padding are left as they are.
        """
        names = list(self._kind.outputs if outputs is None else outputs)
        lengths = [len(tokens.ids) for tokens in sequences]
        shape = len(sequences), max(lengths)
        feed = {name: np.zeros(shape, dtype=np.int64) for name in self._inputs if name != ROWS}
        leading = min(rows or shape[1], shape[1]) if ROWS in self._inputs else shape[1]
        if ROWS in self._inputs:
            feed[ROWS] = np.array(leading, dtype=np.int64)
        for row, (tokens, length) in enumerate(zip(sequences, lengths, strict=True)):
            feed["input_ids"][row, :length] = tokens.ids
            feed["attention_mask"][row, :length] = 1
            if "token_type_ids" in feed and not self._kind.zero_token_types:
                feed["token_type_ids"][row, :length] = tokens.types
        try:
            found = self._session.run(names, feed)
        except Exception as error:
            raise self._kind.error(f"{self._path} failed on sequences of {shape[1]} tokens: {error}") from error
        sizes = {"b": shape[0], "s": shape[1], "r": leading}
        for name, values in zip(names, found, strict=True):
            dimensions = self._kind.outputs[name]
            expected = tuple(size if isinstance(size, int) else sizes[size] for size in dimensions)
            finite = np.isfinite(values)
            if values.shape != expected or not finite.all():
                if values.shape == expected and len(dimensions) > 1 and isinstance(dimensions[1], str):
                    finite = finite[feed["attention_mask"][:, : expected[1]] == 1]
                    if finite.all():
                        continue
                raise self._kind.error(
                    f"{self._path} gave {values.shape} with {np.count_nonzero(~finite)} NaN or infinite "
                    f"values; {self._kind.wanted}: export the {self._kind.model} again"
                )
        return [np.asarray(values, dtype=np.float32) for values in found]
