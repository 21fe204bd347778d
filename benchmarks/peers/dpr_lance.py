"""dpr_lance: hybrid search, the encoder in the package."""

from pathlib import Path

from benchmarks.peers.protocol import K, Search, Texts, main
from dpr_lance.connection import connect
from dpr_lance.table.memory import bound_memory


def ingest(folder: Path, texts: Texts, model: str) -> None:  # noqa: ARG001 - the weights are in the package
    """Add every passage whole."""
    connect(folder).add(({"id": identity, "text": text} for identity, text in texts.items()), splitter=None)


def opened(folder: Path, model: str) -> Search:  # noqa: ARG001
    """Search in the default mode."""
    retriever = connect(folder)
    return lambda question: [(hit.document_id, hit.text) for hit in retriever.search(question, K)]


if __name__ == "__main__":
    bound_memory()  # as the command line does
    main(ingest, opened)
