"""Benchmarks: `python -m benchmarks CASE`; raw results first, tables generated from them."""

import os

# Before LanceDB is imported, which reads its log level once.
for variable, value in (("LANCEDB_LOG", "error"), ("HF_HUB_OFFLINE", "1"), ("TOKENIZERS_PARALLELISM", "false")):
    os.environ.setdefault(variable, value)
