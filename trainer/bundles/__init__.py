"""Checkpoints made into bundles: ONNX graphs, in int8 or fp32, with the tokenizer."""
