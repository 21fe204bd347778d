"""The packaged reader: what a user gets by `rerank=True` and by `answer`, on passages written for this test."""

import numpy as np
import pytest

from dpr_lance.reader.loading import DEFAULT_READER, load_reader
from dpr_lance.reader.reranker import PassageText
from tests.contracts.reranker_contract import RerankerContract
from tests.tables import opened

PASSAGES = [
    PassageText("Kestrel", "The kestrel hovers over open fields and hunts voles. It weighs about 200 grams."),
    PassageText("Barn owl", "The barn owl hunts at night. Its nest is often in a church tower or an old barn."),
    PassageText("Lighthouse of Sund", "The lighthouse was finished in 1874 and is 31 metres high."),
    PassageText("", "A glacier moves downhill under its own weight. Meltwater at its base makes it slide faster."),
    PassageText("Sourdough", "Sourdough bread rises by wild yeast, which takes between six and twelve hours."),
]
QUESTIONS = [
    "what does a kestrel hunt",
    "where does the barn owl nest",
    "when was the lighthouse of sund finished",
    "why does a glacier slide faster",
    "how long does sourdough bread take to rise",
]


class TestTheContract(RerankerContract):
    @pytest.fixture
    def reranker(self):
        return load_reader(DEFAULT_READER)


def test_the_passage_that_answers_scores_highest():
    reader = load_reader(DEFAULT_READER)
    scores = np.array([reader.score(question, PASSAGES) for question in QUESTIONS])
    assert scores.argmax(axis=1).tolist() == list(range(len(QUESTIONS)))


def test_answers_are_spans_of_the_right_passages(tmp_path):
    with opened(tmp_path) as retriever:
        retriever.add([{"id": str(at), "title": each.title, "text": each.text} for at, each in enumerate(PASSAGES)])
        lighthouse, bread = retriever.answer([QUESTIONS[2], QUESTIONS[4]])
        assert (lighthouse.best.text, lighthouse.best.document_id) == ("1874", "2")
        assert "six and twelve hours" in bread.best.text
        hits = retriever.search("where does the barn owl nest", 2, rerank=True)
        assert hits[0].title == "Barn owl"
        assert hits.reranked == len(PASSAGES)
