"""Haystack's retrievers in and outside of pipelines, and the code of their page."""

import asyncio

import pytest
from haystack import Document, Pipeline
from haystack.components.joiners import DocumentJoiner
from haystack.components.writers import DocumentWriter
from haystack.document_stores.types import FilterPolicy
from haystack.errors import FilterError

from dpr_lance import HashEncoder, InvalidInputError
from dpr_lance.integrations.haystack import DprLanceDocumentStore, DprLanceEmbeddingRetriever, DprLanceRetriever
from tests.pages import run_python

ENCODER = HashEncoder(dimension=32)
DOCUMENTS = [
    Document(id="alps", content="The Alps are a mountain range in Europe.", meta={"year": 2001}),
    Document(id="rhine", content="The Rhine is a river that rises in the Alps.", meta={"year": 2010}),
    Document(id="gzip", content="Reads and writes files compressed with GNU zip.", meta={"year": 2015}),
]
SINCE_2005 = {"field": "meta.year", "operator": ">", "value": 2005}


@pytest.fixture
def store(tmp_path):
    made = DprLanceDocumentStore(tmp_path / "t", encoder=ENCODER)
    made.write_documents(DOCUMENTS)
    yield made
    made.close()


@pytest.fixture
def vector_store(tmp_path):
    made = DprLanceDocumentStore(tmp_path / "v", embedding_dim=32)
    texts = [("", document.content) for document in DOCUMENTS]
    vectors = ENCODER.encode_passages(texts)
    made.write_documents(
        [
            Document(id=document.id, content=document.content, meta=document.meta, embedding=vector.tolist())
            for document, vector in zip(DOCUMENTS, vectors, strict=True)
        ]
    )
    yield made
    made.close()


def ids(result):
    return [document.id for document in result["documents"]]


def test_a_question_gives_what_the_table_gives(store):
    found = DprLanceRetriever(store, top_k=2).run("which river rises in the alps?")["documents"]
    hits = store.retriever.search("which river rises in the alps?", 2)
    assert [(document.id, document.score) for document in found] == [(hit.document_id, hit.score) for hit in hits]
    assert found[0].meta == {"year": 2010}
    assert asyncio.run(DprLanceRetriever(store, top_k=2).run_async("which river rises in the alps?")) == {
        "documents": found
    }


@pytest.mark.parametrize("mode", ["hybrid", "dense", "bm25"])
def test_modes(store, mode):
    assert ids(DprLanceRetriever(store, mode=mode, top_k=1).run("the river Rhine")) == ["rhine"]


def test_filters_and_their_policy(store):
    retriever = DprLanceRetriever(store, filters=SINCE_2005)
    assert set(ids(retriever.run("alps"))) == {"rhine", "gzip"}
    before = {"field": "meta.year", "operator": "<", "value": 2012}
    assert set(ids(retriever.run("alps", filters=before))) == {"alps", "rhine"}
    merged = DprLanceRetriever(
        store, filters={"operator": "AND", "conditions": [SINCE_2005]}, filter_policy=FilterPolicy.MERGE
    )
    assert ids(merged.run("alps", filters={"operator": "AND", "conditions": [before]})) == ["rhine"]
    with pytest.raises(FilterError):
        retriever.run("alps", filters={"operator": "AND"})
    assert ids(retriever.run("alps", top_k=0)) == []
    with pytest.raises(ValueError, match="top_k=-1: give a number of documents"):
        retriever.run("alps", top_k=-1)


def test_a_vector_finds_what_the_same_question_does(vector_store):
    question = "the river Rhine"
    vector = ENCODER.encode_questions([question])[0].tolist()
    retriever = DprLanceEmbeddingRetriever(vector_store, top_k=2)
    dense = retriever.run(vector)["documents"]
    assert dense[0].id == "rhine"
    assert dense[0].score == pytest.approx(
        float(ENCODER.encode_questions([question])[0] @ ENCODER.encode_passages([("", DOCUMENTS[1].content)])[0]),
        abs=1e-5,
    )
    both = retriever.run(vector, query=question)["documents"]
    assert both[0].id == "rhine"
    assert both[0].score > dense[0].score  # bm25 and dense
    assert asyncio.run(retriever.run_async(vector, filters=SINCE_2005))["documents"][0].id == "rhine"
    with pytest.raises(InvalidInputError, match="shape"):
        retriever.run([1.0, 2.0])


def test_bm25_answers_with_the_reason_where_no_vector_can_be_made(vector_store, caplog):
    assert ids(DprLanceRetriever(vector_store, top_k=1).run("river")) == ["rhine"]
    assert "BM25 alone has answered 'river'" in caplog.text


def test_pipelines_are_written_and_read(tmp_path):
    store = DprLanceDocumentStore(tmp_path / "t", embed=False)
    indexing = Pipeline()
    indexing.add_component("writer", DocumentWriter(store))
    assert indexing.run({"writer": {"documents": DOCUMENTS}}) == {"writer": {"documents_written": 3}}
    asking = Pipeline()
    asking.add_component("bm25", DprLanceRetriever(store, mode="bm25", top_k=2, rerank=False))
    asking.add_component("joiner", DocumentJoiner())
    asking.connect("bm25", "joiner")
    found = asking.run({"bm25": {"query": "river in the Alps"}})["joiner"]["documents"]
    assert [document.id for document in found] == ["rhine", "alps"]
    again = Pipeline.loads(asking.dumps(), allowed_modules=["dpr_lance.integrations.haystack.*"])
    assert again.run({"bm25": {"query": "river in the Alps"}})["joiner"]["documents"] == found
    assert again.get_component("bm25").to_dict() == asking.get_component("bm25").to_dict()


def test_an_asynchronous_pipeline(store):
    pipeline = Pipeline()
    pipeline.add_component("retriever", DprLanceRetriever(store))
    found = asyncio.run(pipeline.run_async({"retriever": {"query": "river"}}))
    assert found["retriever"]["documents"][0].id == "rhine"


def test_arguments_that_are_wrong(store):
    for arguments, message in [
        ({"top_k": -1}, "top_k=-1"),
        ({"mode": "sparse"}, "mode='sparse' is not one of hybrid"),
        ({"rerank": 5}, "rerank=5"),
        ({"candidates": 0}, "candidates=0"),
    ]:
        with pytest.raises(InvalidInputError, match=message):
            DprLanceRetriever(store, **arguments)
    with pytest.raises(InvalidInputError, match="give a DprLanceDocumentStore"):
        DprLanceRetriever("there")
    with pytest.raises(InvalidInputError, match="blank"):
        DprLanceRetriever(store).run(" ")


def test_the_python_of_the_page_runs_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_python("haystack.md")
