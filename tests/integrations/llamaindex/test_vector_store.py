"""The vector store in a real index, and its whole interface."""

import asyncio
import datetime

import pytest
from llama_index.core import Document, StorageContext, VectorStoreIndex
from llama_index.core.schema import ImageNode, IndexNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode

import dpr_lance
from dpr_lance import EncoderMismatchError, HashEncoder, InvalidInputError
from dpr_lance.integrations.llamaindex import DprLanceEmbedding, DprLanceVectorStore
from tests.integrations.llamaindex.axes import Axes


def node(name, text, source, **metadata):
    related = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=source)}
    return TextNode(id_=name, text=text, metadata=metadata, relationships=related)


NODES = [
    node("rhine", "A river in the Alps.", "waters", title="Rhine", year=2001, tags=["water", "long"], new=True),
    node("alps", "A mountain range.", "rocks", title="Alps", year=2005, empty=None, place={"land": "CH"}),
    node("nile", "A river in Africa.", "waters", seen=datetime.date(2020, 1, 1), kind="it's -- a \\'", tags=[]),
]


def embedded(nodes):
    model = Axes()
    return [
        each.model_copy(update={"embedding": model.get_text_embedding(each.get_content("embed"))}) for each in nodes
    ]


@pytest.fixture
def store(tmp_path):
    store = DprLanceVectorStore(tmp_path / "t.lance", embed_model=Axes())
    assert store.add(embedded(NODES)) == ["rhine", "alps", "nile"]
    return store


@pytest.fixture
def index(store):
    return VectorStoreIndex.from_vector_store(store, embed_model=Axes())


def ids(nodes):
    return sorted(each.node_id for each in nodes)


def one(key, operator, value=None):
    return MetadataFilters(filters=[MetadataFilter(key=key, operator=operator, value=value)])


def test_nodes_come_back_as_they_were_given(store):
    found = {each.node_id: each for each in store.get_nodes()}
    for given in NODES:
        back = found[given.node_id]
        assert type(back) is TextNode
        assert back == given
        assert back.relationships == given.relationships


