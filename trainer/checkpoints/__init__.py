"""Checkpoints: where they lie, what they say of themselves, and their towers as torch modules."""
