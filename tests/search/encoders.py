"""Encoders that fail."""

from dpr_lance import EncoderError, HashEncoder


class BrokenEncoder(HashEncoder):
    """Says who it is, and cannot encode."""

    def encode_questions(self, questions):
        raise EncoderError("its weights are not here")