@pytest.mark.parametrize(
    "given",
    [
        IndexNode(id_="x", text="a river", index_id="other", metadata={"a": 1}),
        ImageNode(id_="x", text="a river", image_url="https://example.org/x.png"),
        Document(id_="x", text="a river", metadata={"a": 1}, excluded_embed_metadata_keys=["a"]),
        TextNode(id_="x", text="a river", start_char_idx=3, end_char_idx=9, text_template="{content}"),
    ],
    ids=lambda given: type(given).__name__,
)
def test_nodes_of_other_kinds_come_back(store, given):
    store.add(embedded([given]))
    back = store.get_nodes(["x"])[0]
    kind = TextNode if isinstance(given, Document) else type(given)  # as in LlamaIndex's other stores
    assert type(back) is kind
    assert back.get_content("embed") == given.get_content("embed")
    assert back.metadata == given.metadata
    for field in ("index_id", "image_url", "start_char_idx", "end_char_idx"):
        assert getattr(back, field, None) == getattr(given, field, None)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (one("year", "==", 2001), ["rhine"]),
        (one("year", "!=", 2001), ["alps", "nile"]),
        (one("year", ">", 2001), ["alps"]),
        (one("year", ">=", 2001), ["alps", "rhine"]),
        (one("year", "<", 2005), ["rhine"]),
        (one("year", "<=", 2005), ["alps", "rhine"]),
        (one("year", "in", [2001, 1]), ["rhine"]),
        (one("year", "nin", [2001, 1]), ["alps", "nile"]),
        (one("tags", "any", ["long", "x"]), ["rhine"]),
        (one("tags", "all", ["long", "water"]), ["rhine"]),
        (one("tags", "all", ["long", "x"]), []),
        (one("tags", "all", []), ["nile", "rhine"]),
        (one("tags", "contains", "long"), ["rhine"]),
        (one("kind", "contains", "--"), ["nile"]),
        (one("kind", "text_match", "it's -- a \\'"), ["nile"]),
        (one("title", "text_match_insensitive", "RHIN"), ["rhine"]),
        (one("tags", "is_empty"), ["alps", "nile"]),
        (one("title", "is_empty"), ["nile"]),
        (one("never", "is_empty"), ["alps", "nile", "rhine"]),
        (one("new", "==", 1), ["rhine"]),
        (one("seen", ">", "2019-12-31"), ["nile"]),
        (one("place.land", "==", "CH"), ["alps"]),
        (one("doc_id", "==", "rocks"), ["alps"]),
        (one("ref_doc_id", "==", "rocks"), ["alps"]),
        (MetadataFilters(filters=[one("year", ">", 1), one("title", "==", "Alps")], condition="and"), ["alps"]),
        (MetadataFilters(filters=[one("year", "==", 1), one("title", "==", "Alps")], condition="or"), ["alps"]),
        (MetadataFilters(filters=[one("year", "==", 2001), one("title", "==", "Alps")], condition="not"), ["nile"]),
        (MetadataFilters(filters=[], condition="or"), ["alps", "nile", "rhine"]),
    ],
)
def test_filters(store, given, expected):
    assert ids(store.get_nodes(filters=given)) == expected
    query = VectorStoreQuery(query_embedding=[1.0, 1.0], similarity_top_k=9, filters=given)
    assert ids(store.query(query).nodes) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (one("year", ">", "2000"), "'year': the table holds int64"),
        (one("year", "in", 2000), "'in' takes a list"),
        (one("year", "text_match", "2"), "not text"),
        (one("year", "contains", "2"), "not text"),
        (one("tags", "==", "long"), "lists there"),
        (one("tags", "any", [1]), "cannot be compared"),
    ],
)
def test_an_unusable_filter_is_refused(store, given, message):
    with pytest.raises(InvalidInputError, match=message):
        store.get_nodes(filters=given)


def test_an_index_searches_by_vectors(index):
    found = index.as_retriever(similarity_top_k=3).retrieve("which river?")
    assert ids(each.node for each in found[:2]) == ["nile", "rhine"]
    assert [round(each.score, 2) for each in found] == [1.0, 1.0, 0.05]
    assert asyncio.run(index.as_retriever(similarity_top_k=3).aretrieve("which river?")) == found


@pytest.mark.parametrize(
    ("mode", "question", "first"),
    [("hybrid", "river Africa", "nile"), ("text_search", "Rhine", "rhine"), ("sparse", "mountain", "alps")],
)
def test_modes_with_words(index, mode, question, first):
    found = index.as_retriever(vector_store_query_mode=mode, similarity_top_k=1).retrieve(question)
    assert found[0].node.node_id == first
    assert (
        asyncio.run(index.as_retriever(vector_store_query_mode=mode, similarity_top_k=1).aretrieve(question)) == found
    )


def test_hybrid_has_the_scores_of_the_table(store):
    query = VectorStoreQuery(
        query_embedding=[1.0, 0.0],
        query_str="river",
        similarity_top_k=1,
        hybrid_top_k=3,
        mode=VectorStoreQueryMode.HYBRID,
    )
    found = store.query(query)
    info = store.client.info()
    words = {hit.document_id: hit.score for hit in store.client.search("river", mode="bm25")}
    dense = store.query(VectorStoreQuery(query_embedding=[1.0, 0.0], similarity_top_k=3))
    wanted = {
        name: words.get(name, 0) + info.encoder.hybrid_weight * cosine
        for name, cosine in zip(dense.ids, dense.similarities, strict=True)
    }
    assert dict(zip(found.ids, found.similarities, strict=True)) == pytest.approx(wanted)
    for alpha, mode in ((0, "text_search"), (1, "default")):
        query.alpha, query.hybrid_top_k, query.similarity_top_k = alpha, None, 3
        alone = VectorStoreQuery(
            query_embedding=[1.0, 0.0], query_str="river", similarity_top_k=3, mode=VectorStoreQueryMode(mode)
        )
        assert store.query(query).similarities == store.query(alone).similarities


