"""Encoders: text in, vectors out, without torch."""
