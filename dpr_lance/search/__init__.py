"""Search: candidates of both legs, their scores together, and the hits with an explanation."""
