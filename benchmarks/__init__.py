"""Benchmarks: `python -m benchmarks CASE`; raw results first, tables generated from them."""
