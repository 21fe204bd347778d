"""One ONNX graph of a bundle in an onnxruntime session: token ids in, vectors out, on the CPU or a GPU."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dpr_lance.encoders.bundle import Bundle
from dpr_lance.encoders.card import Precision
from dpr_lance.encoders.encoder import Vectors
from dpr_lance.encoders.onnx_file import external_data
from dpr_lance.errors import EncoderError

if TYPE_CHECKING:  # loaded with the first graph: importing this module stays cheap
    import onnxruntime
    from tokenizers import Encoding

CPU, GPU = "CPUExecutionProvider", "CUDAExecutionProvider"
CPU_TOKENS = 1024
"""Token budget of a batch on the CPU: 1.1 times faster than budgets of 2,048, 1.4 times than 4,096 (sorted, fp32)."""
GPU_TOKENS = 32768

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUT = "vector"
FLOATS = ("tensor(float)", "tensor(float16)", "tensor(double)")


def providers(precision: Precision, available: Sequence[str]) -> list[str]:
    """Return onnxruntime's execution providers for a graph, best first, among those that are available.

    Int8 operators have no CUDA kernels: each would copy its input to the CPU and back.
    """
    return [*([GPU] if precision != "int8" and GPU in available else []), CPU]


class Graph:
    """The graph `name` of a bundle; when a GPU fails, onnxruntime reports it on standard error and uses the CPU."""

    def __init__(self, bundle: Bundle, name: str) -> None:
        import onnxruntime  # noqa: PLC0415

        self._card = bundle.card
        self._path = bundle.verified(name)
        try:
            outside = external_data(self._path.read_bytes())
        except EncoderError as error:
            raise EncoderError(f"{self._path} cannot be loaded: {error}") from error
        if outside is not None:
            raise EncoderError(
                f"{self._path} keeps weights in another file ({outside!r}), which a bundle cannot hold: export the "
                f"encoder again"
            )
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
            raise EncoderError(
                f"{self._path} cannot be loaded by onnxruntime {onnxruntime.__version__}: {error}"
            ) from error
        self._inputs = self._checked_inputs()
        self.on_cpu = self._session.get_providers()[0] == CPU
        one_sequence = bundle.precision == "int8"
        self.budget = 0 if one_sequence else CPU_TOKENS if self.on_cpu else GPU_TOKENS

    def _checked_inputs(self) -> set[str]:
        """Return the names of the inputs; raise `EncoderError` for a graph with other inputs or outputs."""
        inputs = {each.name: (each.type, len(each.shape)) for each in self._session.get_inputs()}
        outputs = {each.name: each.type for each in self._session.get_outputs()}
        problem = ""
        if missing := {"input_ids", "attention_mask"} - inputs.keys():
            problem = f"it has no input {min(missing)!r}"
        elif further := inputs.keys() - INPUTS:
            problem = f"its input {min(further)!r} is not one of {', '.join(INPUTS)}"
        elif odd := [name for name, kind in inputs.items() if kind != ("tensor(int64)", 2)]:
            problem = f"its input {odd[0]!r} is {inputs[odd[0]][0]} of {inputs[odd[0]][1]} dimensions, not int64 of 2"
        elif outputs.get(OUTPUT) not in FLOATS:
            problem = f"its outputs are {outputs}, not one of floats that is named {OUTPUT!r}"
        if problem:
            raise EncoderError(f"{self._path} is not the graph of an encoder: {problem}; export the encoder again")
        return set(inputs)

    def run(self, encodings: Sequence[Encoding]) -> Vectors:
        """Return float32[n, d] of one batch, padded to its longest sequence."""
        shape = len(encodings), max(len(encoding) for encoding in encodings)
        feed = {name: np.zeros(shape, dtype=np.int64) for name in self._inputs}
        for row, encoding in enumerate(encodings):
            length = len(encoding)
            feed["input_ids"][row, :length] = encoding.ids
            feed["attention_mask"][row, :length] = 1
            if "token_type_ids" in feed and not self._card.zero_token_types:
                feed["token_type_ids"][row, :length] = encoding.type_ids
        try:
            (vectors,) = self._session.run([OUTPUT], feed)
        except Exception as error:
            raise EncoderError(f"{self._path} failed on sequences of {shape[1]} tokens: {error}") from error
        if vectors.shape != (len(encodings), self._card.dimension) or not np.isfinite(vectors).all():
            raise EncoderError(
                f"{self._path} gave {vectors.shape} with {np.count_nonzero(~np.isfinite(vectors))} NaN or infinite "
                f"values; the card says {self._card.dimension} dimensions: export the encoder again"
            )
        return np.asarray(vectors, dtype=np.float32)
