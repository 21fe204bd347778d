"""Labelled questions about random documents."""

import numpy as np


def questions_of(documents, count):
    """Questions of five words of a document, in another order, that this document answers."""
    choose = np.random.default_rng(0)
    return [
        {"question": " ".join(choose.permutation(document["text"].split())[:5]), "labels": [document["id"]]}
        for document in documents[:count]
    ]
