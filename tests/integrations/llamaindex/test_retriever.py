"""A table that dpr_lance has made, as LlamaIndex's retriever."""

import asyncio

import pytest
from lancedb.expr import col
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters

from dpr_lance import InvalidInputError
from dpr_lance.integrations.llamaindex import DprLanceRetriever


@pytest.fixture
def table(retriever, documents):
    retriever.add(documents)
    return retriever


def test_passages_as_nodes_with_scores(table):
    found = DprLanceRetriever(table, similarity_top_k=1).retrieve("a river that rises in the Alps")
    assert len(found) == 1
    assert found[0].score == table.search("a river that rises in the Alps")[0].score
    node = found[0].node
    assert (node.node_id, node.ref_doc_id) == ("rhine#0", "rhine")
    assert node.metadata == {"title": "Rhine", "year": 2010, "kind": "river"}
    assert node.get_content() == "The Rhine is a river that rises in the Alps."
    assert (node.start_char_idx, node.end_char_idx) == (0, 44)


def test_arguments_of_the_search(table):
    filters = MetadataFilters(filters=[MetadataFilter(key="kind", value="range")])
    for chosen in (filters, "kind = 'range'", col("kind") == "range"):
        retriever = DprLanceRetriever(table, filters=chosen, mode="bm25", min_score=0.01)
        assert [found.node.node_id for found in retriever.retrieve("mountain")] == ["alps#0"]
        assert asyncio.run(retriever.aretrieve("mountain")) == retriever.retrieve("mountain")
        assert retriever.retrieve("river") == []
    assert len(DprLanceRetriever(table, similarity_top_k=2, group_by="kind", diversity=0.2).retrieve("mountain")) == 2


def test_a_table_by_its_address(folder):
    assert DprLanceRetriever(folder).retrieve("anything") == []


def test_bad_input(table):
    with pytest.raises(InvalidInputError, match="k=0"):
        DprLanceRetriever(table, similarity_top_k=0).retrieve("river")
    with pytest.raises(InvalidInputError, match="mode"):
        DprLanceRetriever(table, mode="fast").retrieve("river")
    with pytest.raises(InvalidInputError, match="filter"):
        DprLanceRetriever(table, filters={"kind": "range"}).retrieve("river")
