"""Haystack sends no usage data from its tests."""

import os

os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")
