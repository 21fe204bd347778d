"""LanceDB's results with `DprReader`: re-ranked as by this library's own search."""

import lancedb
import numpy as np
import pytest
from lancedb.embeddings import get_registry

from dpr_lance import InvalidInputError
from dpr_lance.lancedb import DprFusion, DprReader
from tests.lancedb.plain import plain_table

QUESTION = "which river rises in the alps?"


@pytest.fixture
def table(retriever, documents, encoder, folder):
    retriever.add(documents)
    get_registry().set_var("hash-64", encoder)
    return plain_table(folder)


@pytest.fixture(scope="module")
def reader():
    return DprReader()


def relevance(query):
    return [(row["id"], row["_relevance_score"]) for row in query.limit(10).to_list()]


def own(retriever, mode, rerank=True):
    found = retriever.search(QUESTION, mode=mode, rerank=rerank)
    return [(hit.id, pytest.approx(hit.score, abs=1e-4)) for hit in found]


def test_a_vector_search_is_reranked_as_a_dense_search(table, retriever, reader):
    query = table.search(QUESTION, query_type="vector").distance_type("dot")
    assert relevance(query.rerank(reader)) == own(retriever, "dense")


def test_a_full_text_search_is_reranked_as_bm25(table, retriever, reader):
    assert relevance(table.search(QUESTION, query_type="fts").rerank(reader)) == own(retriever, "bm25")


def test_a_hybrid_query_is_reranked_as_a_hybrid_search(table, retriever, reader):
    fused = DprReader(reader.reader, fusion=DprFusion(table))
    assert relevance(table.search(QUESTION, query_type="hybrid").rerank(fused)) == own(retriever, "hybrid")


def test_without_fusion_the_reader_alone_orders_a_hybrid_query(table, reader):
    found = dict(relevance(table.search(QUESTION, query_type="hybrid").rerank(reader)))
    passages = {row["id"]: (row["title"], row["text"]) for row in table.to_arrow().to_pylist()}
    scores = reader.reader.score(QUESTION, list(passages.values()))
    assert found == pytest.approx(dict(zip(passages, scores.tolist(), strict=True)), abs=1e-4)


class Longest:
    def score(self, question, passages):
        return np.array([len(passage.text) for passage in passages], dtype=np.float32)


def test_any_reranker_and_any_columns(tmp_path):
    rows = [
        {"body": "bb", "vector": [1.0, 0.0]},
        {"body": "ccc", "vector": [0.0, 1.0]},
        {"body": None, "vector": [1.0, 1.0]},
    ]
    table = lancedb.connect(tmp_path).create_table("notes", rows)
    query = table.search([1.0, 1.0]).rerank(DprReader(Longest(), text="body"), query_string="which?")
    assert [row["body"] for row in query.to_list()] == ["ccc", "bb", None]
    everything = DprReader(Longest(), text="body", return_score="all")
    assert "_distance" in table.search([1.0, 1.0]).rerank(everything, query_string="which?").to_arrow().schema.names
    with pytest.raises(InvalidInputError, match="reads the column 'text', and the results have body"):
        table.search([1.0, 1.0]).rerank(DprReader(Longest()), query_string="which?").to_list()
    assert table.search([1.0, 1.0]).where("body = ''").rerank(everything, query_string="which?").to_list() == []


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"reader": False}, "reader=False"),
        ({"reader": 5}, "reader=5"),
        ({"text": 5}, "text must be a string"),
        ({"weight": "much"}, "weight='much'"),
        ({"fusion": True}, "fusion=True"),
    ],
)
def test_settings_are_checked(settings, problem):
    with pytest.raises(InvalidInputError, match=problem):
        DprReader(**{"reader": Longest(), **settings})
