"""bm25s: BM25 alone, with an English stemmer; the index and its texts in files that are mapped into memory."""

from pathlib import Path

import bm25s
import Stemmer

from benchmarks.peers.protocol import K, Search, Texts, main


def ingest(folder: Path, texts: Texts, model: str) -> None:  # noqa: ARG001 - there is no model
    """Tokenise, index and save."""
    corpus = [{"id": identity, "text": text} for identity, text in texts.items()]
    tokens = bm25s.tokenize(
        list(texts.values()), stopwords="en", stemmer=Stemmer.Stemmer("english"), show_progress=False
    )
    index = bm25s.BM25()
    index.index(tokens, show_progress=False)
    index.save(folder / "index", corpus=corpus, show_progress=False)


def opened(folder: Path, model: str) -> Search:  # noqa: ARG001
    """Retrieve from the mapped index."""
    index = bm25s.BM25.load(folder / "index", load_corpus=True, mmap=True)
    stemmer = Stemmer.Stemmer("english")

    def search(question: str) -> list[tuple[str, str]]:
        tokens = bm25s.tokenize(question, stopwords="en", stemmer=stemmer, show_progress=False)
        rows, scores = index.retrieve(tokens, k=K, show_progress=False)
        return [(row["id"], row["text"]) for row, score in zip(rows[0], scores[0], strict=True) if score > 0]

    return search


if __name__ == "__main__":
    main(ingest, opened)
