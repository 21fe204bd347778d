"""LangChain's own suites: https://pypi.org/project/langchain-tests/."""

import pytest
from langchain_tests.integration_tests import RetrieversIntegrationTests, VectorStoreIntegrationTests

import dpr_lance
from dpr_lance import HashEncoder
from dpr_lance.integrations.langchain import DprLanceRetriever, DprLanceVectorStore


class TestStoreOfGivenEmbeddings(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, tmp_path):
        return DprLanceVectorStore(tmp_path / "t.lance", self.get_embeddings())


class TestStoreOfOwnEncoder(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, tmp_path):
        return DprLanceVectorStore(dpr_lance.connect(tmp_path / "t.lance", encoder=HashEncoder(32)))


class TestRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _table(self, tmp_path):
        with dpr_lance.connect(tmp_path / "t.lance", encoder=HashEncoder(32)) as retriever:
            retriever.add([{"id": name, "text": f"a river in {name}"} for name in ("Peru", "Chad", "Laos", "Mali")])
            self.table = retriever
            yield

    @property
    def retriever_constructor(self):
        return DprLanceRetriever

    @property
    def retriever_constructor_params(self):
        return {"retriever": self.table}

    @property
    def retriever_query_example(self):
        return "which river is in Peru?"
