"""Evaluation: how well a table answers labelled questions."""
