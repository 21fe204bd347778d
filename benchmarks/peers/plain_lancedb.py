"""sentence-transformers and plain LanceDB: a table with a full-text index, hybrid search with its default fusion."""

from pathlib import Path

import lancedb
from lancedb.index import FTS
from lancedb.query import MatchQuery
from sentence_transformers import SentenceTransformer

from benchmarks.peers.protocol import K, Search, Texts, main


def ingest(folder: Path, texts: Texts, model: str) -> None:
    """Embed all texts, make a table of them and its full-text index."""
    vectors = SentenceTransformer(model, device="cpu").encode(list(texts.values()), show_progress_bar=False)
    rows = [
        {"id": identity, "text": text, "vector": vector}
        for (identity, text), vector in zip(texts.items(), vectors, strict=True)
    ]
    lancedb.connect(folder).create_table("passages", data=rows).create_index("text", config=FTS())


def opened(folder: Path, model: str) -> Search:
    """Hybrid search; the question goes in as a match query, because quotation marks would make it a phrase."""
    encoder = SentenceTransformer(model, device="cpu")
    table = lancedb.connect(folder).open_table("passages")

    def search(question: str) -> list[tuple[str, str]]:
        hybrid = table.search(query_type="hybrid").vector(encoder.encode(question)).text(MatchQuery(question, "text"))
        return [(row["id"], row["text"]) for row in hybrid.limit(K).to_list()]

    return search


if __name__ == "__main__":
    main(ingest, opened)
