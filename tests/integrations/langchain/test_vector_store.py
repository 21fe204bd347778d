"""What the vector store promises beyond LangChain's suite."""

import asyncio
import datetime
import logging

import pytest
from lancedb.expr import col
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.indexing import InMemoryRecordManager, index

import dpr_lance
from dpr_lance import EncoderError, EncoderMismatchError, HashEncoder, InvalidInputError, WordSplitter
from dpr_lance.integrations.langchain import DprLanceEmbeddings, DprLanceVectorStore

DOCUMENTS = [
    Document("A river in the Alps.", id="rhine", metadata={"title": "Rhine", "year": 2001, "tags": ["water", "long"]}),
    Document("A mountain range.", id="alps", metadata={"title": "Alps", "year": 2005, "place": {"land": "CH"}}),
    Document("A river in Africa.", id="nile", metadata={"seen": datetime.date(2020, 1, 1), "source": "it's -- a \\'"}),
]


class Axes(Embeddings):
    """Two dimensions: rivers, and mountains."""

    def __init__(self, model="axes"):
        self.model = model
        self.embedded = []

    def embed_documents(self, texts):
        self.embedded += texts
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text):
        return [3.0 * ("river" in text.lower()) + 0.1, 2.0 * ("mountain" in text.lower())]


@pytest.fixture
def store(tmp_path):
    store = DprLanceVectorStore(dpr_lance.connect(tmp_path / "t.lance", encoder=HashEncoder(32)))
    store.add_documents(DOCUMENTS)
    return store


@pytest.fixture
def axes(tmp_path):
    return DprLanceVectorStore.from_documents(DOCUMENTS, Axes(), uri=tmp_path / "axes.lance")


def ids(documents):
    return sorted(document.id for document in documents)


def test_documents_come_back_as_they_were_given(store):
    assert store.get_by_ids(["nile", "rhine", "alps"]) == [DOCUMENTS[2], DOCUMENTS[0], DOCUMENTS[1]]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"year": 2001}, ["rhine"]),
        ({"year": {"$eq": 2001}}, ["rhine"]),
        ({"year": {"$ne": 2001}}, ["alps", "nile"]),
        ({"year": {"$gt": 2001}}, ["alps"]),
        ({"year": {"$gte": 2001, "$lt": 2005}}, ["rhine"]),
        ({"year": {"$lte": 2001}}, ["rhine"]),
        ({"year": {"$in": [2001, 2005]}}, ["alps", "rhine"]),
        ({"year": {"$nin": [2001]}}, ["alps", "nile"]),
        ({"year": {"$between": [2000, 2003]}}, ["rhine"]),
        ({"year": {"$exists": False}}, ["nile"]),
        ({"year": {"$not": {"$gt": 2001}}}, ["nile", "rhine"]),
        ({"tags": {"$contains": "long"}}, ["rhine"]),
        ({"source": {"$contains": "-- a"}}, ["nile"]),
        ({"source": "it's -- a \\'"}, ["nile"]),
        ({"title": "Alps"}, ["alps"]),
        ({"title": {"$exists": True}}, ["alps", "rhine"]),
        ({"place.land": "CH"}, ["alps"]),
        ({"seen": {"$gt": "2019-12-31"}}, ["nile"]),
        ({"year": 2001, "title": "Alps"}, []),
        ({"$or": [{"year": 2001}, {"title": "Alps"}]}, ["alps", "rhine"]),
        ({"$and": [{"year": {"$gt": 1}}, {"$not": {"title": "Alps"}}]}, ["rhine"]),
        ({"unknown": 1}, []),
        ({}, ["alps", "nile", "rhine"]),
        ("year > 2001", ["alps"]),
        (col("year") > 2001, ["alps"]),
    ],
)
def test_filters(store, given, expected):
    assert ids(store.similarity_search("a river", k=10, filter=given)) == expected
    assert ids(asyncio.run(store.asimilarity_search("a river", k=10, filter=given))) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"year": {"$regex": "2"}}, r"'\$regex' is not an operator"),
        ({"$nor": []}, r"\$nor is not known"),
        ({"year": {"$gt": "2000"}}, "cannot be compared"),
        ({"year": {"$in": 2000}}, r"\$in takes a list"),
        ({"year": {"$between": [1]}}, "lowest and the highest"),
        ({"year": {"$exists": 1}}, "True or False"),
        ({"year": {}}, "an operator and a value"),
        ({"$and": {"year": 1}}, "list of filters"),
        ({"$or": [3]}, "give a mapping"),
        (3, "not a filter"),
        ("year > 1; DROP", "';' ends a statement"),
    ],
)
def test_an_unusable_filter_is_refused(store, given, message):
    with pytest.raises(InvalidInputError, match=message):
        store.similarity_search("a river", filter=given)


