"""A table that dpr_lance has made, as LangChain's retriever."""

import asyncio

import pytest
from langchain_core.documents import Document
from pydantic import ValidationError

from dpr_lance import InvalidInputError
from dpr_lance.integrations.langchain import DprLanceRetriever


@pytest.fixture
def table(retriever, documents):
    retriever.add(documents)
    return retriever


def test_passages_with_their_titles_and_metadata(table):
    assert DprLanceRetriever(retriever=table, k=1).invoke("a river that rises in the Alps") == [
        Document(
            "The Rhine is a river that rises in the Alps.",
            id="rhine#0",
            metadata={"title": "Rhine", "year": 2010, "kind": "river"},
        )
    ]


def test_arguments_of_the_search(table):
    chosen = DprLanceRetriever(retriever=table, k=9, filter={"kind": "range"}, mode="bm25", min_score=0.01)
    assert [found.id for found in chosen.invoke("mountain")] == ["alps#0"]
    assert chosen.invoke("river") == []
    assert [found.id for found in chosen.invoke("river", filter={"kind": "river"})] == ["rhine#0"]
    assert [found.id for found in asyncio.run(chosen.ainvoke("alps", filter="year > 0", k=1))] == ["alps#0"]
    grouped = DprLanceRetriever(retriever=table, k=2, group_by="kind", diversity=0.2)
    assert len(grouped.invoke("mountain")) == 2


def test_a_table_by_its_address(folder):
    assert DprLanceRetriever(retriever=folder).invoke("anything") == []


def test_bad_input(table):
    with pytest.raises(ValidationError, match="retriever"):
        DprLanceRetriever(retriever=3)
    with pytest.raises(InvalidInputError, match="k=0"):
        DprLanceRetriever(retriever=table, k=0).invoke("river")
    with pytest.raises(InvalidInputError, match="mode"):
        DprLanceRetriever(retriever=table).invoke("river", mode="fast")
