"""Small tables to be damaged."""

import shutil

import pytest

import dpr_lance
from dpr_lance import HashEncoder
from tests.health.tables import DOCUMENTS, rows_of


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A table with one BM25 index and deletions, made once."""
    folder = tmp_path_factory.mktemp("made") / "t"
    with dpr_lance.connect(folder, encoder=HashEncoder(16)) as retriever:
        retriever.add(DOCUMENTS)
        retriever.delete("d3")
        retriever.optimize()
        retriever.calibrate(["a river"])
    return folder


@pytest.fixture
def table(made, tmp_path):
    return shutil.copytree(made, tmp_path / "t")


# Rows that stand twice


@pytest.fixture
def doubled(table):
    rows = rows_of(table)
    rows.add(rows.search().where("document_id IN ('d1', 'd2')").limit(None).to_arrow())
    return table
