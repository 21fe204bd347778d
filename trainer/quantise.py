"""Int8: an fp32 ONNX encoder becomes a fused graph whose large matrices are int8."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers import optimizer


def quantise(source: Path, target: Path, *, heads: int, hidden_size: int) -> None:
    """Write the int8 form of the fp32 graph `source` to `target`."""
    fused = optimizer.optimize_model(
        str(source), model_type="bert", num_heads=heads, hidden_size=hidden_size, opt_level=0
    )
    fused_path = target.with_suffix(".fused.onnx")
    fused.save_model_to_file(str(fused_path))
    quantize_dynamic(
        fused_path,
        target,
        per_channel=True,
        reduce_range=True,
        weight_type=QuantType.QInt8,
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )
    fused_path.unlink()
