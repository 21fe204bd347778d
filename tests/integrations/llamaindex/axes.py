"""An embedding model of two dimensions: rivers, and mountains."""

from llama_index.core.base.embeddings.base import BaseEmbedding


class Axes(BaseEmbedding):
    def _get_text_embedding(self, text):
        return [3.0 * ("river" in text.lower()) + 0.1, 2.0 * ("mountain" in text.lower())]

    def _get_query_embedding(self, query):
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query):
        return self._get_text_embedding(query)