def test_scores_are_those_of_the_table(store):
    found = store.similarity_search_with_score("a river", k=3, mode="dense")
    hits = store.retriever.search("a river", k=3, mode="dense")
    assert [(document.id, score) for document, score in found] == [(hit.document_id, hit.score) for hit in hits]
    assert asyncio.run(store.asimilarity_search_with_score("a river", k=3, mode="dense")) == found


def test_relevance_is_the_cosine_and_has_a_threshold(axes):
    found = axes.similarity_search_with_relevance_scores("river", k=3, mode="dense")
    assert [round(score, 2) for _, score in found] == [1.0, 1.0, 0.05]
    chosen = axes.as_retriever(
        search_type="similarity_score_threshold", search_kwargs={"k": 3, "score_threshold": 0.5, "mode": "dense"}
    )
    assert ids(chosen.invoke("river")) == ["nile", "rhine"]
    assert ids(asyncio.run(chosen.ainvoke("river"))) == ["nile", "rhine"]


def test_relevance_needs_cosines(store):
    with pytest.raises(InvalidInputError, match="use another mode than bm25"):
        store.similarity_search_with_relevance_scores("river", mode="bm25")


def test_diverse_results(axes):
    plain = axes.as_retriever(search_kwargs={"k": 2, "mode": "dense"}).invoke("a river or a mountain? a river")
    diverse = axes.as_retriever(search_type="mmr", search_kwargs={"k": 2, "mode": "dense", "lambda_mult": 0.1})
    assert ids(diverse.invoke("a river")) == ["alps", "nile"]
    assert ids(asyncio.run(diverse.ainvoke("a river"))) == ["alps", "nile"]
    assert len(plain) == 2
    assert ids(axes.max_marginal_relevance_search_by_vector([1.0, 0.1], k=2, lambda_mult=0.1)) == ["alps", "nile"]


def test_search_by_vector(store, axes):
    assert axes.similarity_search_by_vector([0.0, 1.0], k=1) == [DOCUMENTS[1]]
    vector = store.embeddings.embed_query("A mountain range.")
    assert store.similarity_search_by_vector(vector, k=1, filter={"year": {"$exists": True}}) == [DOCUMENTS[1]]
    with pytest.raises(InvalidInputError, match="shape"):
        store.similarity_search_by_vector([1.0])


def test_before_the_first_document(tmp_path):
    store = DprLanceVectorStore(tmp_path / "t.lance", Axes())
    assert store.similarity_search_by_vector([1.0, 0.0]) == []
    assert store.similarity_search("river", filter={"year": 1}) == []
    assert store.delete()


def test_nothing_is_embedded_twice(tmp_path):
    axes = Axes()
    store = DprLanceVectorStore(tmp_path / "t.lance", axes)
    first = store.add_texts(["a river", "a mountain"], [{"page": 1}, {"page": 2}])
    assert first == store.add_texts(["a river", "a mountain"], [{"page": 1}, {"page": 2}])
    assert len(set(store.add_texts(["a river"], [{"page": 3}])) | set(first)) == 3
    assert axes.embedded == ["a river", "a mountain", "a river"]


def test_the_same_embeddings_open_a_table_and_others_do_not(tmp_path):
    DprLanceVectorStore.from_texts(["a river"], Axes(), uri=tmp_path / "t.lance")
    again = DprLanceVectorStore(tmp_path / "t.lance", Axes())
    assert len(again.similarity_search("river")) == 1
    for other in (Axes("newer"), DeterministicFakeEmbedding(size=2)):
        with pytest.raises(EncoderMismatchError, match="'Axes axes'"):
            DprLanceVectorStore(tmp_path / "t.lance", other)


