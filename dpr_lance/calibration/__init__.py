"""Calibration: the hybrid weight, the default mode and the search effort of a table."""
