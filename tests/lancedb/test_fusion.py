"""LanceDB's hybrid queries with `DprFusion`: the same scores as this library's own hybrid search."""

import asyncio

import lancedb
import numpy as np
import pyarrow as pa
import pytest
from lancedb.embeddings import EmbeddingFunctionConfig, get_registry
from lancedb.index import FTS
from lancedb.query import MatchQuery

from dpr_lance import InvalidInputError
from dpr_lance.lancedb import DprEmbeddings, DprFusion
from tests.lancedb.plain import plain_table
from tests.tables import brute_force_bm25, random_documents

QUESTION = "mountain castle comet lantern"
MANY = 200


@pytest.fixture
def table(retriever, encoder, folder):
    retriever.add(random_documents(3, 80))
    retriever.optimize()
    get_registry().set_var("hash-64", encoder)
    return plain_table(folder)


def hits(table, reranker, k, **query):
    found = table.search(QUESTION, query_type="hybrid").distance_type("dot").rerank(reranker).limit(k)
    return {row["id"]: row["_relevance_score"] for row in found.to_list()}


def test_the_scores_are_those_of_a_hybrid_search(table, retriever):
    own = {hit.id: pytest.approx(hit.score, rel=1e-5) for hit in retriever.search(QUESTION, MANY)}
    found = hits(table, DprFusion(table), MANY)
    assert found == own
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_a_row_of_one_list_gets_both_exact_scores(table, encoder):
    rows = table.to_arrow().to_pylist()
    (question,) = encoder.encode_questions([QUESTION])
    bm25 = brute_force_bm25(QUESTION, [row["content"] for row in rows])
    exact = {row["id"]: one + 3 * np.dot(row["vector"], question) for row, one in zip(rows, bm25, strict=True)}
    found = hits(table, DprFusion(table, weight=3), 7)
    assert len(found) == 7
    assert found == {name: pytest.approx(exact[name], rel=1e-5) for name in found}


def test_the_weight_is_the_encoders_unless_given(table, encoder):
    assert DprFusion(table).weight == encoder.card.hybrid_weight
    assert str(DprFusion(table, weight=2)) == "DprFusion(weight=2)"
    own = hits(table, DprFusion(table, weight=0), MANY)
    found = table.search(QUESTION, query_type="fts").limit(MANY).to_list()
    assert {row["id"]: pytest.approx(row["_score"], rel=1e-5) for row in found}.items() <= own.items()


def test_all_scores_come_with_the_result_on_request(table):
    found = (
        table.search(QUESTION, query_type="hybrid").distance_type("dot").rerank(DprFusion(table, return_score="all"))
    )
    (row, *_) = found.limit(5).to_list()
    assert row["_relevance_score"] == pytest.approx(row["_score"] + 10 * (1 - row["_distance"]), rel=1e-5)


def test_the_parts_of_a_query_may_be_given_apart(table, encoder):
    query = table.search(query_type="hybrid").vector(encoder.encode_questions([QUESTION])[0].tolist())
    found = query.text(MatchQuery(QUESTION, "content")).distance_type("dot").rerank(DprFusion(table)).limit(MANY)
    expected = hits(table, DprFusion(table), MANY)
    assert {row["id"]: row["_relevance_score"] for row in found.to_list()} == expected


def test_a_query_that_is_not_a_question_is_refused(table, encoder):
    query = table.search(query_type="hybrid").vector(encoder.encode_questions([QUESTION])[0].tolist())
    with pytest.raises(InvalidInputError, match="this reranker needs the question"):
        query.text(MatchQuery("river", "content") & MatchQuery("castle", "content")).rerank(DprFusion(table)).to_list()
    with pytest.raises(InvalidInputError, match="give the table that is searched"):
        DprFusion("passages")
    with pytest.raises(InvalidInputError, match="give λ"):
        DprFusion(table, weight=-1)
    with pytest.raises(InvalidInputError, match=r"vector_column='other': .* has 0 such columns"):
        DprFusion(table, vector_column="other")


def test_filters_and_empty_results_work(table):
    fusion = DprFusion(table)
    search = table.search(QUESTION, query_type="hybrid").distance_type("dot").rerank(fusion)
    assert {row["id"] for row in search.where("document_id = 'd003'").limit(5).to_list()} == {"d003#0"}
    assert table.search(QUESTION, query_type="hybrid").where("id = 'none'").rerank(fusion).limit(5).to_list() == []
    unknown = table.search("zzzz", query_type="hybrid").rerank(fusion).limit(5).to_list()
    assert len(unknown) == 5


def test_rows_without_a_vector_get_the_lowest_inner_product(table, retriever):
    retriever.add([{"id": "late", "text": QUESTION}], embed=False)
    table.checkout_latest()
    found = hits(table, DprFusion(table), MANY)
    assert found["late#0"] == pytest.approx({hit.id: hit.score for hit in retriever.search(QUESTION, MANY)}["late#0"])


def test_the_asynchronous_table_is_reranked(table, folder):
    async def searched():
        opened = await (await lancedb.connect_async(str(folder))).open_table("passages")
        query = (await opened.search(QUESTION, query_type="hybrid")).distance_type("dot").limit(MANY)
        return {row["id"]: row["_relevance_score"] for row in await query.rerank(DprFusion(table)).to_list()}

    assert asyncio.run(searched()) == hits(table, DprFusion(table), MANY)


def test_a_plain_table_is_fused_the_same_way(tmp_path, encoder, retriever):
    """With the title in the first line, which is what this library indexes."""
    documents = random_documents(3, 80)
    function = DprEmbeddings.create(encoder=encoder, title_line=True)
    schema = pa.schema([("id", pa.string()), ("content", pa.string()), ("embedding", pa.list_(pa.float32(), 64))])
    config = EmbeddingFunctionConfig(source_column="content", vector_column="embedding", function=function)
    table = lancedb.connect(tmp_path / "plain").create_table("notes", schema=schema, embedding_functions=[config])
    table.add([{"id": f"{row['id']}#0", "content": f"{row['title']}\n{row['text']}"} for row in documents])
    table.create_index("content", config=FTS())
    retriever.add(documents)
    assert hits(table, DprFusion(table), MANY) == {
        hit.id: pytest.approx(hit.score, rel=1e-5) for hit in retriever.search(QUESTION, MANY)
    }
