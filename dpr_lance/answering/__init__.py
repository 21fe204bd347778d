"""Answers to questions: spans of the passages that a search finds, as the reader chooses them (paper, section 6)."""
