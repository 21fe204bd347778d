"""Haystack's own tests of document stores, and what they do not test: vectors, free metadata, exceptions, reopening."""

import pytest
from haystack import Document
from haystack.dataclasses import ByteStream, SparseEmbedding
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.errors import FilterError
from haystack.testing import document_store as suite
from haystack.testing import document_store_async as async_suite
from haystack.utils import Secret

import dpr_lance
from dpr_lance import EncoderMismatchError, HashEncoder, InvalidInputError
from dpr_lance.integrations.haystack import DprLanceDocumentStore


@pytest.fixture
def document_store(tmp_path):
    store = DprLanceDocumentStore(tmp_path / "t", embed=False, return_embedding=True)
    yield store
    store.close()


def same_documents(received, expected):
    """Equal but for the embeddings, which are float32 in the table."""
    assert [document.id for document in received] == [document.id for document in expected]
    for found, wanted in zip(received, expected, strict=True):
        assert found.embedding == (wanted.embedding and pytest.approx(wanted.embedding, rel=1e-5))
        fields, wanted_fields = found.to_dict(flatten=False), wanted.to_dict(flatten=False)
        assert {**fields, "embedding": None} == {**wanted_fields, "embedding": None}


class TestSuite(
    suite.DocumentStoreBaseExtendedTests,
    suite.CountDocumentsByFilterTest,
    suite.CountUniqueMetadataByFilterTest,
    suite.GetMetadataFieldsInfoTest,
    suite.GetMetadataFieldMinMaxTest,
    suite.GetMetadataFieldUniqueValuesTest,
    async_suite.CountDocumentsAsyncTest,
    async_suite.FilterDocumentsAsyncTest,
    async_suite.WriteDocumentsAsyncTest,
    async_suite.DeleteDocumentsAsyncTest,
    async_suite.DeleteAllAsyncTest,
    async_suite.DeleteByFilterAsyncTest,
    async_suite.UpdateByFilterAsyncTest,
    async_suite.CountDocumentsByFilterAsyncTest,
    async_suite.CountUniqueMetadataByFilterAsyncTest,
    async_suite.GetMetadataFieldsInfoAsyncTest,
    async_suite.GetMetadataFieldMinMaxAsyncTest,
    async_suite.GetMetadataFieldUniqueValuesAsyncTest,
):
    """All of Haystack's classes of tests, for the synchronous and the asynchronous methods."""

    @pytest.fixture
    def document_store(self, tmp_path):
        store = DprLanceDocumentStore(tmp_path / "t", embed=False, return_embedding=True)
        yield store
        store.close()

    @staticmethod
    def assert_documents_are_equal(received, expected):
        same_documents(received, expected)

    def test_write_documents(self, document_store):
        """Without a policy, a stored id is an error."""
        document = Document(content="test doc")
        assert document_store.write_documents([document]) == 1
        with pytest.raises(DuplicateDocumentError):
            document_store.write_documents([document])
        same_documents(document_store.filter_documents(), [document])

    @pytest.mark.asyncio
    async def test_write_documents_async(self, document_store):
        document = Document(content="test doc")
        assert await document_store.write_documents_async([document]) == 1
        with pytest.raises(DuplicateDocumentError):
            await document_store.write_documents_async([document])
        same_documents(await document_store.filter_documents_async(), [document])


def query(field, operator, value):
    return {"field": field, "operator": operator, "value": value}


def names(documents):
    return {document.id for document in documents}


MIXED = [
    Document(id="a", content="one", meta={"v": 1, "place": {"country": "France", "inhabitants": 68}, "tags": ["x", 2]}),
    Document(id="b", content="two", meta={"v": "1", "when": "2024-05-01", "id": "own", "text": "t", "a.b": 1.5}),
    Document(id="c", content="three", meta={"v": True, "when": "2024-05-01T10:00:00+02:00", "none": None, "nan": []}),
    Document(id="d", content="four", meta={"v": 1.5, "vector": [1], "_score": "s", "haystack:document": "mine", "": 0}),
    Document(id="e", content="five", blob=ByteStream(b"\x00\xff", meta={"p": 1}, mime_type="image/png")),
    Document(id="f", content="six", sparse_embedding=SparseEmbedding(indices=[1, 7], values=[0.5, 2.0])),
]


