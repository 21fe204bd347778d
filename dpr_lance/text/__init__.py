"""Text: where words, sentences and sections begin and end, how documents become passages, and which words match."""
