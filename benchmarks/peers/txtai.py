"""txtai: an embeddings database with hybrid search and stored content."""

from pathlib import Path

from txtai import Embeddings

from benchmarks.peers.protocol import K, Search, Texts, main


def ingest(folder: Path, texts: Texts, model: str) -> None:
    """Index all texts and save the index."""
    embeddings = Embeddings(path=model, hybrid=True, content=True)
    embeddings.index((identity, text, None) for identity, text in texts.items())
    embeddings.save(str(folder / "index"))


def opened(folder: Path, model: str) -> Search:  # noqa: ARG001 - the index remembers it
    """Search in the index's way, which is hybrid."""
    embeddings = Embeddings()
    embeddings.load(str(folder / "index"))
    return lambda question: [(found["id"], found["text"]) for found in embeddings.search(question, K)]


if __name__ == "__main__":
    main(ingest, opened)
