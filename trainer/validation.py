"""How good the encoder is on dev questions: the paper's loss and average rank, exact top-k, top-k through a table."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dpr_lance.encoders.card import EncoderCard, Side
from dpr_lance.encoders.encoder import Encoder
from dpr_lance.evaluation.metrics import Interval, bootstrap, first_rank, hits_within

from .batches import Corpus, Planner
from .config import Recipe
from .dual_encoder import DualEncoder
from .loss import Columns, batch_loss, similarity, temperature_of
from .resumable import Autocast
from .tokens import TokenisedTexts, tokenise

KS = (1, 5, 20, 100)
MODES = ("bm25", "dense", "hybrid")


def evaluate(
    model: DualEncoder,
    corpus: Corpus,
    texts: Mapping[Side, TokenisedTexts],
    recipe: Recipe,
    autocast: Autocast = nullcontext,
) -> dict[str, float]:
    """Return metrics of the dev questions of `corpus` over all its passages, ranked exactly.

    `nll` is the loss of batches as in training; `average-rank` is the mean number of passages above the gold one (the
    paper's code chooses checkpoints by it); `mrr` and `top-k` count the first positive.
    """
    questions = model.encode("question", texts["question"], autocast)
    passages = model.encode("passage", texts["passage"], autocast)
    with torch.no_grad():
        scores = similarity(torch.from_numpy(questions), torch.from_numpy(passages), recipe.similarity).numpy()
    ranks, above = _ranks(scores, corpus)
    temperature = temperature_of(recipe, normalise=model.passage.normalise)
    found = {"nll": _nll(questions, passages, corpus, recipe, temperature), "average-rank": float(above.mean())}
    found["mrr"] = float((1 / ranks).mean())
    return found | {f"top-{k}": float(hits_within(ranks, k).mean()) for k in KS}


def _ranks(scores: NDArray[np.float32], corpus: Corpus) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rank of each question's first positive, and how many passages are above its gold one."""
    ranks, above = [], []
    for row, gold in zip(scores, corpus.gold, strict=True):
        positives = np.array(gold)
        others = np.delete(row, positives)
        ranks.append(1 + int(np.count_nonzero(others > row[positives].max())))
        above.append(int(np.count_nonzero(others > row[gold[0]])))
    return np.array(ranks), np.array(above)


def _nll(
    questions: NDArray[np.float32], passages: NDArray[np.float32], corpus: Corpus, recipe: Recipe, temperature: float
) -> float:
    recipe = replace(recipe, batch_size=min(recipe.batch_size, len(corpus.questions)))
    planner = Planner(corpus, recipe)
    losses = []
    for step in range(planner.steps):
        batch = planner.batch(step)
        columns = Columns(*(torch.from_numpy(part) for part in (batch.targets, batch.own, batch.excluded)))
        rows = torch.from_numpy(questions[batch.questions]), torch.from_numpy(passages[batch.passages])
        losses.append(float(batch_loss(*rows, columns, recipe, temperature=temperature)[0]))
    return float(np.mean(losses))


@dataclass(frozen=True)
class TorchEncoder:
    """A `DualEncoder` as an `Encoder` for a table, without a bundle."""

    model: DualEncoder
    card: EncoderCard
    autocast: Autocast = nullcontext

    def encode_questions(self, questions: Sequence[str]) -> NDArray[np.float32]:
        """Return float32[n, d], one row per question."""
        return self._encoded("question", questions)

    def encode_passages(self, passages: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """Return float32[n, d], one row per (title, text) pair."""
        return self._encoded("passage", passages)

    def _encoded(self, side: Side, texts: Sequence[str] | Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        model = self.model
        return model.encode(side, tokenise(model.checkpoint, model.tokenizer, side, texts), self.autocast)


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Top-k accuracy of dev questions through a table, with its interval."""

    name: str
    mode: str
    top: Mapping[int, Interval]


def through_table(name: str, encoder: Encoder, corpus: Corpus, modes: Sequence[str] = MODES) -> list[Accuracy]:
    """Add the passages of `corpus` to a new table and ask it all questions in each mode."""
    from dpr_lance.connection import connect  # noqa: PLC0415 - training itself needs no LanceDB

    rows = []
    with (
        tempfile.TemporaryDirectory() as folder,
        connect(Path(folder) / "dev.lance", encoder=encoder, learn=False) as retriever,
    ):
        retriever.add(
            ({"id": str(at), "title": title, "text": text} for at, (title, text) in enumerate(corpus.passages)),
            splitter=None,
        )
        wanted = [frozenset(map(str, gold)) for gold in corpus.gold]
        for mode in modes:
            found = retriever.search(corpus.questions, max(KS), mode=mode)  # type: ignore[call-overload]
            ranks = [
                first_rank(hit.document_id in gold for hit in hits) for hits, gold in zip(found, wanted, strict=True)
            ]
            rows.append(Accuracy(name, mode, {k: bootstrap(hits_within(ranks, k)) for k in KS}))
    return rows
