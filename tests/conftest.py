"""Fixtures for all tests: real tables, and the encoder without weights."""

import os

os.environ.setdefault("LANCEDB_LOG", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest

import dpr_lance
from dpr_lance import HashEncoder


@pytest.fixture
def encoder():
    return HashEncoder(dimension=64)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "table.lance"


@pytest.fixture
def retriever(folder, encoder):
    with dpr_lance.connect(folder, encoder=encoder) as opened:
        yield opened


DOCUMENTS = [
    {"id": "alps", "title": "Alps", "text": "The Alps are a mountain range in Europe.", "year": 2001, "kind": "range"},
    {"id": "andes", "title": "Andes", "text": "The Andes are a mountain range in South America.", "year": 2005},
    {
        "id": "rhine",
        "title": "Rhine",
        "text": "The Rhine is a river that rises in the Alps.",
        "year": 2010,
        "kind": "river",
    },
    {"id": "gzip", "title": "gzip", "text": "Reads and writes files compressed with GNU zip.", "kind": "module"},
]


@pytest.fixture
def documents():
    return [dict(document) for document in DOCUMENTS]
