"""Tables of `connect`, searched with questions in plain LanceDB."""

import asyncio

import lancedb
import pytest
from lancedb.embeddings import get_registry

from dpr_lance import HashEncoder
from dpr_lance.lancedb.own_tables import read_own_tables
from tests.lancedb.plain import plain_table

QUESTION = "which river rises in the alps?"


@pytest.fixture
def table(retriever, documents, encoder, folder):
    retriever.add(documents)
    get_registry().set_var("hash-64", encoder)
    return plain_table(folder)


def dense(table, question=QUESTION):
    found = table.search(question, query_type="vector").distance_type("dot").limit(10).to_arrow()
    return [(row["id"], 1 - row["_distance"]) for row in found.to_pylist()]


def ours(retriever, question=QUESTION):
    return [(hit.id, pytest.approx(hit.dense_score, abs=1e-6)) for hit in retriever.search(question, mode="dense")]


def test_a_vector_search_finds_the_same(table, retriever):
    assert dense(table) == ours(retriever)
    assert dense(table, "mountain range")[0][0] == "alps#0"


@pytest.mark.parametrize("kind", ["auto", "vector", "hybrid"])
def test_a_question_is_a_query_of_every_type(table, kind):
    assert table.search(QUESTION, query_type=kind).limit(1).to_list()[0]["id"] == "rhine#0"


def test_the_asynchronous_table_takes_questions(table, folder):
    async def searched(kind):
        opened = await (await lancedb.connect_async(str(folder))).open_table("passages")
        return (await (await opened.search(QUESTION, query_type=kind)).limit(1).to_list())[0]["id"]

    assert [asyncio.run(searched(kind)) for kind in ("auto", "vector", "hybrid")] == ["rhine#0"] * 3


def test_a_table_that_was_embedded_again_is_searched_with_its_new_encoder(table, retriever, folder):
    get_registry().set_var("hash-32", HashEncoder(32))
    retriever.reembed(HashEncoder(32))
    assert dense(plain_table(folder)) == ours(retriever)
    retriever.reembed(HashEncoder(64))
    assert dense(plain_table(folder)) == ours(retriever)


def test_the_schema_has_no_entry_that_writers_would_need_the_import_for(table):
    assert b"embedding_functions" not in table.schema.metadata
    assert table.embedding_functions == {}
    table.merge_insert("id").when_matched_update_all().execute(table.to_arrow())
    assert table.count_rows("vector IS NOT NULL") == 4


def test_other_tables_are_as_before(tmp_path):
    table = lancedb.connect(tmp_path).create_table("other", [{"text": "one", "vector": [1.0, 2.0]}])
    assert table.embedding_functions == {}
    with pytest.raises(ValueError, match="No embedding function for vector"):
        table.search("one", query_type="vector")


def test_the_registry_is_changed_once():
    parse = get_registry().parse_functions
    read_own_tables()
    assert get_registry().parse_functions is parse
