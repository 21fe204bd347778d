"""What tests of several packages share: tables under a policy, random documents, BM25 by brute force."""

import dataclasses
import math
import unicodedata
from collections import Counter
from functools import lru_cache
from pathlib import Path

import lancedb
import numpy as np

from dpr_lance import HashEncoder
from dpr_lance.retriever import Retriever
from dpr_lance.search.resident import RESIDENT_BYTES
from dpr_lance.table.index_policy import IndexPolicy
from dpr_lance.table.store import Store

DESCRIPTORS = Path("/proc/self/fd")
"""Where Linux lists the open files of this process."""
WORDS = ["river", "mountain", "glacier", "bridge", "castle", "violin", "engine", "harbour", "lantern", "comet"]
FEW_CANDIDATES = IndexPolicy(least_candidates=5, candidates_per_hit=1)
"""A policy under which each leg gives few candidates."""
K1, B = 1.2, 0.75


def store_in(place, **settings):
    """Return a store of the test's own on the table of passages in a folder."""
    return Store(place, "passages", **settings)


def opened(place, encoder=None, *, resident_bytes=RESIDENT_BYTES, **settings):
    """Open a table as `connect` does; `settings` are those of the `Store`, such as its `policy`."""
    store = store_in(place, **settings)
    store.find()
    return Retriever(store, encoder, resident_bytes)


@lru_cache(maxsize=100_000)
def tokens(text):
    """Return the terms of a text, as LanceDB's index has them of its composed form."""
    return tuple(token.text for token in lancedb.tokenize(unicodedata.normalize("NFC", text)))


def brute_force_bm25(question, contents):
    """Return Lucene's BM25 of a question for each content: float64[n]."""
    counts = [Counter(tokens(content)) for content in contents]
    lengths = np.array([sum(count.values()) for count in counts], dtype=np.float64)
    counted = int((lengths > 0).sum())  # a text without a term counts for nothing
    scores = np.zeros(len(contents))
    if not counted:
        return scores
    shares = lengths / (lengths.sum() / counted)
    for term in sorted(set(tokens(question))):
        often = np.array([count[term] for count in counts], dtype=np.float64)
        having = int((often > 0).sum())
        rarity = math.log(1 + (counted - having + 0.5) / (having + 0.5))
        scores += rarity * often * (K1 + 1) / (often + K1 * (1 - B + B * shares))
    return scores


def random_documents(seed, count):
    choose = np.random.default_rng(seed)
    return [
        {"id": f"d{number:03}", "title": str(choose.choice(WORDS)), "text": " ".join(choose.choice(WORDS, 12))}
        for number in range(count)
    ]


def open_files(folder):
    """The files below a folder that this process holds open, deleted ones too."""
    links = []
    for descriptor in DESCRIPTORS.iterdir():
        try:
            links.append(str(descriptor.readlink()))
        except FileNotFoundError:  # the one that lists them
            continue
    return [link for link in links if link.startswith(str(folder))]


class WeightedEncoder(HashEncoder):
    """Words hashed to vectors, with a λ of one's choice on its card."""

    def __init__(self, weight, dimension=32):
        super().__init__(dimension)
        self._weighted = dataclasses.replace(super().card, hybrid_weight=weight)

    @property
    def card(self):
        return self._weighted