def test_diverse_results(index):
    chosen = index.as_retriever(
        vector_store_query_mode="mmr", similarity_top_k=2, vector_store_kwargs={"mmr_threshold": 0.1}
    )
    assert ids(each.node for each in chosen.retrieve("a river")) == ["alps", "nile"]


def test_ids_narrow_a_search(store):
    query = VectorStoreQuery(
        query_embedding=[1.0, 0.0], similarity_top_k=9, doc_ids=["waters"], node_ids=["rhine", "alps"]
    )
    assert store.query(query).ids == ["rhine"]


def test_deletions(store):
    store.delete_nodes(["unknown"])
    store.delete_nodes(["rhine"], filters=one("year", ">", 2001))
    assert ids(store.get_nodes()) == ["alps", "nile", "rhine"]
    store.delete_nodes(filters=one("year", ">", 2001))
    assert ids(store.get_nodes()) == ["nile", "rhine"]
    store.delete("waters")
    assert store.get_nodes() == []


def test_asynchronous_twins(tmp_path):
    async def work():
        store = DprLanceVectorStore(tmp_path / "t.lance")
        assert await store.aget_nodes() == []
        await store.async_add(embedded(NODES))
        await store.adelete_nodes(["alps"])
        assert ids(await store.aget_nodes()) == ["nile", "rhine"]
        await store.adelete("waters")
        assert await store.aget_nodes() == []
        await store.async_add(embedded(NODES))
        await store.aclear()
        assert await store.aget_nodes(["rhine"]) == []

    asyncio.run(work())


def test_a_node_is_replaced_and_keeps_one_row(store):
    changed = node("rhine", "A river in Germany.", "waters", year=2020)
    store.add(embedded([changed]))
    assert ids(store.get_nodes()) == ["alps", "nile", "rhine"]
    assert store.get_nodes(["rhine"]) == [changed]


def test_metadata_that_dpr_lance_changes_is_the_nodes(store):
    store.client.update("rhine", {"reviewed": True})
    assert store.get_nodes(["rhine"])[0].metadata["reviewed"] is True


def test_an_index_over_documents_inserts_and_deletes(tmp_path):
    store = DprLanceVectorStore(tmp_path / "t.lance", embed_model=Axes())
    context = StorageContext.from_defaults(vector_store=store)
    documents = [Document(text=f"A river, number {number}.", id_=f"d{number}") for number in range(3)]
    index = VectorStoreIndex.from_documents(documents, storage_context=context, embed_model=Axes())
    index.insert(Document(text="A mountain.", id_="d3"))
    index.delete_ref_doc("d1")
    again = VectorStoreIndex.from_vector_store(
        DprLanceVectorStore(tmp_path / "t.lance", embed_model=Axes()), embed_model=Axes()
    )
    found = again.as_retriever(similarity_top_k=9).retrieve("a mountain")
    assert found[0].node.ref_doc_id == "d3"
    assert sorted(each.node.ref_doc_id for each in found) == ["d0", "d2", "d3"]


def test_our_encoder_makes_a_table_like_any_other(tmp_path):
    encoder = DprLanceEmbedding(HashEncoder(32))
    store = DprLanceVectorStore(dpr_lance.connect(tmp_path / "t.lance", encoder=HashEncoder(32)), embed_model=encoder)
    index = VectorStoreIndex.from_vector_store(store, embed_model=encoder)
    index.insert_nodes([node("rhine", "A river in the Alps.", "waters")])
    with dpr_lance.connect(tmp_path / "t.lance", encoder=HashEncoder(32)) as retriever:
        retriever.add([{"id": "alps", "text": "A mountain range."}])
        assert [hit.document_id for hit in retriever.search("which river?", mode="dense")] == ["rhine", "alps"]
    found = index.as_retriever(similarity_top_k=2).retrieve("a mountain range")
    assert [(each.node.node_id, each.node.ref_doc_id) for each in found] == [("alps#0", "alps"), ("rhine", "waters")]
    store.delete("alps")
    assert ids(store.get_nodes()) == ["rhine"]


