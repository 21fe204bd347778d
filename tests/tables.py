"""What tests of several packages share: tables under a policy, random documents, BM25 by brute force."""

import math
from pathlib import Path

import lancedb
import numpy as np

from dpr_lance.retriever import Retriever
from dpr_lance.search.resident import RESIDENT_BYTES
from dpr_lance.table.index_policy import IndexPolicy
from dpr_lance.table.store import Store

DESCRIPTORS = Path("/proc/self/fd")
"""Where Linux lists the open files of this process."""
WORDS = ["river", "mountain", "glacier", "bridge", "castle", "violin", "engine", "harbour", "lantern", "comet"]
FEW_CANDIDATES = IndexPolicy(least_candidates=5, candidates_per_hit=1)
"""A policy under which each leg gives few candidates."""


def store_in(place, **settings):
    """Return a store of the test's own on the table of passages in a folder."""
    return Store(place, "passages", **settings)


def opened(place, encoder=None, *, resident_bytes=RESIDENT_BYTES, **settings):
    """Open a table as `connect` does; `settings` are those of the `Store`, such as its `policy`."""
    store = store_in(place, **settings)
    store.find()
    return Retriever(store, encoder, resident_bytes)


def brute_force_bm25(question, contents):
    """Lucene's BM25 (k1 1.2, b 0.75) over all contents, with LanceDB's own tokens: float64[n]."""

    def tokens(text):
        return [token.text for token in lancedb.tokenize(text)]

    documents = [tokens(content) for content in contents]
    counted = [document for document in documents if document]  # as Lucene does: those that have a word
    average = sum(map(len, counted)) / max(1, len(counted))
    scores = np.zeros(len(contents))
    for term in set(tokens(question)):
        matching = sum(term in document for document in documents)
        if matching:
            weight = math.log(1 + (len(counted) - matching + 0.5) / (matching + 0.5))
            for index, document in enumerate(documents):
                count = document.count(term)
                scores[index] += weight * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * len(document) / average))
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
