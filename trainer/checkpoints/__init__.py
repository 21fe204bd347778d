"""Checkpoints: where they lie, how they are described, and their towers as torch modules."""