def test_the_packaged_encoder_is_kept_by_name(tmp_path):
    store = DprLanceVectorStore(tmp_path / "t.lance", embed_model=DprLanceEmbedding())
    index = VectorStoreIndex.from_vector_store(store, embed_model=DprLanceEmbedding())
    index.insert_nodes([node("nile", "The Nile flows through Egypt.", "waters"), node("alps", "A range.", "rocks")])
    with dpr_lance.connect(tmp_path / "t.lance") as retriever:
        assert retriever.search("an African stream", mode="dense")[0].document_id == "nile"


def test_vectors_of_another_model_are_refused(store, tmp_path):
    for other in (None, Axes(model_name="newer"), DprLanceEmbedding(HashEncoder(2))):
        with pytest.raises(EncoderMismatchError, match="vectors of encoder 'Axes'"):
            DprLanceVectorStore(tmp_path / "t.lance", embed_model=other)
    with pytest.raises(EncoderMismatchError, match="give both the same"):
        DprLanceVectorStore(
            dpr_lance.connect(tmp_path / "u", encoder=HashEncoder(8)), embed_model=DprLanceEmbedding(HashEncoder(2))
        ).add(embedded(NODES))


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda store: store.add(NODES), ValueError, "embedding not set"),
        (lambda store: store.add(["text"]), InvalidInputError, r"nodes\[0\]: give a node"),
        (lambda store: store.add(embedded([TextNode(text=" ")])), InvalidInputError, "'text' is blank"),
        (lambda store: store.add([TextNode(text="a", embedding=[1.0])]), InvalidInputError, "shape"),
        (lambda store: store.add(embedded([TextNode(text="a", metadata={"year": "x"})])), InvalidInputError, "'year'"),
        (lambda store: store.delete_nodes(), InvalidInputError, "clear"),
        (lambda store: store.query(VectorStoreQuery(query_str="a")), InvalidInputError, "query_embedding"),
        (
            lambda store: store.query(VectorStoreQuery(query_embedding=[1, 0], mode=VectorStoreQueryMode.HYBRID)),
            InvalidInputError,
            "query_str",
        ),
        (
            lambda store: store.query(VectorStoreQuery(query_embedding=[1, 0], mode=VectorStoreQueryMode.SVM)),
            InvalidInputError,
            "not known here",
        ),
        (
            lambda store: store.query(
                VectorStoreQuery(query_embedding=[1, 0], query_str="a", mode=VectorStoreQueryMode.HYBRID, alpha=0.3)
            ),
            InvalidInputError,
            "alpha=0.3",
        ),
        (lambda store: store.query(VectorStoreQuery(query_embedding=[1.0])), InvalidInputError, "shape"),
        (
            lambda store: store.query(VectorStoreQuery(query_embedding=[1, 0], similarity_top_k=0)),
            InvalidInputError,
            "k=0",
        ),
        (
            lambda store: store.query(
                VectorStoreQuery(query_embedding=[1, 0], mode=VectorStoreQueryMode.MMR, mmr_threshold=2)
            ),
            InvalidInputError,
            "mmr_threshold=2",
        ),
        (lambda store: DprLanceVectorStore(store.client, embed_model="openai"), InvalidInputError, "embed_model"),
    ],
)
def test_bad_input_has_an_error_of_ours(store, call, kind, message):
    with pytest.raises(kind, match=message):
        call(store)
