"""Chroma: a collection with its default embedding function, all-MiniLM-L6-v2 in onnxruntime; dense search."""

from pathlib import Path
from typing import Any

import chromadb

from benchmarks.peers.protocol import K, Search, Texts, main


def _collection(folder: Path) -> tuple[Any, Any]:
    client = chromadb.PersistentClient(path=str(folder))
    return client, client.get_or_create_collection("passages")


def ingest(folder: Path, texts: Texts, model: str) -> None:  # noqa: ARG001 - Chroma finds the weights in its cache
    """Add in batches as large as Chroma allows."""
    client, collection = _collection(folder)
    ids = list(texts)
    size = client.get_max_batch_size()
    for start in range(0, len(ids), size):
        part = ids[start : start + size]
        collection.add(ids=part, documents=[texts[identity] for identity in part])


def opened(folder: Path, model: str) -> Search:  # noqa: ARG001
    """Query by text."""
    _, collection = _collection(folder)

    def search(question: str) -> list[tuple[str, str]]:
        found = collection.query(query_texts=[question], n_results=K)
        return list(zip(found["ids"][0], found["documents"][0], strict=True))

    return search


if __name__ == "__main__":
    main(ingest, opened)
