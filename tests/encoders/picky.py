"""An encoder that fails on some texts, each time in the way that it is told."""

import numpy as np

from dpr_lance import EncoderError, HashEncoder, InvalidInputError

BAD = "unreadable"


class Picky(HashEncoder):
    """Fails on texts with the word `unreadable`, each time in the way that it is told; counts what it is asked."""

    def __init__(self, fault="no tokens", *, everything=False):
        super().__init__(16)
        self.fault, self.everything = fault, everything
        self.asked = []

    def _encode(self, entries):
        self.asked.append([text for _, _, text in entries])
        bad = [number for number, (_, _, text) in enumerate(entries) if self.everything or BAD in text]
        vectors = super()._encode(entries)
        if not bad:
            return vectors
        if self.fault == "no tokens":
            raise InvalidInputError(f"{entries[bad[0]][0]} is blank to the encoder's tokenizer: {BAD!r}")
        if self.fault == "NaN":
            vectors[bad] = np.nan
        elif self.fault == "error":
            raise KeyError(BAD)
        elif self.fault == "our error":
            raise EncoderError("this text is too much for it")
        elif self.fault == "panic":
            raise PanicException("index out of range")
        elif self.fault == "shape":
            return np.delete(vectors, bad, axis=0)
        return vectors


class PanicException(BaseException):
    """What a package written in Rust raises, as a class of the same name."""