def test_a_failing_model_is_an_error_and_no_silent_fallback(axes):
    def fail(text):
        raise ConnectionError("no network")

    axes.embeddings.embed_query = fail
    with pytest.raises(ConnectionError, match="no network"):
        axes.similarity_search("river")
    assert len(axes.similarity_search("river", mode="bm25")) == 2


def test_a_fallback_is_logged(tmp_path, caplog):
    store = DprLanceVectorStore(dpr_lance.connect(tmp_path / "t.lance", encoder=HashEncoder(32)))
    store.retriever.add([{"text": "a river"}], embed=False)
    with caplog.at_level(logging.WARNING, logger="dpr_lance"):
        assert len(store.similarity_search("river")) == 1
    assert "no passage has a vector yet" in caplog.text
    with pytest.raises(EncoderError):
        store.similarity_search("river", mode="dense")


def test_long_documents_can_be_split(tmp_path):
    retriever = dpr_lance.connect(tmp_path / "t.lance", encoder=HashEncoder(32))
    store = DprLanceVectorStore(retriever, splitter=WordSplitter(5))
    assert store.add_texts(["one two three four five six seven"], ids=["n"]) == ["n"]
    assert ids(store.similarity_search("seven")) == ["n#0", "n#1"]
    assert ids(store.get_by_ids(["n"])) == ["n#0", "n#1"]
    assert store.delete(["n"])
    assert len(retriever) == 0


def test_delete_without_ids_deletes_all(store):
    assert asyncio.run(store.adelete(["nile"]))
    assert ids(store.similarity_search("river", k=9)) == ["alps", "rhine"]
    assert asyncio.run(store.adelete())
    assert store.similarity_search("river") == []


def test_the_indexing_of_langchain_keeps_a_source_up_to_date(store):
    records = InMemoryRecordManager(namespace="rivers")
    records.create_schema()
    pages = [Document(text, metadata={"source": "a.txt"}) for text in ("a river", "a mountain")]

    def run(documents):
        settings = {"cleanup": "incremental", "source_id_key": "source", "key_encoder": "sha256"}
        return index(documents, records, store, **settings)

    assert run(pages)["num_added"] == 2
    assert run(pages)["num_skipped"] == 2
    changed = run([pages[0], Document("a hill", metadata={"source": "a.txt"})])
    assert (changed["num_added"], changed["num_deleted"]) == (1, 1)
    found = store.similarity_search("a", k=9, filter={"source": "a.txt"})
    assert sorted(document.page_content for document in found) == ["a hill", "a river"]


def test_the_packaged_encoder_and_asynchronous_making(tmp_path):
    store = asyncio.run(DprLanceVectorStore.afrom_documents(DOCUMENTS, uri=tmp_path / "t.lance", mode="dense"))
    assert store.similarity_search("which stream flows through Egypt?", k=1)[0].id == "nile"
    assert DprLanceEmbeddings().embed_query("a river") == store.embeddings.embed_query("a river")
    assert DprLanceEmbeddings().embed_documents(["a river"]) == store.embeddings.embed_documents(["a river"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda store: store.add_texts(["a"], ids=["x", "y"]), "an id for each document"),
        (lambda store: store.add_texts([" "]), r"documents\[0\]: 'text' is blank"),
        (lambda store: store.add_documents(["text"]), r"documents\[0\]: give a LangChain Document"),
        (lambda store: store.add_texts(["a"], [{"year": "old"}], ids=["x"]), "'x': the metadata field 'year' is 'old'"),
        (lambda store: store.similarity_search(" "), "blank"),
        (lambda store: store.similarity_search("a", k=0), "k=0"),
        (lambda store: store.max_marginal_relevance_search("a", lambda_mult=2), "lambda_mult=2"),
        (lambda store: DprLanceVectorStore(store.retriever, Axes()), "leave out embedding"),
        (lambda store: DprLanceVectorStore("x", "openai"), "not an Embeddings object"),
    ],
)
def test_bad_input_has_an_error_of_ours(store, call, message):
    with pytest.raises(InvalidInputError, match=message):
        call(store)