def test_metadata_comes_back_as_it_was(document_store):
    """Keys and values of any kind, also keys that are columns of the table."""
    document_store.write_documents(MIXED)
    same_documents(document_store.filter_documents(), MIXED)
    same_documents(document_store.find("three", 1), [Document(**{**vars(MIXED[2]), "score": pytest.approx(0, abs=9)})])


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        (query("meta.v", "==", 1), {"a"}),
        (query("meta.v", "==", "1"), {"b"}),
        (query("meta.v", "==", True), {"c"}),
        (query("meta.v", ">", 0), {"a", "d"}),
        (query("meta.v", "in", [1.5, "1", None]), {"b", "d", "e", "f"}),
        (query("meta.v", "not in", [1, True]), {"b", "d", "e", "f"}),
        (query("meta.v", "!=", "1"), {"a", "c", "d", "e", "f"}),
        (query("v", "==", None), {"e", "f"}),
        (query("meta.place.country", "==", "France"), {"a"}),
        (query("meta.place.inhabitants", "<=", 68), {"a"}),
        (query("meta.tags", "==", ["x", 2]), {"a"}),
        (query("meta.tags", "!=", ["x"]), {"a", "b", "c", "d", "e", "f"}),
        (query("meta.when", ">=", "2024-05-01T08:00:00Z"), {"c"}),
        (query("meta.when", "==", "2024-05-01T08:00:00+00:00"), {"c"}),
        (query("meta.when", "in", ["2024-05-01"]), {"b"}),
        (query("meta.a.b", "<", 2), {"b"}),
        (query("meta.id", "==", "own"), {"b"}),
        (query("meta.haystack:document", "==", "mine"), {"d"}),
        (query("meta.nowhere", ">", 1), set()),
        (query("meta.nowhere", "!=", 1), {"a", "b", "c", "d", "e", "f"}),
        (query("id", "in", ["a", "x' OR '1'='1"]), {"a"}),
        (query("content", "==", "two"), {"b"}),
        ({"operator": "NOT", "conditions": [query("v", "==", 1), query("content", "==", "two")]}, set("abcdef")),
    ],
)
def test_filters_test_values_of_each_kind(document_store, condition, found):
    document_store.write_documents(MIXED)
    assert names(document_store.filter_documents(condition)) == found
    assert document_store.count_documents_by_filter(condition) == len(found)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("v = 1", "a filter is a dictionary, not 'v = 1'"),
        (query("meta.v", "like", "x"), "operator 'like' is not one of =="),
        (query("meta.v", "==", {"a": 1}), "filter on 'meta.v': {'a': 1} cannot be compared"),
        (query("meta.v", ">", "soon"), "'soon' is neither"),
        (query("content", ">", 1), "compares it with a number, the documents hold text there"),
        (query("embedding", "==", None), "filters test id, content and fields of meta"),
        (query(5, "==", 1), "the field of a filter is a string, not 5"),
        ({"operator": "XOR", "conditions": []}, "'XOR' is not AND, OR or NOT"),
    ],
)
def test_filters_that_cannot_be_used(document_store, condition, message):
    document_store.write_documents(MIXED)
    with pytest.raises(FilterError, match=message.replace("(", r"\(")):
        document_store.filter_documents(condition)


def test_filters_that_are_nested_too_deep(document_store):
    document_store.write_documents(MIXED[:1])
    condition = query("v", "==", 1)
    for _ in range(1_000):
        condition = {"operator": "NOT", "conditions": [condition]}
    with pytest.raises(FilterError, match="nested more than"):
        document_store.filter_documents(condition)


def test_policies_within_one_list(document_store):
    first, second = Document(id="1", content="first"), Document(id="1", content="second")
    with pytest.raises(
        DuplicateDocumentError, match=r"document '1' is given twice; nothing was written \(policy FAIL\)"
    ):
        document_store.write_documents([Document(content="x"), first, second], DuplicatePolicy.FAIL)
    assert document_store.count_documents() == 0
    assert document_store.write_documents([first, second], DuplicatePolicy.SKIP) == 1
    assert document_store.filter_documents()[0].content == "first"
    assert document_store.write_documents([first, second], DuplicatePolicy.OVERWRITE) == 1
    assert document_store.filter_documents()[0].content == "second"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (Document(id="x"), "document 'x': it has no content"),
        (Document(id="x", content=" \n"), "document 'x': it has no content"),
        (Document(id="x", content="t", meta={"v": {1, 2}}), "document 'x': its meta cannot be stored as JSON"),
        (Document(id="x", content="t", meta={"v": (1, 2)}), "would come back changed from JSON"),
        (Document(id="x", content="t", meta={1: "v"}), "would come back changed from JSON"),
        (Document(id="x", content="t", embedding=[1.0, float("nan")]), "the vector of 'x' has NaN"),
    ],
)
def test_documents_that_cannot_be_stored(document_store, document, message):
    with pytest.raises(InvalidInputError, match=message):
        document_store.write_documents([document])
    assert document_store.count_documents() == 0


def test_ids_are_those_of_documents(document_store):
    """Also where one is that of another document's passage, or has quotes in it."""
    odd = ["a", "a#0", "it's", 'say "x"', "x\\y", "'; DROP"]
    document_store.write_documents([Document(id=name, content="river", embedding=[1.0, 2.0]) for name in odd])
    found = document_store.find("river", 10, mode="bm25")
    assert {document.id: document.embedding for document in found} == {name: pytest.approx([1, 2]) for name in odd}
    document_store.delete_documents(["a#0", "it's#0", "it's"])
    assert names(document_store.filter_documents()) == {"a", 'say "x"', "x\\y", "'; DROP"}
    with pytest.raises(InvalidInputError, match="document_ids"):
        document_store.delete_documents([1])


