"""The reader (paper, section 6): scores passages for a question and finds the answer in them; and other re-rankers."""