def test_embeddings_of_the_first_documents_make_the_table_one_of_vectors(document_store, tmp_path):
    near = Document(id="near", content="a river", embedding=[3.0, 4.0])
    document_store.write_documents([near, Document(id="none", content="no vector")])
    assert document_store.filter_documents()[0].embedding == pytest.approx([3.0, 4.0], rel=1e-6)
    with pytest.raises(InvalidInputError, match="shape"):
        document_store.write_documents([Document(id="long", content="x", embedding=[1.0, 2.0, 3.0])])
    again = DprLanceDocumentStore(tmp_path / "t", return_embedding=True)
    again.write_documents([Document(id="far", content="a hill", embedding=[-1.0, 0.0])])
    assert [hit.id for hit in again.find(None, 5, embedding=[1.0, 1.0])] == ["near", "far"]
    again.update_by_filter(query("id", "==", "near"), {"title": "Rhine"})
    assert names(again.find("rhine", 5, mode="bm25")) == {"near"}
    assert [hit.id for hit in again.find(None, 5, embedding=[1.0, 1.0])] == ["near", "far"]
    again.close()
    other = DprLanceDocumentStore(tmp_path / "t", embedding_dim=3)
    with pytest.raises(EncoderMismatchError):
        other.write_documents([Document(id="x", content="x", embedding=[1.0, 2.0, 3.0])])
    other.close()


def test_the_encoder_of_the_table_embeds_documents(tmp_path):
    store = DprLanceDocumentStore(tmp_path / "t", encoder=HashEncoder(dimension=16), return_embedding=True)
    store.write_documents([Document(id="a", content="a river", meta={"title": "Rhine"}), Document(id="b", content="x")])
    assert all(len(document.embedding) == 16 for document in store.filter_documents())
    assert store.retriever.search("rhine", 1)[0].title == "Rhine"
    assert [document.id for document in store.find("rhine river", 1)] == ["a"]
    with pytest.raises(InvalidInputError, match="document 'c' has an embedding, and the encoder of the table"):
        store.write_documents([Document(id="c", content="y", embedding=[1.0] * 16)])
    asked = store.retriever.search("rhine", 1, mode="dense")[0].dense_score
    vector = HashEncoder(dimension=16).encode_questions(["rhine"])[0].tolist()
    assert store.find(None, 1, embedding=vector)[0].score == pytest.approx(asked, abs=1e-5)
    store.close()


def test_a_table_that_was_not_written_by_haystack(tmp_path):
    encoder = HashEncoder(dimension=16)
    with dpr_lance.connect(tmp_path / "t", encoder=encoder) as retriever:
        retriever.add([{"id": "rhine", "title": "Rhine", "text": "river " * 150, "length": 1233}])
    store = DprLanceDocumentStore(tmp_path / "t", encoder=encoder)
    first, second = store.filter_documents(query("meta.length", ">", 1000))
    assert (first.id, second.id) == ("rhine#0", "rhine#1")
    assert first.meta == {"length": 1233, "document_id": "rhine", "title": "Rhine"}
    assert store.update_by_filter(query("id", "==", "rhine"), {"seen": True}) == 2
    assert {document.meta["seen"] for document in store.filter_documents()} == {True}
    store.delete_documents(["rhine#1"])
    assert store.count_documents() == 1
    store.close()


def test_arguments_are_written_and_read(tmp_path, monkeypatch):
    monkeypatch.setenv("DPR_LANCE_KEY", "secret")
    store = DprLanceDocumentStore(
        tmp_path / "t", embed=False, language="german", storage_options={"key": Secret.from_env_var("DPR_LANCE_KEY")}
    )
    written = store.to_dict()
    assert written["type"] == "dpr_lance.integrations.haystack.document_store.DprLanceDocumentStore"
    assert "secret" not in repr(written)
    again = DprLanceDocumentStore.from_dict(written)
    assert again.to_dict() == written
    again.write_documents([Document(content="zwei Häuser")])
    assert len(again.find("Haus", 5)) == 1
    again.close()
    pair = DprLanceDocumentStore("there", encoder=("a", "b"))
    assert DprLanceDocumentStore.from_dict(pair.to_dict()).encoder == ("a", "b")
    with pytest.raises(InvalidInputError, match="an object cannot be written down"):
        DprLanceDocumentStore("there", encoder=HashEncoder()).to_dict()
    with pytest.raises(InvalidInputError, match="exclude each other"):
        DprLanceDocumentStore("there", encoder="minilm", embedding_dim=3)
